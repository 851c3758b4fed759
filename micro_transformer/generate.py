"""python -m micro_transformer.generate: the command is in commands/generate.py."""

from micro_transformer.console import command

if __name__ == "__main__":
    command("micro_transformer.commands.generate:main")
