"""Configurations of different FLOPs: their losses at equal tokens, equal FLOPs and equal time."""

from collections.abc import Sequence

from micro_transformer.records.cells import NOT_MEASURED, Cell, Table, figure
from micro_transformer.records.configurations import configurations, differ_in_flops
from micro_transformer.records.metrics import LOSS
from micro_transformer.records.rows import ABSENT, Board, Summary, value_of
from micro_transformer.records.training_curves import (
    COSTS,
    FLOPS,
    SECONDS,
    TOKENS,
    Configuration,
)
from micro_transformer.report import claims
from micro_transformer.report.number_format import p_text, span, with_prefix
from micro_transformer.stats.budgets import Budget, budget, contrasts, readings, steps_within
from micro_transformer.wording import N_, _, plural, translate

PESSIMISTIC = "†"
EQUAL = {TOKENS: N_("equal tokens"), FLOPS: N_("equal FLOPs"), SECONDS: N_("equal time")}


def compared(board: Board) -> list[Configuration]:
    """The configurations that are read at equal budgets; [] where none differ in FLOPs."""
    found = configurations(board)
    return found if differ_in_flops(found) else []


def equal_budgets(board: Board) -> list[Table]:
    """Sizes, costs and losses of each configuration, and the differences of every two."""
    found = compared(board)
    budgets = [budget(found, cost) for cost in COSTS]
    tables = [_losses(board, found, budgets), _differences(board, found, budgets)]
    return [table for table in tables if table.rows]


def _losses(board: Board, found: Sequence[Configuration], budgets: Sequence[Budget]) -> Table:
    heads = [_("{loss} at {budget}", loss=LOSS.title, budget=_amount(b)) for b in budgets]
    table = Table(
        _("Loss at equal tokens, FLOPs and time: {title}", title=board.title),
        [_("Config"), _("Active parameters"), _("Parameters"), _("FLOPs per token"), _("ms/step"),
         *heads, "n"],
        note=_(
            "FLOPs per token: of a forward pass, without the products of attention over the "
            "context; training costs three times as many. A budget is the smallest cost of a whole "
            "training over configurations, by seed; a loss is the lowest within it. {mark}: "
            "pessimistic, since no training ends there: the rate of a longer one had not decayed. "
            "With the steps in brackets (train.steps) one would.",
            mark=PESSIMISTIC,
        ),
    )  # fmt: skip
    for c in found:
        size = c.row.ok[0].size if c.row.ok else {}
        counts = [size.get(key) for key in ("active_params", "params", "flops_per_token")]
        speed = Summary.of(value_of(r, "train/ms_per_step") for r in c.row.ok)
        most = max((len(readings(c, b)) for b in budgets), default=0)
        table.rows.append([
            Cell(c.row.name, c.row.name),
            *(Cell(ABSENT if n is None else f"{n:,.0f}", n) for n in counts),
            figure(speed, NOT_MEASURED), *(_loss(c, b, most) for b in budgets),
            Cell(str(most), most),
        ])  # fmt: skip
    return table


def _loss(c: Configuration, budget: Budget, most: int) -> Cell:
    """Mean ± std over the paired seeds, or why there is none."""
    known = readings(c, budget)
    if not known:
        return Cell(f"{NOT_MEASURED}: {c.row.reason or _why_not(c, budget)}")
    cell = figure(Summary.of(reading.loss for reading in known.values()))
    fewer = f" (n = {len(known)})" if len(known) < most else ""
    if all(reading.is_fair for reading in known.values()):
        return Cell(cell.text + fewer, cell.value)
    return Cell(f"{cell.text}{fewer} {PESSIMISTIC}{_steps(c, budget)}", cell.value)


def _why_not(c: Configuration, budget: Budget) -> str:
    if not c.curves:
        return _("no curve of the validation loss")
    if not c.known(budget.cost):
        return c.curves[0].lacks[budget.cost]
    if not budget.by_seed:
        return _("no seed that all have")
    return _("no evaluation within the budget") + _steps(c, budget)


def _steps(c: Configuration, budget: Budget) -> str:
    n = steps_within(c, budget)
    return f" ({plural(n, '{n} step', '{n} steps')})" if n else ""


def _differences(board: Board, found: Sequence[Configuration], budgets: Sequence[Budget]) -> Table:
    table = Table(
        _("Differences at equal tokens, FLOPs and time ({unit})", unit=LOSS.unit),
        [_("At"), _("First"), _("Second"), _("First − second"), _("95 % interval"), _("Holm p"),
         _("Verdict"), _("Paired seeds")],
    )  # fmt: skip
    notes = [
        _("Each budget has its own family of tests."),
        _("{mark}: pessimistic, no training ends there.", mark=PESSIMISTIC),
    ]
    for each in budgets:
        effects = contrasts(board, found, each)
        doubtful = {
            c.row.name
            for c in found
            if not all(reading.is_fair for reading in readings(c, each).values())
        }
        notes += effects.notes
        for contrast in effects.contrasts:
            value, interval = claims.contrast_words(LOSS, contrast)
            names = (f"{n} {PESSIMISTIC}" if n in doubtful else n for n in (contrast.a, contrast.b))
            table.rows.append([
                Cell(_amount(each)), *(Cell(name, name) for name in names),
                Cell(value, contrast.estimate.value), Cell(interval),
                Cell(p_text(contrast.p), contrast.p),
                Cell(translate(contrast.verdict), contrast.verdict),
                Cell(str(contrast.seeds), contrast.seeds),
            ])  # fmt: skip
    table.note = " ".join(dict.fromkeys(notes))
    return table


def _amount(budget: Budget) -> str:
    """`287k tokens`, `1.71 TFLOP`, `20.9 to 21.4 s`: the budgets of all seeds."""
    limits = budget.by_seed.values()
    if not limits:
        return translate(EQUAL[budget.cost])
    if budget.cost == SECONDS:
        return _("{seconds} s", seconds=span(limits))
    number, prefix = with_prefix(limits)
    said = _("{number}{prefix} tokens") if budget.cost == TOKENS else _("{number} {prefix}FLOP")
    return said.format(number=number, prefix=prefix)
