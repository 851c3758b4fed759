"""Which seeds a ranking may use: means over different seeds differ by the seeds, too."""

from collections.abc import Iterable
from dataclasses import dataclass

from micro_transformer.records.rows import Row, setting_of, value_of
from micro_transformer.wording import _

MOST_NAMED = 8


@dataclass(frozen=True)
class Seeds:
    """Seeds on which every row has a value. differ: some row has other seeds too."""

    shared: tuple[int, ...]
    differ: bool

    @property
    def names(self) -> str:
        """The shared seeds in words."""
        more = _(" and {most_named} more", most_named=len(self.shared) - MOST_NAMED) * (
            len(self.shared) > MOST_NAMED
        )
        return ", ".join(map(str, self.shared[:MOST_NAMED])) + more

    @property
    def warning(self) -> str:
        """What a reader of means must know, "" where all rows have the same seeds."""
        if not self.differ:
            return ""
        if not self.shared:
            return _("Rows have no seed in common: their means cannot be compared")
        word = "seed" if len(self.shared) == 1 else "seeds"
        return _(
            "Rows have different seeds: their means are comparable on {word} {names} only",
            word=word,
            names=self.names,
        )


def seeds_of(rows: Iterable[Row], key: str | None = None, setting: str | None = None) -> Seeds:
    """Seeds of the rows with a value of `key` (None: any result) in a setting (None: any)."""
    known = [
        {
            r.seed
            for r in row.ok
            if (key is None or value_of(r, key) is not None)
            and (setting is None or setting_of(r) == setting)
        }
        for row in rows
    ]
    known = [seeds for seeds in known if seeds]
    shared = set.intersection(*known) if known else set()
    return Seeds(tuple(sorted(shared)), any(seeds != shared for seeds in known))
