"""Which tokens of the source each token of a translation reads."""

from collections.abc import Sequence

import numpy as np

from micro_transformer.plots.style import Plot, axes_of, finished, label
from micro_transformer.wording import _

MOST = 48  # tokens drawn on each side


def alignment_map(
    source: Sequence[str], written: Sequence[str], weights: Sequence[Sequence[float]]
) -> Plot:
    """Weights (T, S): translation down, source across; each row sums to 1."""
    source, written = source[:MOST], written[:MOST]
    shown = np.asarray(weights)[: len(written), : len(source)]
    with axes_of(2.4 + 0.3 * len(source), 1.6 + 0.26 * len(written)) as (figure, axes):
        image = axes.imshow(shown, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(source)), [_shown(t) for t in source], rotation=60, ha="right")
        axes.set_yticks(range(len(written)), [_shown(t) for t in written])
        axes.set(xlabel=_("Source"), ylabel=_("Translation"))
        axes.grid(visible=False)
        axes.tick_params(length=0)
        figure.colorbar(image, ax=axes, label=_("Attention"), pad=0.02)
    note = _("Attention of the last layer on the source, mean over heads; EOS: end of sentence")
    return finished(Plot("alignment", _("Alignment"), note, figure))


def _shown(token: str) -> str:
    return label(token.strip(), 16) if token.strip() else "EOS" if not token else "␣"
