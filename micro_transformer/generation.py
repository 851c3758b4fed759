"""Text generation: a model and a cache as the step that a decoding strategy calls."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from micro_transformer.data.tokenizer import FIRST, PAD
from micro_transformer.decoding.base import Draws, Hypothesis, Search, Step, StepOutput, Strategy
from micro_transformer.decoding.guidance import Guided
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.cache.base import Cache, CacheLayer, CacheSpec
from micro_transformer.nn.padding import positions
from micro_transformer.nn.source_memory import Memory
from micro_transformer.wording import _

# B rows of the batch, T tokens, S source tokens, n new tokens, V vocabulary size

MakeLayer = Callable[[CacheSpec], CacheLayer]
CHUNK = 1024  # prompt tokens per forward pass, with a cache that stores keys


class ModelStep:
    """A model with its cache for one batch of texts: the first call takes prompts, then tokens.

    Prompts of unequal length are left-padded; long ones run in chunks, which bounds activation
    memory. Only the last position is projected to the vocabulary. Special ids get a logit of -inf,
    except eos if given: a PAD would be masked as padding, and the others are never targets (label
    smoothing gives them some probability all the same). Error: ValueError for ids outside of the
    vocabulary, and for a row that does not end with a token or has a PAD after one.

    source: (B, S), one per prompt, for a net that reads one; encoded once, in the first call.
    weigh_source: outputs have `source_attention`, of the last layer, mean over heads.
    """

    def __init__(
        self,
        model: Net,
        make_layer: MakeLayer,
        *,
        max_len: int,
        eos: int | None = None,
        source: Tensor | None = None,
        weigh_source: bool = False,
    ):
        self.model, self.make_layer, self.max_len = model, make_layer, max_len
        self.source, self.weigh_source = source, weigh_source
        self.cache: Cache | None = None
        self.memory: Memory | None = None  # of the source
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
        self._remember(parents)
        if not cache.stores:
            ids = self._whole(ids, parents)
        padded = (first or not cache.stores) and bool((ids == PAD).any())
        pos = positions(ids) if padded else None
        size = CHUNK if cache.stores else ids.shape[1]
        for start in range(0, ids.shape[1], size):
            chunk = slice(start, start + size)
            given = None if pos is None else pos[:, chunk]
            hidden, weights = self._read(ids[:, chunk], cache, given)
        logits = self.model.logits(hidden[:, -1])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return StepOutput(logits.index_fill_(1, self._unwritten, float("-inf")), weights)

    def restart(self) -> None:
        """The cache is empty; the next batch, of as many rows, reuses its memory."""
        assert self.cache is not None, "there is a text"
        self.cache, self._seen, self.memory = self.cache.reset(), None, None

    def _remember(self, parents: Tensor | None) -> None:
        """The memory of the source, if there is one, has the rows of this call."""
        if self.source is None:
            return
        if self.memory is None:
            reader: Any = self.model
            self.memory = reader.encode(self.source)
        if parents is not None:
            self.memory = self.memory.reorder(parents)

    def _read(self, ids: Tensor, cache: Cache, pos: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, T, D), the input of `logits`, and the source attention (B, S) if it is asked for."""
        if self.memory is None:
            return self.model.hidden(ids, cache, pos), None
        reader: Any = self.model
        if self.weigh_source:
            hidden, weights = reader.hidden_and_source_attention(ids, cache, pos, self.memory)
            return hidden, weights[:, -1]
        return reader.hidden(ids, cache, pos, memory=self.memory), None

    def _check(self, ids: Tensor) -> None:
        if ids.shape[1] < 1:
            raise ValueError(_("prompt: has no tokens; give at least one"))
        _check_ids("prompt", ids, self.model)
        if self.source is not None:
            _check_ids("source", self.source, self.model)
        real = ids != PAD
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
        max_len = self.model.cached_prefix + self.max_len
        spec = CacheSpec(batch, dims.kv_heads, dims.head_dim, max_len, dtype, device)
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
    seed: int = 0,
    rows: Sequence[int] | None = None,
    eos: int | None = None,
    watch: Callable[[Step], Step] = lambda step: step,
    **reading: Any,
) -> Tensor:
    """Left-padded prompts (B, T) -> (B, T + n), deterministic for a given seed.

    rows: numbers of the rows, 0, 1, ... by default. A row depends on the seed and its number, not
    on its neighbours, but for rounding that differs by batch size.

    watch wraps the step, so that a benchmark can time its calls: the first is the prefill, each
    later one generates a token per row. eos ends a row; without it no special id is generated.
    reading, errors: as in `decoding_step`; and ValueError for NaN or infinite logits.
    """
    draws = Draws(seed, range(len(prompt)) if rows is None else rows)
    with decoding_step(model, prompt, strategy, max_new_tokens, eos=eos, **reading) as step:
        return strategy(watch(step), prompt, max_new_tokens, draws=draws, eos=eos)


