"""The text of `python run.py --help`: usage, flags, and every choice of every group."""

from collections.abc import Iterator

from micro_transformer.config.choices import about, choices_of, groups
from micro_transformer.wording import _, translated


def text() -> str:
    """The help in the language of the user."""
    line = "python run.py [--multirun] [--cfg job] [group=choice ...] [key=value ...]"
    rows = [
        ("-m, --multirun", _("run every combination of the values listed as key=a,b")),
        ("--cfg job", _("print the whole configuration: every key and its value")),
        ("-h, --help", _("print this help")),
        ("check=true", _("print what would run, and stop")),
        ("run.plan=true", _("print jobs, trainings, time, disk and memory, and stop")),
    ]
    title = _("Trains a net once, or takes it from the store; measures it; prints a table.")
    lines = [_("usage: {line}", line=line), "", title, ""]
    lines += [f"  {name:<26}  {what}" for name, what in [*rows, *_choices()]]
    return "\n".join(lines)


def _choices() -> Iterator[tuple[str, str]]:
    for group in groups():
        for choice in choices_of(group):
            yield f"{group}={choice}", translated(about(group, choice))
