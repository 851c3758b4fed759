"""What a cache takes as the context grows, and what arithmetic says it should."""

import numpy as np

from micro_transformer.plots.series import Series, at_places, distinct, first_of, over_seeds
from micro_transformer.plots.style import (
    COLOURS,
    Plot,
    axes_of,
    cut,
    finished,
    legend_below,
    line,
    plain_log,
    token_axis,
)
from micro_transformer.records.metrics import places
from micro_transformer.records.rows import Board, Row
from micro_transformer.wording import _

MIB = 1 << 20


def memory_by_context(board: Board, setting: str) -> Plot | None:
    """Bytes of the cache against context: measured with markers, predicted as a thin line behind;
    with the peak RSS where it was measured. None for fewer than two contexts."""
    there = {key for r in board.records for key in (*r.metrics, *r.cost)}
    held, predicted, rss = (
        places(there, f"cache/{name}") for name in ("bytes", "predicted_bytes", "rss_gb")
    )
    if len(held) < 2:
        return None

    def read(row: Row) -> Series | None:
        """Measured, predicted and RSS side by side, so that one line is one cache."""
        parts = [at_places(row, keys, setting) for keys in (held, predicted, rss)]
        if parts[0] is None:
            return None
        lines = [np.full(len(keys), np.nan) if part is None else part.mean
                 for part, keys in zip(parts, (held, predicted, rss), strict=True)]  # fmt: skip
        row_of = np.concatenate(lines)[None, :]
        return Series(np.array([*held, *predicted, *rss], dtype=float), row_of)

    found = distinct(board, read)
    shown = first_of(found)
    if not shown:
        return None
    panels = 2 if rss else 1
    with axes_of(4.6 * panels + 2.0 * (panels == 1), 4.8, panels) as (figure, axes):
        left, right = axes if rss else (axes, None)
        for i, s in enumerate(shown):
            one, two, three = np.split(s.values[0], [len(held), len(held) + len(predicted)])
            left.plot(list(held), one / MIB, **line(i), label=s.name)
            thin = {"color": COLOURS[i % len(COLOURS)], "linewidth": 3, "alpha": 0.3}
            left.plot(list(predicted), two / MIB, **thin)
            if right is not None:
                right.plot(list(rss), three, **line(i))
        token_axis(left, list(held))
        if any((s.values[0][: len(held)] > 0).any() for s in shown):
            left.set_yscale("log", nonpositive="mask")
            plain_log(left.yaxis)
        left.set(xlabel=_("Context (tokens)"), ylabel=_("Cache (MiB)"))
        if right is not None:
            token_axis(right, list(rss))
            right.set(xlabel=_("Context (tokens)"), ylabel=_("Peak RSS (GB)"))
        legend_below(figure, left)
    seeds = [sum(v is not None for v in row.values(next(iter(held.values()))))
             for row in board.rows if row.ok]  # fmt: skip
    note = _("Measured: markers; predicted: broad pale lines; 0 is not drawn; means, ")
    note += f"{over_seeds(board.rows, seeds)}{cut(len(shown), len(found))}; {setting}"
    return finished(Plot("memory_by_context", _("Memory against context"), note, figure))
