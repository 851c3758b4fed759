"""python -m micro_transformer.verify FOLDER: reruns sampled runs and compares their records.

On the same kind of machine (torch version, CPU or GPU, threads, dtype) and with the same code,
metrics and sizes must be bit-identical; otherwise within 1 %, since rounding depends on the
machine. Costs are compared with a wide tolerance and differences only reported, since load on the
machine changes them.
"""

import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from micro_transformer import disk
from micro_transformer.console import Argument, Flag, Parser
from micro_transformer.records.record_files import RECORD, load_records, read
from micro_transformer.records.run_record import NAN, OK, NotARecord, RunRecord, lasting
from micro_transformer.stop import COMMAND
from micro_transformer.wording import _, plural, printable

ELSEWHERE = 0.01  # relative tolerance of metrics on another machine or version
COST = 0.5  # relative tolerance of costs; larger differences are reported
SAME_MACHINE = ("torch", "cpu", "gpu", "device", "threads", "dtype")
RUN_PY = Path(__file__).resolve().parents[2] / "run.py"
DONE = (OK, NAN)  # statuses that can be rerun; an invalid combination never ran
Rerun = Callable[[RunRecord], RunRecord]


@dataclass(frozen=True)
class Difference:
    """A field of two records that differs by more than the tolerance; is_cost: not a failure."""

    key: str
    before: object
    after: object
    is_cost: bool = False

    def __str__(self) -> str:
        return _(
            "{key}: {before} recorded, {after} now",
            key=self.key,
            before=self.before,
            after=self.after,
        )


def tolerance(before: RunRecord, after: RunRecord) -> float:
    """Relative tolerance of metrics: 0 if machine, versions and code are the same."""
    same = all(before.env.get(key) == after.env.get(key) for key in SAME_MACHINE)
    same = same and before.fingerprints.get("code") == after.fingerprints.get("code")
    return 0.0 if same else ELSEWHERE


def compare(before: RunRecord, after: RunRecord) -> list[Difference]:
    """The differences between two records of one run that exceed the tolerance."""
    allowed = tolerance(before, after)
    found = []
    for name in ("status", "seed"):
        if getattr(before, name) != getattr(after, name):
            found.append(Difference(name, getattr(before, name), getattr(after, name)))
    one, two = lasting(before), lasting(after)
    for key in sorted(k for k in one.keys() | two.keys() if k.startswith(("metrics.", "size."))):
        if not _close(one.get(key), two.get(key), allowed):
            found.append(Difference(key, one.get(key), two.get(key)))
    if before.fingerprints.get("data") != after.fingerprints.get("data"):
        found.append(
            Difference("data", before.fingerprints.get("data"), after.fingerprints.get("data"))
        )
    for key in sorted(before.cost.keys() & after.cost.keys()):
        if not _close(before.cost[key], after.cost[key], COST):
            found.append(Difference(f"cost.{key}", before.cost[key], after.cost[key], is_cost=True))
    return found


def rerun(record: RunRecord, command: tuple[str, ...] = (sys.executable, str(RUN_PY))) -> RunRecord:
    """A new record from the recorded overrides, trained from scratch in a temporary store. Raises
    RuntimeError if the run leaves no readable record."""
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        places = (
            "run.sweep=verify",
            f"hydra.run.dir={folder}/run",
            f"hydra.sweep.dir={folder}/sweep",
            f"store.dir={folder}/store",
        )
        words = [*command, *_own(record.overrides, places), *places]
        pipe = subprocess.PIPE
        child = subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True)
        with child, COMMAND.tells(lambda _number: child.terminate()):  # it stops in good order
            said, told = child.communicate()
        COMMAND.check()
        for path in sorted(Path(folder).rglob(RECORD)):
            try:
                return read(path)
            except NotARecord as error:
                raise RuntimeError(
                    _("the run left an unreadable record: {error}", error=error)
                ) from error
    last = (told.strip() or said.strip() or _("no output")).splitlines()[-1]
    raise RuntimeError(
        _("the run left no record, exit code {code}: {last}", code=child.returncode, last=last)
    )


def _own(overrides: list[str], places: tuple[str, ...]) -> list[str]:
    """The overrides without those in `places`. Records are untrusted: raises RuntimeError for flags
    and for overrides of `hydra`, which control the command itself."""
    keys = {text: text.split("=", 1)[0].lstrip("+~") for text in overrides}
    taken = {text.split("=", 1)[0] for text in places}
    for text, key in keys.items():
        if key not in taken and key.startswith(("-", "hydra")):
            raise RuntimeError(
                _("{text}: an override of the command itself is not rerun", text=text)
            )
    return [text for text, key in keys.items() if key not in taken]


def verify(records: list[RunRecord], again: Rerun = rerun) -> tuple[int, int]:
    """(number of runs that match, number that do not); each result is printed as it ends."""
    good = bad = 0
    for record in records:
        name = printable(" ".join(record.overrides)) or record.id
        print(f"{name} ...", flush=True)
        try:
            found = compare(record, again(record))
        except RuntimeError as error:
            print("  " + _("failed: {why}", why=printable(str(error))))
            bad += 1
            continue
        wrong = [d for d in found if not d.is_cost]
        print("  " + (_("differs") if wrong else _("same")))
        for difference in found:
            note = " " + _("(a cost: not counted)") if difference.is_cost else ""
            print(f"  {printable(str(difference))}{note}")
        good, bad = good + (not wrong), bad + bool(wrong)
    return good, bad


def parser() -> Parser:
    """The command's grammar."""
    return Parser(
        "verify",
        _("Reruns sampled runs of a folder and compares them with their records."),
        [Argument("FOLDER", _("of a sweep or of a run, such as results/demo"))],
        [
            Flag("--rows", _("number of runs to sample; default: 3"), "N", int, 3),
            Flag("--seed", _("of the sample; default: 0"), "N", int, 0),
        ],
    )


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 all match, 1 some differ or failed, 2 wrong usage, 3 nothing to verify."""
    asked = parser().parse(words)
    loaded = load_records(asked.folder)
    known = [record for record in loaded.records if record.status in DONE]
    if skipped := len(loaded.skipped):
        print(
            plural(
                skipped,
                "{n} file skipped: damaged or foreign",
                "{n} files skipped: damaged or foreign",
            )
        )
    if not known:
        print(
            _("error: {folder}: no finished record to verify", folder=asked.folder), file=sys.stderr
        )
        return disk.BAD_IO
    chosen = random.Random(asked.seed).sample(known, min(max(1, asked.rows), len(known)))
    print(
        _(
            "{rows} of {runs}; quality: bit-identical on the same kind of machine with the same "
            "code, else within {elsewhere}; costs: reported if they differ by more than {cost}",
            rows=len(chosen),
            runs=plural(len(known), "{n} run", "{n} runs"),
            elsewhere=f"{ELSEWHERE:.0%}",
            cost=f"{COST:.0%}",
        )
    )
    same, different = verify(chosen)
    print(_("{same} same, {different} different or failed", same=same, different=different))
    return int(different > 0)


def _close(one: object, two: object, allowed: float) -> bool:
    if isinstance(one, int | float) and isinstance(two, int | float):
        return one == two or abs(one - two) <= allowed * max(abs(one), abs(two))
    return one == two
