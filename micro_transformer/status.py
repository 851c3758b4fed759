"""python -m micro_transformer.status: the command is in commands/status.py."""

from micro_transformer.console import command

if __name__ == "__main__":
    command("micro_transformer.commands.status:main")
