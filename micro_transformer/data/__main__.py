"""python -m micro_transformer.data: the command is in commands/data.py."""

from micro_transformer.console import command

if __name__ == "__main__":
    command("micro_transformer.commands.data:main")
