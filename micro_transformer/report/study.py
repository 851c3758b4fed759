"""Everything derived from one board: effects, claims, tables, fronts, scaling law."""

from dataclasses import dataclass, field
from itertools import pairwise

from micro_transformer.records import tables
from micro_transformer.records.cells import Cell, Table, figure
from micro_transformer.records.metrics import (
    BITS,
    MS_PER_BATCH,
    PPL,
    RSS,
    TOKENS_PER_S,
    TTFT,
    VRAM,
    Measure,
)
from micro_transformer.records.rows import Board, value_of
from micro_transformer.records.shared_seeds import seeds_of
from micro_transformer.report import claims, facts
from micro_transformer.report.cache_memory import held_claims
from micro_transformer.report.claims import Claim
from micro_transformer.report.experts import Routed, experts_table, routed, tokens_table
from micro_transformer.report.item_intervals import intervals
from micro_transformer.report.length_generalization import drift_claims, farthest
from micro_transformer.report.number_format import p_text, sized
from micro_transformer.report.summary_table import brief
from micro_transformer.report.tables_by_length import tables_by_place
from micro_transformer.report.trade_off import Front, front_rule
from micro_transformer.report.trained_parameters import trained_parameters
from micro_transformer.stats.effects import BETTER, Effects, analyse
from micro_transformer.stats.pareto import pareto
from micro_transformer.stats.power_law import PowerLaw, power_law
from micro_transformer.wording import N_, _, plural, translate

COMPARED = (TOKENS_PER_S, TTFT, MS_PER_BATCH)
TRADED = (TOKENS_PER_S, TTFT, RSS, VRAM, MS_PER_BATCH)
HEADLINES = 5  # shown; the rest is folded


@dataclass
class Study:
    """A board with its analysis."""

    board: Board
    effects: list[Effects] = field(default_factory=list)
    fronts: list[Front] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    ppls: list[float] = field(default_factory=list)
    law: PowerLaw | None = None
    routed: list[Routed] = field(default_factory=list)
    headlines: list[Claim] = field(default_factory=list)
    facts: list[Claim] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        """Every table of the board, the brief's first."""
        found = [brief(self.board), trained_parameters(self.board), tables.speed(self.board)]
        found += [effects_table(effects) for effects in self.effects if effects.contrasts]
        found += [table] if (table := intervals(self.board)) else []
        found += [front_table(front) for front in self.fronts[:1]]
        found += [experts_table(self.board, self.routed), tokens_table(self.board, self.routed)]
        found += [*tables_by_place(self.board), tables.all_metrics(self.board)]
        found += [tables.without_result(self.board)]
        return [table for table in found if table.rows]


def study(board: Board) -> Study:
    """The board studied."""
    found = Study(board, routed=routed(board))
    judged = [each] if (each := tables.judged_quality(board)) else []
    wanted = dict.fromkeys([*judged, *farthest(board), *COMPARED])
    found.effects = [
        analyse(board, m)
        for m in wanted
        if any(value_of(r, m.key) is not None for r in board.records)
    ]
    if shown := tables.shown_quality(board):
        for setting in board.settings:
            for cost in TRADED:
                points = pareto(board, cost, shown, setting)
                if len(points) > 1 and not board.mixed:
                    found.fronts.append(Front(cost, shown, setting, points))
        _scale(found)
    _say(found, shown)
    return found


def effects_table(effects: Effects) -> Table:
    """Every pair of levels: difference, interval, p, verdict, n, smallest detectable difference."""
    m = effects.measure
    unit = _("ratio − 1") if m.is_ratio else m.unit or m.label
    table = Table(
        _("Effects on {label} ({unit})", label=m.label, unit=unit),
        [_("Factor"), _("First"), _("Second"), _("First − second"), _("95 % interval"),
         _("Holm p"), _("Verdict"),
         _("Paired seeds"), _("Settings"), _("Detectable")],
        note=" ".join((
            plural(effects.family, "Family of {n} test.", "Family of {n} tests."), *effects.notes
        )),
    )  # fmt: skip
    for c in effects.contrasts:
        value, interval = claims.contrast_words(m, c)
        table.rows.append([
            *(Cell(text, text) for text in (c.factor, c.a, c.b)),
            Cell(value, c.estimate.value), Cell(interval), Cell(p_text(c.p), c.p),
            Cell(translate(c.verdict), c.verdict), Cell(str(c.seeds), c.seeds),
            Cell(f"{c.met}/{c.settings}", c.met),
            Cell(sized(m, c.detectable), c.detectable),
        ])  # fmt: skip
    for x in effects.interactions:
        test = f"F({x.freedom[0]}, {x.freedom[1]}) = {x.f:.3g}"
        verdict = _("interact") if x.p < 0.05 else _("none seen")
        cells = [Cell(" × ".join(x.factors)), *(Cell("—") for _ in range(2)), Cell(test, x.f),
                 Cell("—"), Cell(p_text(x.p), x.p), Cell(verdict, verdict)]  # fmt: skip
        table.rows.append([*cells, Cell("—"), Cell("—"), Cell("—")])
    return table


