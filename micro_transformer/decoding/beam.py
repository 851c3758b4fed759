"""Beam search."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from micro_transformer.config.knobs import Count, NonNegative
from micro_transformer.decoding.base import PAD, Draws, Hypothesis, Step, drawable
from micro_transformer.decoding.penalties import Penalised
from micro_transformer.decoding.processors import Processor
from micro_transformer.wording import _

NEVER = float("-inf")

# B rows of the prompt that are still searched, W beams per row, T tokens so far, n new tokens,
# S source tokens, V vocabulary size

# What a score is divided by, from the number of new tokens and alpha; alpha = 0: nothing.
LENGTH_PENALTIES: dict[str, Callable[[int, float], float]] = {
    "power": lambda length, alpha: length**alpha,  # transformers
    "gnmt": lambda length, alpha: ((5 + length) / 6) ** alpha,  # Wu et al., 2016, eq. 14
}


class Beam(Penalised):
    """The num_beams most probable texts, token by token; the best-scored one is given.

    A score is the sum of log-probabilities over the length penalty of the new tokens, eos included,
    plus coverage_penalty · sum_i log min(sum_t a_ti, 1) over the source tokens i, a the attention
    of token t (Wu et al., 2016, eq. 14). A text that ends within the best num_beams candidates is
    finished. early_stopping, as in transformers: a row ends when num_beams texts are finished and
    the best running one cannot pass the worst of them at its present length (`heuristic`,
    False there) or at any (`never`; exact for alpha >= 0), or at once (`finished`, True there).
    One beam ends as greedy decoding does.
    """

    deterministic = True
    searches = True
    up_to_vocabulary = ("num_beams",)

    def __init__(
        self,
        *,
        num_beams: Count = 4,
        length_penalty: Literal["power", "gnmt"] = "power",
        alpha: NonNegative = 0.6,
        coverage_penalty: NonNegative = 0.0,
        early_stopping: Literal["heuristic", "never", "finished"] = "heuristic",
        **shared: Any,
    ):
        super().__init__(**shared)
        self.num_beams, self.alpha, self.coverage_penalty = num_beams, alpha, coverage_penalty
        self._penalty = LENGTH_PENALTIES[length_penalty]
        self.stops_at_once = early_stopping == "finished" or num_beams == 1
        self.looks_ahead = early_stopping == "never" and alpha > 0
        self.reads_source = coverage_penalty > 0

    def __call__(
        self,
        step: Step,
        prompt: Tensor,
        max_new_tokens: int,
        *,
        draws: Draws,
        eos: int | None = None,
    ) -> Tensor:
        """(B, T) -> (B, T + n): the best text of each row; nothing is drawn."""
        best = [found[0].ids for found in self.search(step, prompt, max_new_tokens, eos)]
        longest = max(map(len, best), default=0)
        out = prompt.new_full((len(prompt), longest), PAD)
        for row, ids in zip(out, best, strict=True):
            row[: len(ids)] = ids
        return torch.cat((prompt, out), 1)

    def search(
        self, step: Step, prompt: Tensor, max_new_tokens: int, eos: int | None = None
    ) -> list[list[Hypothesis]]:
        """For each row of the prompt (B, T), up to num_beams finished texts, best first.

        Error: ValueError if a coverage penalty is asked for where no source is read.
        """
        chain = self.penalties(prompt.shape[1])
        found: list[list[Hypothesis]] = [[] for _ in prompt]
        rows = list(range(len(prompt)))  # those that are still searched
        running = Texts.begin(len(prompt), prompt)
        new, parents = prompt, None
        for length in range(1, max_new_tokens + 1):
            output = step(new, parents)
            logits = processed(drawable(output.logits), chain, prompt[rows], running)
            if self.coverage_penalty:
                running = running.covering(output.source_attention)
            best = running.extended(logits.log_softmax(-1), self.num_beams, eos)
            is_last = length == max_new_tokens
            self._note(best, [found[row] for row in rows], length, eos, is_last=is_last)
            if is_last:
                break
            best = best.going_on(self.num_beams, eos)
            stay = self._open(best, [found[row] for row in rows], length, max_new_tokens)
            if len(stay) < len(rows):
                rows, best = [rows[i] for i in stay], best.of_rows(stay)
            if not rows:
                break
            # (B, W), then (B·W,)
            parents = best.parents.flatten()
            new, running = best.texts[:, :, -1].reshape(-1, 1), best
        return found

    def _note(
        self,
        best: "Texts",
        found: list[list[Hypothesis]],
        length: int,
        eos: int | None,
        *,
        is_last: bool,
    ) -> None:
        """Texts that ended among the best num_beams are finished; at the last token all."""
        ended = best.ended(eos)[:, : self.num_beams]
        if not is_last and not bool(ended.any()):
            return
        scores = best.scores[:, : self.num_beams] / self._penalty(length, self.alpha)
        if best.coverage is not None:
            scores = scores + self.coverage_penalty * coverage(best.coverage[:, : self.num_beams])
        for i, j in ((ended | is_last) & (scores > NEVER)).nonzero().tolist():
            found[i].append(Hypothesis(best.texts[i, j], scores[i, j].item()))
        for each in found:
            each.sort(key=lambda hypothesis: -hypothesis.score)
            del each[self.num_beams :]

    def _open(
        self, running: "Texts", found: list[list[Hypothesis]], length: int, most: int
    ) -> list[int]:
        """Indices of the rows in which a running text may still be among the best."""
        full = [len(each) == self.num_beams for each in found]
        if not any(full):
            return list(range(len(found)))
        divisor = self._penalty(most if self.looks_ahead else length, self.alpha)
        possible = (running.scores[:, 0] / divisor).tolist()
        done = [
            is_full and (self.stops_at_once or score <= each[-1].score)
            for is_full, score, each in zip(full, possible, found, strict=True)
        ]
        return [i for i, is_done in enumerate(done) if not is_done]


class Texts(NamedTuple):
    """Texts of each row, sorted by score: those that are running, or candidates."""

    scores: Tensor  # (B, W): sums of log-probabilities
    texts: Tensor  # (B, W, n): new tokens
    parents: Tensor  # (B, W): row of the last step's output that each continues
    coverage: Tensor | None  # (B, W, S): summed attention on the source; None: not asked for

    @classmethod
    def begin(cls, rows: int, prompt: Tensor) -> "Texts":
        """One empty text per row."""
        zeros = prompt.new_zeros((rows, 1))
        return cls(zeros.float(), prompt.new_zeros((rows, 1, 0)), zeros, None)

    def covering(self, attention: Tensor | None) -> "Texts":
        """Adds the attention (B·W, S) with which the next tokens are chosen."""
        if attention is None:
            raise ValueError(_("decoding.coverage_penalty: needs a net that reads a source"))
        attention = attention.unflatten(0, self.scores.shape)  # (B, W, S)
        before = self.coverage
        return self._replace(coverage=attention if before is None else before + attention)

    def extended(self, log_probs: Tensor, num_beams: int, eos: int | None) -> "Texts":
        """The best candidates by log_probs (B·W, V): twice as many as beams where texts may end, so
        that enough go on."""
        (rows, width), size = self.scores.shape, log_probs.shape[-1]
        # (B, W, V), then (B, W·V)
        total = (self.scores[:, :, None] + log_probs.view(rows, width, size)).flatten(1)
        num = min(num_beams if eos is None else 2 * num_beams, width * size)
        scores, flat = total.topk(num)
        origins, tokens = flat // size, flat % size  # (B, num) each
        row = torch.arange(rows, device=flat.device)[:, None]
        texts = torch.cat((self.texts[row, origins], tokens[:, :, None]), 2)  # (B, num, n + 1)
        covered = None if self.coverage is None else self.coverage[row, origins]
        return Texts(scores, texts, row * width + origins, covered)

    def ended(self, eos: int | None) -> Tensor:
        """(B, W): whether the last token is eos."""
        return self.texts[:, :, -1] == (-1 if eos is None else eos)

    def going_on(self, num_beams: int, eos: int | None) -> "Texts":
        """The best num_beams that have not ended; fewer where there are no more."""
        if eos is None:
            return self
        ended = self.ended(eos)
        num = min(num_beams, ended.shape[1] - int(ended.sum(1).max()))
        order = ended.int().sort(dim=1, stable=True).indices[:, :num]  # (B, W)
        row = torch.arange(len(order), device=order.device)[:, None]
        return Texts(*(None if x is None else x[row, order] for x in self))  # type: ignore[arg-type]

    def of_rows(self, rows: list[int]) -> "Texts":
        """Those of some rows."""
        return Texts(*(None if x is None else x[rows] for x in self))  # type: ignore[arg-type]


def processed(logits: Tensor, chain: list[Processor], prompt: Tensor, running: Texts) -> Tensor:
    """(B·W, V) after the processors, which read the prompt (B, T) and the running texts."""
    if not chain:
        return logits
    prompts = prompt.repeat_interleave(running.texts.shape[1], 0)  # (B·W, T)
    ids = torch.cat((prompts, running.texts.flatten(0, 1)), 1)  # (B·W, T + n)
    for process in chain:
        logits = process(ids, logits)
    return logits


def coverage(attention: Tensor) -> Tensor:
    """sum_i log min(a_i, 1) of summed attention (B, W, S) over the source tokens, (B, W).

    A pad has no attention in any text; clamped before the logarithm.
    """
    real = (attention > 0).any(1, keepdim=True)  # (B, 1, S)
    least = torch.finfo(attention.dtype).tiny
    return attention.clamp(least, 1).log().masked_fill(~real, 0.0).sum(-1)