@torch.inference_mode()
def n_best(
    model: Net,
    prompt: Tensor,
    strategy: Search,
    max_new_tokens: int,
    *,
    eos: int | None = None,
    **reading: Any,
) -> list[list[Hypothesis]]:
    """For each row of the prompt (B, T), the finished texts with their scores, best
    first. reading, errors: as in `generate`."""
    with decoding_step(model, prompt, strategy, max_new_tokens, eos=eos, **reading) as step:
        return strategy.search(step, prompt, max_new_tokens, eos)


@contextmanager
def decoding_step(
    model: Net,
    prompt: Tensor,
    strategy: Strategy,
    max_new_tokens: int,
    *,
    make_layer: MakeLayer,
    eos: int | None = None,
    source: Tensor | None = None,
    weigh_source: bool = False,
) -> Iterator[Step]:
    """The step that the strategy calls; meanwhile the model is in evaluation mode.

    A strategy with a guidance_scale gets a `Guided` step: without a source the unconditional step
    starts at the last token of the prompt, otherwise it reads an empty source.

    source, weigh_source: as in ModelStep. Error: ValueError for an empty prompt or a pad after a
    token, a source of another number of rows, max_new_tokens < 1, or more tokens than a learned
    position table has.
    """
    _check(model, prompt, max_new_tokens)
    if source is not None:
        _check_source(model, prompt, source)
    length = prompt.shape[1] + max_new_tokens
    step: Step = ModelStep(
        model, make_layer, max_len=length, eos=eos, source=source, weigh_source=weigh_source
    )
    if strategy.guidance_scale != 1:
        nothing = None if source is None else torch.full_like(source[:, :1], PAD)
        size = 1 + max_new_tokens if source is None else length
        without = ModelStep(model, make_layer, max_len=size, eos=eos, source=nothing)
        reads_prompt = source is not None
        step = Guided(step, without, strategy.guidance_scale, reads_prompt=reads_prompt)
    was_training = model.training
    model.eval()
    try:
        yield step
    finally:
        model.train(was_training)


def _check(model: Net, prompt: Tensor, max_new_tokens: int) -> None:
    length = prompt.shape[1]
    if max_new_tokens < 1:
        raise ValueError(_("max_new_tokens={n}: must be at least 1", n=max_new_tokens))
    limit = _room(model, model.cached_prefix)
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


def _room(model: Net, prefix: int) -> int | None:
    """Positions that a learned table has after those of the prefix; None without a table."""
    return None if model.posenc.max_len is None else model.posenc.max_len - prefix


def _check_source(model: Net, prompt: Tensor, source: Tensor) -> None:
    if len(source) != len(prompt):
        raise ValueError(
            _(
                "source: has {sources} rows, the prompt {rows}; give one per row",
                sources=len(source),
                rows=len(prompt),
            )
        )
    limit, length = _room(model, model.prefix.num_tokens), source.shape[1]
    if limit is not None and length > limit:
        raise ValueError(
            _(
                "source: its {length} tokens pass the {limit} positions of the learned table; "
                "raise model.max_len or shorten it",
                length=length,
                limit=limit,
            )
        )


def _check_ids(name: str, ids: Tensor, model: Net) -> None:
    size = model.dims.vocab_size
    strange = (ids < 0) | (ids >= size)
    if strange.any():
        raise ValueError(
            _(
                "{name}: id {id} is not in the vocabulary of {size}",
                name=name,
                id=int(ids[strange][0]),
                size=size,
            )
        )
