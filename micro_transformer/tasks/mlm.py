"""Masked language modelling of sentences (Devlin et al., 2019): which tokens were hidden?"""

from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.config.knobs import Share
from micro_transformer.data.length_buckets import pad_right
from micro_transformer.data.masking import masked
from micro_transformer.data.prepared_dataset import open_prepared
from micro_transformer.data.tokenizer import BOS, PAD
from micro_transformer.seeds import stream
from micro_transformer.tasks.base import evaluating
from micro_transformer.tasks.sentence_task import SentenceTask
from micro_transformer.tasks.token_prediction import mean_nll, perplexity

# B sentences, T tokens, N selected tokens, V vocabulary size


class Masked(NamedTuple):
    """Sentences as the net reads them, and the selected tokens as they were, PAD elsewhere."""

    ids: Tensor  # (B, T)
    targets: Tensor  # (B, T)


class MaskedLM(SentenceTask):
    """Sentences of film reviews and of Tatoeba. The model is called as model(ids, at=selected) ->
    (N, V) logits of the selected tokens.

    mask_share: probability that a token of text is selected (see data/masking.py), drawn anew in
    each epoch; loss and score are over selected tokens alone. Those of an evaluation are fixed.
    """

    corpus = "mlm"
    splits = "train val"
    gives = ("sentences", "masked_tokens")

    def __init__(
        self,
        data_root: Path | str,
        *,
        tokenizer: Literal["char", "byte", "bpe_1k", "bpe_4k"] = "bpe_4k",
        mask_share: Share = 0.15,
    ) -> None:
        self.mask_share = mask_share
        super().__init__(open_prepared(data_root, self.corpus, {"tokenizer": tokenizer}))

    def batch_of(
        self, rows: np.ndarray, seed: int, step: int, device: torch.device | str
    ) -> Masked:
        ids = pad_right([self.sentence("train", int(row)) for row in rows]).numpy()
        draw = np.random.default_rng(stream(seed, "masks", step))
        pair = masked(ids, draw, self.mask_share, self.vocab_size)
        return Masked(*(torch.from_numpy(each).to(device) for each in pair))

    def num_scored(self, batch: Masked) -> Tensor:
        return (batch.targets != PAD).sum()

    def loss(self, model: nn.Module, batch: Masked, label_smoothing: float = 0.0) -> Tensor:
        selected = batch.targets != PAD
        logits = model(batch.ids, at=selected)
        return mean_nll(logits[None], batch.targets[selected][None], label_smoothing)

    def score(self, model: nn.Module, split: str = "val") -> dict[str, float]:
        """loss (nats per selected token), ppl, and accuracy (share of selected tokens that are the
        most likely one)."""
        device = next(model.parameters()).device
        total, hits, num = 0.0, 0, 0
        with evaluating(model), torch.autocast(device.type, enabled=False):
            for batch in self._fixed(split):
                ids, targets = (each.to(device) for each in batch)
                selected = targets != PAD
                logits, wanted = model(ids, at=selected).float(), targets[selected]
                total += float(F.cross_entropy(logits, wanted, reduction="sum"))
                hits += int((logits.argmax(-1) == wanted).sum())
                num += len(wanted)
        loss = total / max(1, num)
        return {"loss": loss, "ppl": perplexity(loss), "accuracy": hits / max(1, num)}

    @lru_cache(maxsize=4)  # noqa: B019  (a run opens one task and keeps it)
    def _fixed(self, split: str) -> list[Masked]:
        """The masked sentences of a split that every model is scored on, whatever its seed."""
        draw = np.random.default_rng(stream(0, "masks", "fixed", split))
        tokens = np.asarray(self.data.tokens(split)).astype(np.int64)
        pair = masked(tokens, draw, self.mask_share, self.vocab_size)
        ends = self.data.ends(split)

        def rows(flat: np.ndarray, numbers: np.ndarray, first: int) -> Any:
            starts = [ends[i - 1] if i else 0 for i in numbers]
            pieces = [flat[a : ends[i]] for a, i in zip(starts, numbers, strict=True)]
            return pad_right([np.r_[first, piece] for piece in pieces])

        read, asked = pair
        return [Masked(rows(read, n, BOS), rows(asked, n, PAD)) for n in self.in_order(split)]
