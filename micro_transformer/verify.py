"""python -m micro_transformer.verify: the command is in commands/verify.py."""

from micro_transformer.console import command

if __name__ == "__main__":
    command("micro_transformer.commands.verify:main")
