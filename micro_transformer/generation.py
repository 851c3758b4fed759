"""Text generation: a model and a cache as the step that a decoding strategy calls."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from micro_transformer.data.tokenizer import FIRST, PAD
from micro_transformer.decoding.base import Draws, Step, StepOutput, Strategy
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.cache.base import Cache, CacheLayer, CacheSpec
from micro_transformer.wording import _

# B rows of the batch, T tokens, n new tokens, V vocabulary size

MakeLayer = Callable[[CacheSpec], CacheLayer]
CHUNK = 1024  # prompt tokens per forward pass, with a cache that stores keys


class ModelStep:
    """A model with its cache for one batch of texts: the first call takes prompts, then tokens.

    Prompts of unequal length are left-padded; long ones run in chunks, which bounds activation
    memory. Only the last position is projected to the vocabulary. Special ids get a logit of -inf,
    except eos if given: a PAD would be masked as padding, and the others are never targets (label
    smoothing gives them some probability all the same). Error: ValueError for ids outside of the
    vocabulary, and for a row that does not end with a token or has a PAD after one.
    """

    def __init__(self, model: Net, make_layer: MakeLayer, *, max_len: int, eos: int | None = None):
        self.model, self.make_layer, self.max_len = model, make_layer, max_len
        self.cache: Cache | None = None
        unwritten = [id for id in range(FIRST) if id != eos]
        self._unwritten = torch.tensor(unwritten, device=model.device)
        self._seen: Tensor | None = None  # all ids so far, if the cache stores nothing

    def __call__(self, ids: Tensor, parents: Tensor | None = None) -> StepOutput:
        """(B, T) -> logits (B, V) of the next token."""
        first = self.cache is None or (self.cache.length == 0 and self._seen is None)
        if first:
            self._check(ids)
        cache = self._start(ids.shape[0]) if self.cache is None else self.cache
        if parents is not None:
            cache.reorder(parents)
        if not cache.stores:
            ids = self._whole(ids, parents)
        padded = (first or not cache.stores) and bool((ids == PAD).any())
        pos = positions(ids) if padded else None
        size = CHUNK if cache.stores else ids.shape[1]
        for start in range(0, ids.shape[1], size):
            chunk = slice(start, start + size)
            given = None if pos is None else pos[:, chunk]
            hidden = self.model.hidden(ids[:, chunk], cache, given)
        logits = self.model.logits(hidden[:, -1])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return StepOutput(logits.index_fill_(1, self._unwritten, float("-inf")))

    def restart(self) -> None:
        """The cache is empty; the next batch, of as many rows, reuses its memory."""
        assert self.cache is not None, "there is a text"
        self.cache, self._seen = self.cache.reset(), None

    def _check(self, ids: Tensor) -> None:
        if ids.shape[1] < 1:
            raise ValueError(_("prompt: has no tokens; give at least one"))
        real, size = ids != PAD, self.model.dims.vocab_size
        strange = (ids < 0) | (ids >= size)
        if strange.any():
            raise ValueError(
                _(
                    "prompt: id {id} is not in the vocabulary of {size}",
                    id=int(ids[strange][0]),
                    size=size,
                )
            )
        wrong = ~real[:, -1] | (real[:, :-1] & ~real[:, 1:]).any(1)
        if wrong.any():
            raise ValueError(
                _(
                    "prompt: row {row} has no token, or pads (id {pad}) after "
                    "one; a short row is filled on its left",
                    row=int(wrong.nonzero()[0]),
                    pad=PAD,
                )
            )

    def _start(self, batch: int) -> Cache:
        dims, device = self.model.dims, self.model.device
        autocast = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if autocast else self.model.dtype
        spec = CacheSpec(batch, dims.kv_heads, dims.head_dim, self.max_len, dtype, device)
        self.cache = Cache.make(self.make_layer, spec, dims.num_layers)
        return self.cache

    def _whole(self, ids: Tensor, parents: Tensor | None) -> Tensor:
        if self._seen is not None:
            past = self._seen if parents is None else self._seen[parents]
            ids = torch.cat((past, ids), 1)
        self._seen = ids
        return ids


@torch.inference_mode()
def generate(
    model: Net,
    prompt: Tensor,
    strategy: Strategy,
    max_new_tokens: int,
    *,
    make_layer: MakeLayer,
    seed: int = 0,
    rows: Sequence[int] | None = None,
    eos: int | None = None,
    watch: Callable[[Step], Step] = lambda step: step,
) -> Tensor:
    """Left-padded prompts (B, T) -> (B, T + n), deterministic for a given seed.

    rows: numbers of the rows, 0, 1, ... by default. A row depends on the seed and its number, not
    on its neighbours, but for rounding that differs by batch size.

    watch wraps the step, so that a benchmark can time its calls: the first is the prefill, each
    later one generates a token per row. eos ends a row; without it no special id is generated.
    Error: ValueError for an empty prompt or a pad after a token, max_new_tokens < 1, more tokens
    than a learned position table has, or NaN or infinite logits.
    """
    _check(model, prompt, max_new_tokens)
    step = ModelStep(model, make_layer, max_len=prompt.shape[1] + max_new_tokens, eos=eos)
    draws = Draws(seed, range(len(prompt)) if rows is None else rows)
    was_training = model.training
    model.eval()
    try:
        return strategy(watch(step), prompt, max_new_tokens, draws=draws, eos=eos)
    finally:
        model.train(was_training)


def positions(ids: Tensor) -> Tensor:
    """(B, T): 0, 1, 2, ... over the tokens of each row that are not pads, -1 at pads."""
    real = ids != PAD
    return (real.cumsum(-1) - 1).masked_fill(~real, -1)


def _check(model: Net, prompt: Tensor, max_new_tokens: int) -> None:
    length = prompt.shape[1]
    if max_new_tokens < 1:
        raise ValueError(_("max_new_tokens={n}: must be at least 1", n=max_new_tokens))
    limit = model.posenc.max_len
    if limit is not None and length + max_new_tokens > limit:
        raise ValueError(
            _(
                "max_new_tokens={n}: with a prompt of {length} "
                "tokens it passes the {limit} positions of the learned table; "
                "raise model.max_len or ask for less",
                n=max_new_tokens,
                length=length,
                limit=limit,
            )
        )
