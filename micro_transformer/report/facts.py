"""Sentences that describe a board without a test: noise floor, scatter, best mean, trend."""

import math

from scipy import stats

from micro_transformer.records.cells import figure
from micro_transformer.records.metrics import Measure
from micro_transformer.records.pretrained import shared_base_seed
from micro_transformer.records.rows import Board, Row, Summary, reason, shared_name
from micro_transformer.records.shared_seeds import seeds_of
from micro_transformer.report.claims import Claim
from micro_transformer.report.number_format import inside, sized
from micro_transformer.stats.effects import UNTESTED, Effects
from micro_transformer.stats.power_law import PowerLaw
from micro_transformer.wording import _, plural


def noise(effects: Effects) -> list[Claim]:
    """The noise floor and what this sweep could have seen."""
    found = []
    measure = effects.measure
    if effects.sigma and effects.df > 0:
        least = effects.sigma * math.sqrt(2) * float(stats.t.ppf(0.975, effects.df))
        found.append(
            _(
                "Noise floor: runs of one configuration have a standard deviation of {sigma} "
                "within a seed ({freedom}). Two single runs on one seed that differ by less than "
                "{least} are not evidence of a difference.",
                sigma=sized(measure, effects.sigma),
                freedom=plural(effects.df, "{n} degree of freedom", "{n} degrees of freedom"),
                least=sized(measure, least),
            )
        )
    seen: dict[str, float] = {}
    for c in effects.contrasts:
        if c.detectable:
            seen[c.factor] = max(seen.get(c.factor, 0.0), c.detectable)
    if seen:
        parts = ", ".join(
            _("{size} for {factor}", size=sized(measure, d), factor=factor)
            for factor, d in seen.items()
        )
        found.append(
            _(
                "Smallest difference that a sweep like this one finds with 80 % power, "
                "corrected for {tests}: {parts}.",
                tests=plural(effects.family, "{n} test", "{n} tests"),
                parts=parts,
            )
        )
    return [Claim(text) for text in found]


def scatter(board: Board, key: str, label: str) -> list[Claim]:
    """The largest deviation over seeds, as a share of the mean; identical seeds are suspicious."""
    shares: list[tuple[float, Row, Summary]] = []
    for row in board.rows:
        summary = row.summary(key)
        if summary.std is not None and summary.mean:
            shares.append((summary.std / abs(summary.mean), row, summary))
    if not shares:
        return []
    share, _row, summary = max(shares, key=lambda item: item[0])
    name = shared_name([row for _, row, s in shares if s == summary])
    found = [
        Claim(
            _(
                "{label} varies over seeds by at most {share:.2f} % (std over mean; {name}, "
                "n = {n}).",
                label=label,
                share=100 * share,
                name=name,
                n=summary.n,
            )
        )
    ]
    # a share of right answers may be 1 for every seed
    frozen = [row.name for share, row, s in shares if share == 0 and s.mean != 1]
    if frozen:
        found.append(
            Claim(
                _(
                    "Different seeds gave exactly the same {label} in {configurations}, first "
                    "{frozen}: the seed may not reach the training.",
                    label=label,
                    configurations=plural(len(frozen), "{n} configuration", "{n} configurations"),
                    frozen=frozen[0],
                ),
                UNTESTED,
            )
        )
    return found


def best(board: Board, key: str, measure: Measure, label: str) -> list[Claim]:
    """The row with the best mean over the seeds that all rows have: a description, no test."""
    rows = [row for row in board.rows if row.summary(key).mean is not None]
    if len(rows) < 2 or board.mixed:
        return []
    seeds = seeds_of(rows, key)
    if not seeds.shared:
        return [
            Claim(
                _("No configuration is called the best: {warning}.", warning=inside(seeds.warning)),
                "note",
            )
        ]
    known = [(row, row.summary(key, seeds=seeds.shared)) for row in rows]
    choose = min if measure.lower_is_better else max
    summary = choose((s for _, s in known), key=lambda s: s.mean or 0.0)
    alike = [row for row, s in known if s == summary]
    where = _(" on the seeds that all have ({names})", names=seeds.names) if seeds.differ else ""
    if len(alike) == len(known):
        same = _(
            "All {known} configurations have the same {label}{where}, {mean:.3g}.",
            known=len(known),
            label=label,
            where=where,
            mean=summary.mean,
        )
        return [Claim(same)]
    lost = "".join(
        _("; it has no result of seed {seed} ({r})", seed=r.seed, r=reason(r)[:60])
        for r in alike[0].bad
    )
    return [
        Claim(
            _(
                "Best mean {label} of {known} configurations{where}: {alike} with {text} (std, "
                "n = {n}); the mean of a winner is optimistic (best of many){lost}.",
                label=label,
                known=len(known),
                where=where,
                alike=shared_name(alike),
                text=figure(summary).text,
                n=summary.n,
                lost=lost,
            )
        )
    ]


def one_pretrained_net(board: Board) -> list[Claim]:
    """What intervals over seeds do not cover where all seeds start from the same weights."""
    seed = shared_base_seed(board.records)
    if seed is None:
        return []
    text = _(
        "All runs start from one pre-trained net (seed {seed}): the intervals hold for this net, "
        "not for pre-training anew.",
        seed=seed,
    )
    return [Claim(text, "note")]


def slope(law: PowerLaw) -> Claim:
    """How PPL goes with size; a trend only where the interval holds no 0."""
    size = f"params^{law.exponent:.3f}".replace("-", "−")
    interval = f"95 %: {law.low:.3f} to {law.high:.3f}".replace("-", "−")
    said = _("PPL goes as {size} ({interval}, which contains 0: no trend is shown; {rest}).")
    if law.high < 0:
        said = _("PPL falls as {size} ({interval}; {rest}).")
    elif law.low > 0:
        said = _("PPL rises as {size} ({interval}; {rest}).")
    rest = _("{n} sizes, the error is that of their means around the line", n=law.sizes)
    return Claim(said.format(size=size, interval=interval, rest=rest))
