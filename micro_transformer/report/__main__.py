"""python -m micro_transformer.report: the command is in commands/report.py."""

from micro_transformer.console import command

if __name__ == "__main__":
    command("micro_transformer.commands.report:main")
