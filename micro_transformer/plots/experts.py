"""Loads and gates of the experts of a mixture, and whether seeds agree on them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from micro_transformer.plots.series import over_seeds
from micro_transformer.plots.style import (
    COLOURS,
    MOST_LINES,
    Plot,
    axes_of,
    cut,
    finished,
    label,
    legend_below,
    line,
)
from micro_transformer.records.expert_files import BINS, RoutedRow
from micro_transformer.records.rows import Board, Row
from micro_transformer.stats.expert_agreement import Agreement
from micro_transformer.stats.load_balance import DEAD
from micro_transformer.wording import _

MOST_ROWS, MOST_NAMED = 24, 16  # lines of the map, experts whose loads are written


def expert_loads(board: Board, found: Sequence[RoutedRow]) -> Plot | None:
    """Load of each expert, layers down, experts across by load, since their numbers mean nothing;
    None without experts. Colour: the load over an even one."""
    lines = list(_loads(found))
    shown = lines[:MOST_ROWS]
    if not shown:
        return None
    most = max(loads.shape[1] for _name, loads in shown)
    relative = np.full((len(shown), most), np.nan)
    for i, (_name, loads) in enumerate(shown):
        relative[i, : loads.shape[1]] = loads.mean(0) * loads.shape[1]
    width = 2.8 + (0.8 * most if most <= MOST_NAMED else 6)
    with axes_of(max(5.6, width), 1.6 + 0.42 * len(shown)) as (figure, axes):
        axes.set_facecolor("#dddddd")  # where there is no expert
        image = axes.imshow(relative, cmap="cividis", vmin=0, vmax=max(2, np.nanmax(relative)),
                            aspect="auto")  # fmt: skip
        if most <= MOST_NAMED:
            for i, (_name, loads) in enumerate(shown):
                _write(axes, i, loads, image.get_clim()[1])
            axes.set_xticks(range(most), [str(rank + 1) for rank in range(most)])
        axes.set_yticks(range(len(shown)), [name for name, _loads in shown])
        axes.set(xlabel=_("Expert, largest load first"))
        axes.grid(visible=False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, label=_("Load over 1/E"), pad=0.02)
    note = _(
        "Share of all choices over the validation split{cut}; 1: even load; dead: below "
        "{dead:.0%}; mean ± std over seeds, {seeds}; {where}",
        cut=cut(len(shown), len(lines)),
        dead=DEAD,
        seeds=_seeds(found),
        where="; ".join(board.settings),
    )
    return finished(Plot("expert_loads", _("Expert loads"), note, figure))


def gate_scores(board: Board, found: Sequence[RoutedRow]) -> Plot | None:
    """Histograms of the router's probabilities and of the gates of the chosen experts, mean over
    seeds: a line per layer of a single configuration, else one per configuration."""
    lines = list(_histograms(found))
    shown = lines[:MOST_LINES]
    if not shown:
        return None
    middles = (np.arange(BINS) + 0.5) / BINS
    with axes_of(9.6, 4.6, 2) as (figure, both):
        names = {"probabilities": _("Probability, all experts"),
                 "gates": _("Gate, chosen experts")}  # fmt: skip
        for axes, (kind, xlabel) in zip(both, names.items(), strict=True):
            for i, (name, histograms) in enumerate(shown):
                axes.plot(middles, 100 * histograms[kind], **line(i), label=name)
            axes.set(xlabel=xlabel, ylabel=_("Share of values (%)"), xlim=(0, 1), ylim=(0, None))
        legend_below(figure, both[0])
    note = _(
        "Bins of {width:g} over the validation split{cut}; mean over seeds, {seeds}; {where}",
        width=1 / BINS,
        cut=cut(len(shown), len(lines)),
        seeds=_seeds(found),
        where="; ".join(board.settings),
    )
    return finished(Plot("gate_scores", _("Gate scores"), note, figure))


def expert_agreement(
    board: Board, found: Sequence[tuple[Row, Mapping[str, list[Agreement]]]]
) -> Plot | None:
    """Agreement of pairs of seeds by layer, with its chance level; None without a pair."""
    known = [(row, layers) for row, layers in found if layers]
    shown = known[:MOST_LINES]
    if not shown:
        return None
    names = list(dict.fromkeys(name for _row, layers in shown for name in layers))
    with axes_of(7.2, 4.8) as (figure, axes):
        for i, (row, layers) in enumerate(shown):
            x = [names.index(name) for name in layers]
            for pairs, at in zip(layers.values(), x, strict=True):
                axes.plot([at] * len(pairs), [p.share for p in pairs], ".", markersize=4,
                          color=COLOURS[i % len(COLOURS)], alpha=0.5)  # fmt: skip
            shares = [np.mean([p.share for p in pairs]) for pairs in layers.values()]
            chance = [np.mean([p.chance for p in pairs]) for pairs in layers.values()]
            look = line(i) | {"linestyle": "-"}
            axes.plot(x, shares, **look, label=label(row.name))
            by_chance = look | {"linestyle": ":", "markerfacecolor": "white", "linewidth": 1}
            named = _("{config}, by chance", config=label(row.name))
            axes.plot(x, chance, **by_chance, label=named)
        axes.set_xticks(range(len(names)), names)
        axes.set(xlabel=_("Layer"), ylabel=_("Tokens with the same expert"), ylim=(0, 1.02))
        legend_below(figure, axes)
    most = max(len(pairs) for _row, layers in shown for pairs in layers.values())
    note = _(
        "First choices in two seeds, experts matched one to one; dots: pairs of seeds, at most "
        "{pairs}; by chance: tokens shuffled, loads kept{cut}; {where}",
        pairs=most,
        cut=cut(len(shown), len(known)),
        where="; ".join(board.settings),
    )
    return finished(Plot("expert_agreement", _("Agreement of experts over seeds"), note, figure))


def _loads(found: Sequence[RoutedRow]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, loads (seeds, E), largest first) of each layer of each configuration."""
    for each in found:
        for i, name in enumerate(each.names):
            loads = np.sort([layers[i].shares for layers in each.runs], axis=1)[:, ::-1]
            yield _line_name(found, each.row, name), loads


