"""python -m micro_transformer.store: the command is in commands/store.py."""

from micro_transformer.console import command

if __name__ == "__main__":
    command("micro_transformer.commands.store:main")
