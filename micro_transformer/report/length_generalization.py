"""Length generalization: each configuration at the longest context against its trained length.

Both values come from one training, so seeds are pairs; each row has its own interval, since rows
that fail vary far more over seeds than the others. The rows of a metric are one family (Holm).
"""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace

from scipy import stats

from micro_transformer.records.cells import metric_cell
from micro_transformer.records.metrics import Measure, measure, places
from micro_transformer.records.rows import Board, Row, value_of
from micro_transformer.records.run_record import leaves
from micro_transformer.report.claims import Claim
from micro_transformer.report.number_format import equals, inside, signed
from micro_transformer.stats.effects import ALPHA, BETTER, EQUAL, OPEN, UNTESTED
from micro_transformer.stats.holm import holm
from micro_transformer.wording import N_, _, translate

# What is measured farther and farther on, and how a sentence names two places of it.
FAMILIES = {
    "context/loss": N_("loss of the same targets with {far} tokens of context against {near}"),
    "recall/accuracy": N_("recall over {far} tokens against {near}"),
    "needle/accuracy": N_("needles found over {far} tokens against {near}"),
}
COSTS = ("cache/tokens_per_s",)


@dataclass(frozen=True)
class Drift:
    """Far minus near of one row: mean and half a 95 % interval over seeds (None: not tested)."""

    row: Row
    near: int
    mean: float
    half: float | None
    p: float | None  # of a difference
    p_beyond: float | None  # of one beyond the measure's margin
    seeds: int


def farthest(board: Board) -> list[Measure]:
    """Each metric by length at the longest length that any run has, costs last."""
    known = [_known(board, start) for start in (*FAMILIES, *COSTS)]
    return [measure(keys[max(keys)]) for keys in known if keys]


def drift_claims(board: Board) -> list[Claim]:
    """What each row loses or gains between its trained length and the longest one measured."""
    found: list[Claim] = []
    for start, what in FAMILIES.items():
        known = _known(board, start)
        if len(known) < 2:
            continue
        far = max(known)
        measured = measure(known[far])
        drifts = [d for row in board.rows if (d := _drift(row, known, measured.margin)) is not None]
        differ, beyond = holm([d.p for d in drifts]), holm([d.p_beyond for d in drifts])
        for drift, p, q in zip(drifts, differ, beyond, strict=True):
            named = translate(what, far=far, near=drift.near)
            found.append(_claim(replace(drift, p=p, p_beyond=q), measured, named))
        found += _absent(board, measured)
    return found


def _known(board: Board, start: str) -> dict[int, str]:
    """Place → key, of the places where a run has a value."""
    figures = (item for r in board.records for item in (*r.metrics.items(), *r.cost.items()))
    return places({key for key, value in figures if value is not None}, start)


def _drift(row: Row, known: dict[int, str], margin: float) -> Drift | None:
    far = max(known)
    trained = dict(leaves(row.ok[0].config)).get("train.context") if row.ok else None
    if not isinstance(trained, int) or trained < 1:
        return None
    near = min(known, key=lambda at: abs(math.log(at / trained)))
    if near >= far:
        return None
    ends = [(value_of(r, known[near]), value_of(r, known[far])) for r in row.ok]
    steps = [b - a for a, b in ends if a is not None and b is not None]
    if not steps:
        return None
    mean, n = statistics.fmean(steps), len(steps)
    if n < 2 or len(set(steps)) == 1:
        return Drift(row, near, mean, None, None, None, n)
    se, tail = statistics.stdev(steps) / math.sqrt(n), stats.t(n - 1)
    half, p = float(tail.ppf(0.975)) * se, 2 * float(tail.sf(abs(mean) / se))
    return Drift(row, near, mean, half, p, float(tail.sf((margin - abs(mean)) / se)), n)


def _claim(drift: Drift, measured: Measure, what: str) -> Claim:
    about, n, unit = f"{drift.row.name}: {what}", drift.seeds, measured.unit and f" {measured.unit}"
    size, more = f"{abs(drift.mean):.3f}", "higher" if drift.mean > 0 else "lower"
    if drift.p is None or drift.p_beyond is None or drift.half is None:
        change = f"{size}{unit} {more}" if drift.mean else _("the same")
        why = _("in each of {n} seeds", n=n) if n > 1 else _("one seed, not tested")
        return Claim(f"{about}: {change} ({why}).", UNTESTED)
    ends = (drift.mean - drift.half, drift.mean + drift.half)
    low, high = (signed(measured, end, drift.half) for end in ends)
    basis = _("95 %, n = {n} seeds, Holm p {p}", n=n, p=equals(drift.p))
    if drift.p_beyond < ALPHA:
        held = _(
            "{low} to {high}, 95 %, n = {n} seeds, Holm p {p_beyond} of a larger one",
            low=low,
            high=high,
            n=n,
            p_beyond=equals(drift.p_beyond),
        )
        return Claim(
            _(
                "{about}: no change larger than {margin:g}{unit} ({held}).",
                about=about,
                margin=measured.margin,
                unit=unit,
                held=held,
            ),
            EQUAL,
        )
    if drift.p < ALPHA:
        return Claim(f"{about}: {size} ± {drift.half:.3f}{unit} {more} ({basis}).", BETTER)
    return Claim(
        _(
            "{about}: undecided, {low} to {high}{unit} ({basis}).",
            about=about,
            low=low,
            high=high,
            unit=unit,
            basis=basis,
        ),
        OPEN,
    )


def _absent(board: Board, far: Measure) -> Iterator[Claim]:
    for row in board.rows:
        if row.ok and all(value is None for value in row.values(far.key)):
            why = metric_cell(row, far.key).text
            yield Claim(f"{row.name}, {inside(far.label)}: {why}.", UNTESTED)
