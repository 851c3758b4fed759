"""python run.py [group=choice ...] [key=value ...] [-m]: train once, measure, print a table."""

if __name__ == "__main__":  # imported here: the processes of the jobs must not load Hydra
    from micro_transformer.stop import COMMAND

    COMMAND.begin()  # before the second that the imports take: no signal is lost
    from micro_transformer.console import command

    command("micro_transformer.commands.app:main")