def _histograms(found: Sequence[RoutedRow]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for each in found:
        kinds = ("probabilities", "gates")
        by_layer = {
            kind: np.mean([[m.histograms[kind] for m in run] for run in each.runs], axis=0)
            for kind in kinds
        }
        if len(found) > 1:
            yield label(each.row.name), {kind: by_layer[kind].mean(0) for kind in kinds}
        else:
            for i, name in enumerate(each.names):
                yield _line_name(found, each.row, name), {k: by_layer[k][i] for k in kinds}


def _line_name(found: Sequence[RoutedRow], row: Row, layer: str) -> str:
    layer = _("layer {name}", name=label(layer, 16))
    return f"{label(row.name, 36)}, {layer}" if len(found) > 1 else layer


def _write(axes: Any, i: int, loads: np.ndarray, top: float) -> None:
    """The loads (seeds, E) of a layer in their cells."""
    seeds, num = loads.shape
    for j, share in enumerate(loads.mean(0)):
        dead = int((loads[:, j] < DEAD).sum())
        spread = f" ± {100 * loads[:, j].std(ddof=1):.1f}" if seeds > 1 else ""
        text = f"{100 * share:.1f}{spread} %"
        if dead:
            text += "\n" + (_("dead") if dead == seeds else _("dead {n}/{all}", n=dead, all=seeds))
        colour = "black" if share * num > 0.55 * top else "white"
        axes.text(j, i, text, ha="center", va="center", fontsize=7, color=colour)


def _seeds(found: Sequence[RoutedRow]) -> str:
    return over_seeds([each.row for each in found], [len(each.runs) for each in found])
