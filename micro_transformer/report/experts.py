"""What the experts of each configuration do: balance, cost, agreement over seeds, their tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from micro_transformer.records.cells import Cell, Table, metric_cell
from micro_transformer.records.expert_files import Layer, RoutedRow, TopToken, routed_rows
from micro_transformer.records.metrics import measure
from micro_transformer.records.rows import ABSENT, Board
from micro_transformer.stats.expert_agreement import Agreement
from micro_transformer.wording import _

SHOWN = ("cv", "gini", "dead", "share_min", "share_max", "entropy")
COUNTED, ATTENTION = "experts/flops_per_token_counted", "experts/attention_flops_per_token"
MOST_RUNS = 5  # compared with each other
MOST_TOKENS, MOST_LINES = 8, 96
VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})


@dataclass(frozen=True)
class Routed:
    """A configuration with experts; agreements: layer -> one of each pair of seeds, if there are
    two."""

    experts: RoutedRow
    agreements: Mapping[str, list[Agreement]]


def routed(board: Board) -> list[Routed]:
    """The configurations of which a run says what its experts do."""
    return [Routed(each, _agreements(each)) for each in routed_rows(board)]


def _agreements(each: RoutedRow) -> dict[str, list[Agreement]]:
    pairs = list(combinations(each.runs[:MOST_RUNS], 2))
    return {
        name: found
        for i, name in enumerate(each.names)
        if (found := [Agreement.of(*_firsts(a[i], b[i])) for a, b in pairs if _same(a[i], b[i])])
    }


def _firsts(a: Layer, b: Layer) -> tuple[list[int], list[int]]:
    return a.first_choices, b.first_choices


def _same(a: Layer, b: Layer) -> bool:
    return a.text == b.text and len(a.first_choices) == len(b.first_choices)


def experts_table(board: Board, found: Sequence[Routed]) -> Table:
    """Config | balance | FLOPs per token | agreement over seeds and its chance level | n."""
    keys = [f"experts/{name}" for name in SHOWN]
    table = Table(
        _("Experts: {title}", title=board.title),
        [_("Config"), *(measure(key).title for key in keys), _("FLOPs/token, predicted"),
         measure(COUNTED).title, measure(ATTENTION).title, _("Agreement over seeds"),
         _("By chance"), "n"],
        note=_(
            "Load: share of all choices over the validation split. Dead: load below 1 %, summed "
            "over layers. CV, Gini, entropy, agreement: mean over layers. FLOPs: forward, of "
            "products with weights; attention apart, every query with every key. Agreement: tokens "
            "with the same first choice in two seeds, experts matched one to one (Hungarian "
            "method); by chance: tokens shuffled, loads kept."
        ),
    )  # fmt: skip
    for each in found:
        row = each.experts.row
        pairs = [pair for layer in each.agreements.values() for pair in layer]
        predicted = row.ok[0].size.get("flops_per_token")
        table.rows.append([
            Cell(row.name, row.name),
            *(metric_cell(row, key) for key in keys),
            _whole(predicted), *(_whole(row.summary(key).mean) for key in (COUNTED, ATTENTION)),
            _mean([pair.share for pair in pairs]), _mean([pair.chance for pair in pairs]),
            Cell(str(len(row.ok)), len(row.ok)),
        ])  # fmt: skip
    return table


def tokens_table(board: Board, found: Sequence[Routed]) -> Table:
    """Config | layer | expert | load | its tokens, of the first seed of each configuration."""
    table = Table(
        _("Tokens of each expert: {title}", title=board.title),
        [_("Config"), _("Layer"), _("Expert"), _("Load (%)"), _("Tokens")],
        note=_(
            "First seed. Each token with its share of the expert's tokens and, after ×, that share "
            "over its share of all tokens; those that tell the expert's tokens from all best."
        ),
    )
    lines = [
        (each.experts.row.name, layer, expert)
        for each in found
        for layer in each.experts.runs[0]
        for expert in range(len(layer.shares))
    ]
    for name, layer, expert in lines[:MOST_LINES]:
        load = 100 * layer.shares[expert]
        tokens = "  ".join(map(_named, layer.top_tokens[expert][:MOST_TOKENS]))
        table.rows.append([
            Cell(name, name), Cell(layer.name, layer.name), Cell(str(expert), expert),
            Cell(f"{load:.1f}", load), Cell(tokens or ABSENT),
        ])  # fmt: skip
    if len(lines) > MOST_LINES:
        table.note += " " + _("First {n} experts of {all}.", n=MOST_LINES, all=len(lines))
    return table


def _named(token: TopToken) -> str:
    return f"{token.text.translate(VISIBLE)[:20]} {100 * token.share:.0f} % ×{token.lift:.1f}"


def _whole(value: float | None) -> Cell:
    return Cell(ABSENT) if value is None else Cell(f"{value:,.0f}", value)


def _mean(values: Sequence[float]) -> Cell:
    return Cell(f"{fmean(values):.3f}", fmean(values)) if values else Cell(ABSENT)
