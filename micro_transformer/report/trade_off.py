"""A trade-off of quality against a cost, and the meaning of its terms."""

from dataclasses import dataclass

from micro_transformer.records.metrics import Measure
from micro_transformer.records.rows import Setting
from micro_transformer.records.shared_seeds import seeds_of
from micro_transformer.stats.pareto import Point
from micro_transformer.wording import _


@dataclass
class Front:
    """One trade-off: quality against a cost measured in one setting."""

    cost: Measure
    quality: Measure
    setting: Setting
    points: list[Point]

    @property
    def warning(self) -> str:
        """Caveat if the rows have different seeds; "" otherwise."""
        warning = seeds_of((p.row for p in self.points), self.quality.key, self.setting).warning
        return _("{warning}; the figure uses those seeds.", warning=warning) if warning else ""


def front_rule() -> str:
    """Defines the terms of a trade-off."""
    return _(
        "On the front: every other row is worse in one of the two with 95 % confidence (paired by "
        "seed). Dominated: some row is better in one and no worse in the other, with that "
        "confidence. Perhaps: the seeds do not say, or other jobs were running when the cost was "
        "measured. Each pair is judged by itself: of very many, some by chance."
    )
