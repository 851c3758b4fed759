"""python -m micro_transformer.evaluate: the command is in commands/evaluate.py."""

from micro_transformer.console import command

if __name__ == "__main__":
    command("micro_transformer.commands.evaluate:main")
