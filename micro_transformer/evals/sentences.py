"""Translation of sentences: text in, text out, in batches of similar length."""

from collections.abc import Sequence

import numpy as np
import torch

from micro_transformer.data.length_buckets import pad_right
from micro_transformer.data.tokenizer import BOS, EOS, Tokenizer
from micro_transformer.decoding.base import Strategy
from micro_transformer.generation import MakeLayer, generate
from micro_transformer.nn.arch.base import Net

AT_ONCE = 64  # sources decoded together


def translate(
    model: Net,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    strategy: Strategy,
    length: int,
    *,
    make_layer: MakeLayer,
    seed: int = 0,
) -> list[str]:
    """One translation per source, of at most `length` tokens, in the order of the sources.

    A source without tokens has an empty translation. Row i draws from (seed, i), whatever else is
    translated with it. Error: as `generate`.
    """
    ids = [tokenizer.encode(text) for text in sources]
    order = np.argsort([len(row) for row in ids], kind="stable")
    order = order[sum(not len(row) for row in ids) :]
    found = [""] * len(sources)
    for start in range(0, len(order), AT_ONCE):
        rows = order[start : start + AT_ONCE].tolist()
        source = pad_right([ids[row] for row in rows], model.device)
        out = generate(
            model,
            torch.full((len(rows), 1), BOS, device=source.device),
            strategy,
            length,
            make_layer=make_layer,
            seed=seed,
            rows=rows,
            eos=EOS,
            source=source,
            weigh_source=strategy.reads_source,
        )
        for row, line in zip(rows, out.tolist(), strict=True):
            found[row] = tokenizer.decode(line)
    return found
