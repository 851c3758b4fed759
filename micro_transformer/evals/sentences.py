"""Text in, text out: translations, in batches of similar length, and continuations."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from micro_transformer.data.length_buckets import pad_right
from micro_transformer.data.tokenizer import BOS, EOS, Tokenizer
from micro_transformer.decoding.base import Search, Strategy
from micro_transformer.generation import MakeLayer, generate, n_best
from micro_transformer.nn.arch.base import Net
from micro_transformer.wording import _

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
    found = [""] * len(sources)
    reading: dict[str, Any] = {"make_layer": make_layer, "weigh_source": strategy.reads_source}
    for rows, prompt, source in _batches(model, tokenizer, sources):
        drawn: dict[str, Any] = {"seed": seed, "rows": rows}
        out = generate(model, prompt, strategy, length, eos=EOS, source=source, **drawn, **reading)
        for row, line in zip(rows, out.tolist(), strict=True):
            found[row] = tokenizer.decode(line)
    return found


def translations(
    model: Net,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    strategy: Search,
    length: int,
    *,
    make_layer: MakeLayer,
) -> list[list[tuple[str, float]]]:
    """As `translate`, all finished translations of each source and their scores, best first."""
    found: list[list[tuple[str, float]]] = [[] for _ in sources]
    reading: dict[str, Any] = {"make_layer": make_layer, "weigh_source": strategy.reads_source}
    for rows, prompt, source in _batches(model, tokenizer, sources):
        each = n_best(model, prompt, strategy, length, eos=EOS, source=source, **reading)
        for row, texts in zip(rows, each, strict=True):
            found[row] = [(tokenizer.decode(ids.tolist()), score) for ids, score in texts]
    return found


class Alignment(NamedTuple):
    """How much each written token reads of each token of the source."""

    source: list[str]  # S tokens
    written: list[str]  # T tokens, with EOS as ""
    weights: Tensor  # (T, S): attention of the last layer, mean over heads


@torch.inference_mode()
def alignment(
    model: Net,
    tokenizer: Tokenizer,
    source: str,
    strategy: Strategy,
    length: int,
    *,
    make_layer: MakeLayer,
    seed: int = 0,
) -> Alignment:
    """The translation of a sentence with its attention on the source (Bahdanau et al., 2015,
    figure 3, for a Transformer). Error: ValueError for a source without tokens, and as `generate`.
    """
    found = list(_batches(model, tokenizer, [source]))
    if not found:
        raise ValueError(_("source: has no tokens; give a sentence"))
    _rows, prompt, ids = found[0]
    reading: dict[str, Any] = {"make_layer": make_layer, "weigh_source": strategy.reads_source}
    out = generate(model, prompt, strategy, length, eos=EOS, source=ids, seed=seed, **reading)
    reader: Any = model.eval()
    memory = reader.encode(ids)
    # A token is chosen at the place before it.
    _hidden, weights = reader.hidden_and_source_attention(out[:, :-1], None, None, memory)
    source_tokens, written = (
        [tokenizer.decode([id]) for id in row] for row in (ids[0].tolist(), out[0, 1:].tolist())
    )
    return Alignment(source_tokens, written, weights[0].float().cpu())


def continuation(
    model: Net,
    tokenizer: Tokenizer,
    prompt: str,
    strategy: Strategy,
    length: int,
    **options: Any,
) -> str:
    """What follows the prompt, `length` tokens at most. options, errors: as in `generate`."""
    ids = _ids(model, tokenizer, prompt)
    out = generate(model, ids, strategy, length, **options)
    return tokenizer.decode(out[0, ids.shape[1] :].tolist())


def continuations(
    model: Net,
    tokenizer: Tokenizer,
    prompt: str,
    strategy: Search,
    length: int,
    *,
    make_layer: MakeLayer,
) -> list[tuple[str, float]]:
    """As `continuation`, all texts that are found and their scores, best first."""
    ids = _ids(model, tokenizer, prompt)
    (best,) = n_best(model, ids, strategy, length, make_layer=make_layer)
    return [(tokenizer.decode(ids.tolist()), score) for ids, score in best]


def _ids(model: Net, tokenizer: Tokenizer, text: str) -> Tensor:
    """(1, T)."""
    return torch.from_numpy(tokenizer.encode(text).astype("int64"))[None].to(model.device)


def _batches(
    model: Net, tokenizer: Tokenizer, sources: Sequence[str]
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """(numbers of the sources, prompts (B, 1), sources (B, S)) of those that have tokens."""
    ids = [tokenizer.encode(text) for text in sources]
    order = np.argsort([len(row) for row in ids], kind="stable")
    order = order[sum(not len(row) for row in ids) :]
    for start in range(0, len(order), AT_ONCE):
        rows = order[start : start + AT_ONCE].tolist()
        source = pad_right([ids[row] for row in rows], model.device)
        yield rows, torch.full((len(rows), 1), BOS, device=source.device), source
