"""python -m micro_transformer.status FOLDER: progress of a sweep, from another terminal."""

import sys
from pathlib import Path

from micro_transformer import disk
from micro_transformer.console import Parser
from micro_transformer.runs.sweep_folder import DONE, RUNNING, WAITING, SweepStatus
from micro_transformer.wording import printable


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 no job has failed, 1 some have, 3 no sweep in the folder."""
    parser = Parser(prog="python -m micro_transformer.status", description="How a sweep stands.")
    parser.add_argument("folder", type=Path, help="such as multirun/demo")
    asked = parser.parse_args(words)
    standing = SweepStatus.of(asked.folder)
    if not standing.jobs:
        print(f"error: {asked.folder}: no sweep and no records here", file=sys.stderr)
        return disk.BAD_IO
    print(text(asked.folder, standing))
    return int(bool(standing.failed))


def text(folder: Path, standing: SweepStatus) -> str:
    """Status text: one line for the sweep, one per running or failed job, then the numbers of
    invalid combinations and waiting jobs."""
    lines = [f"{folder}: {standing.line()}"]
    for job in standing.jobs:
        if job.state == RUNNING or job in standing.failed:
            lines.append(printable(f"  {job.state:<11} {job.folder.name}  {job.note}"))
    invalid = sum(job.state == DONE and bool(job.note) for job in standing.jobs)
    lines += [f"  {invalid} of the done jobs are invalid combinations (not run)"] if invalid else []
    waiting = standing.count(WAITING)
    lines += [f"  {waiting} waiting"] if waiting else []
    return "\n".join(lines)
