"""python -m micro_transformer.status FOLDER: progress of a sweep, from another terminal."""

import sys
from pathlib import Path

from micro_transformer import disk
from micro_transformer.console import Argument, Parser
from micro_transformer.runs.sweep_state import DONE, RUNNING, WAITING, SweepStatus
from micro_transformer.wording import _, plural, printable


def parser() -> Parser:
    """The command's grammar."""
    folder = Argument("FOLDER", _("of a sweep or of a run, such as multirun/demo"))
    return Parser("status", _("Progress of a sweep."), [folder])


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 no job has failed, 1 some have, 2 wrong usage, 3 no sweep in the folder."""
    asked = parser().parse(words)
    sweep = SweepStatus.of(asked.folder)
    if not sweep.jobs:
        print(
            _("error: {folder}: no sweep and no records here", folder=asked.folder), file=sys.stderr
        )
        return disk.BAD_IO
    print(text(asked.folder, sweep))
    return int(bool(sweep.failed))


def text(folder: Path, sweep: SweepStatus) -> str:
    """Status text: one line for the sweep, one per running or failed job, then the numbers of
    invalid combinations and waiting jobs."""
    lines = [f"{folder}: {sweep.line()}"]
    for job in sweep.jobs:
        if job.state == RUNNING or job in sweep.failed:
            lines.append(printable(f"  {job.state:<11} {job.folder.name}  {job.note}"))
    if invalid := sum(job.state == DONE and bool(job.note) for job in sweep.jobs):
        said = plural(
            invalid,
            "{n} of the done jobs is an invalid combination (not run)",
            "{n} of the done jobs are invalid combinations (not run)",
        )
        lines.append(f"  {said}")
    if waiting := sweep.count(WAITING):
        lines.append("  " + plural(waiting, "{n} job waiting", "{n} jobs waiting"))
    return "\n".join(lines)