def front_table(front: Front) -> Table:
    """The rows of a trade-off, best first, each with its standing."""
    table = Table(
        _("{quality} against {cost}", quality=front.quality.title, cost=front.cost.title),
        [_("Config"), front.quality.title, front.cost.title, _("Standing"), "n"],
        note=" ".join(filter(None, (f"{front.setting}.", front_rule(), front.warning))),
    )
    order = sorted(front.points, key=lambda p: (not p.nominal, p.quality.mean or 0.0))
    for p in order:
        cells = [Cell(p.row.name, p.row.name), figure(p.quality), figure(p.cost)]
        standing = Cell(translate(p.standing), p.standing)
        table.rows.append([*cells, standing, Cell(str(p.quality.n), p.quality.n)])
    return table


ONE_AFTER_THE_OTHER = N_(
    "Speeds and times were measured configuration after configuration, not in rounds: a drift in "
    "the machine's speed looks like a difference between configurations."
)


IN_ROUNDS = N_(
    "Speeds and times were measured in rounds, one per seed, each with every configuration in "
    "random order: a drift in the machine's speed widens intervals and favours no configuration."
)


def order_note(board: Board) -> str:
    """How the order of runs affects costs; start times show whether seeds were rounds."""
    in_time = [r.seed for r in sorted(board.records, key=lambda r: r.started or "")]
    changes = sum(a != b for a, b in pairwise(in_time))
    rounds = 1 < len(set(in_time)) == changes + 1
    return translate(IN_ROUNDS if rounds else ONE_AFTER_THE_OTHER)


def across(boards: list[Board]) -> Table | None:
    """Bits per byte of every row: the only measure that tokenizers share; None for one board."""
    table = Table(
        _("Bits per byte across tasks and tokenizers"), [_("Board"), _("Config"), BITS.title, "n"],
        note=_("Perplexities of different tokenizers are not comparable and not shown here."),
    )  # fmt: skip
    for board in boards:
        for row in board.rows:
            summary = row.summary(BITS.key)
            if summary.mean is not None:
                named = [Cell(board.title, board.title), Cell(row.name, row.name)]
                n = Cell(str(summary.n), summary.n)
                table.rows.append([*named, figure(summary), n])
    if warning := seeds_of((row for board in boards for row in board.rows), BITS.key).warning:
        table.note += f" {warning}."
    return table if len({row[0].text for row in table.rows}) > 1 else None


def _scale(found: Study) -> None:
    """Sizes and perplexities on the seeds that all have, and the line through them."""
    if found.board.mixed:
        return
    seeds = seeds_of(found.board.rows, PPL.key).shared
    for record in (r for r in found.board.records if r.seed in seeds):
        size, ppl = record.size.get("params"), value_of(record, PPL.key)
        if size and ppl:
            found.sizes.append(size)
            found.ppls.append(ppl)
    if "model" in found.board.factors:
        found.law = power_law(found.sizes, found.ppls)


def _say(found: Study, shown: Measure | None) -> None:
    """Headlines are tests, facts are not."""
    board = found.board
    tests = [effects for effects in found.effects if not effects.measure.is_ratio]
    costs = [effects for effects in found.effects if effects.measure.is_ratio]
    found.headlines = claims.interleave([drift_claims(board), *map(claims.claims, tests)])
    found.headlines += claims.interleave(
        [[c for c in claims.claims(effects) if c.verdict == BETTER] for effects in costs],
        HEADLINES // 2 if found.headlines else HEADLINES,
    )
    found.facts = held_claims(board)
    if shown:
        found.facts += facts.best(board, shown.key, shown, shown.label)
    if found.law:
        found.facts.append(facts.slope(found.law))
    if shown:
        found.facts += facts.scatter(board, shown.key, shown.label)
    for effects in tests[:1]:
        found.facts += facts.noise(effects)
    if any(effects.contrasts for effects in costs):
        found.facts.append(Claim(order_note(board), "note"))
    found.facts += facts.one_pretrained_net(board)
    notes = dict.fromkeys(note for effects in found.effects for note in effects.notes)
    found.facts += [Claim(note, "note") for note in notes]
