"""What the routers of a mixture of experts do over a whole split, counted batch by batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from micro_transformer.evals.probes import heard
from micro_transformer.nn.arch.base import Net
from micro_transformer.nn.padding import PAD
from micro_transformer.records.expert_files import BINS
from micro_transformer.stats.load_balance import dead, gini, variation

# B batch, T tokens, N real tokens of a batch, E experts, k of them per token, V vocabulary size

SEAM = "probabilities"
PROMPT = -1  # id given to vectors of a soft prompt


class Routing:
    """The choices of one router. Its size does not grow with the split.

    keep: N first tokens whose ids and experts of highest probability are kept.
    """

    def __init__(self, num_experts: int, top_k: int, vocab_size: int, keep: int):
        self.top_k, self.keep = top_k, keep
        self.taken = torch.zeros(num_experts, vocab_size, dtype=torch.long)  # tokens by expert, id
        self.first = torch.zeros(num_experts, dtype=torch.long)  # first choices
        self.histograms = {
            name: torch.zeros(BINS, dtype=torch.long) for name in ("probabilities", "gates")
        }
        self.nats, self.num_tokens = 0.0, 0
        self.ids: list[int] = []
        self.first_choices: list[int] = []

    def add(self, probabilities: Tensor, ids: Tensor) -> None:
        """(N, E), (N,)."""
        chosen = probabilities.topk(self.top_k, -1)  # as the mixture chooses
        gates = chosen.values / chosen.values.sum(-1, keepdim=True)
        experts, ids = chosen.indices.cpu(), ids.cpu()
        num, vocab = self.taken.shape
        pairs = (experts * vocab + ids[:, None]).flatten()  # (k N,)
        self.taken += torch.bincount(pairs, minlength=num * vocab).view(num, vocab)
        self.first += torch.bincount(experts[:, 0], minlength=num)
        for name, values in (("probabilities", probabilities), ("gates", gates)):
            bins = (values.cpu() * BINS).long().clamp(max=BINS - 1).flatten()
            self.histograms[name] += torch.bincount(bins, minlength=BINS)
        self.nats += float(torch.special.entr(probabilities.double()).sum())
        self.num_tokens += len(ids)
        room = self.keep - len(self.ids)
        self.ids += ids[:room].tolist()
        self.first_choices += experts[:room, 0].tolist()

    @property
    def shares(self) -> Tensor:
        """(E,) float64: share of all choices."""
        return _shares(self.taken.sum(1))

    def figures(self) -> dict[str, Any]:
        """Loads, their balance, histograms as shares, and the entropy of the router over ln E."""
        shares = self.shares
        most = torch.tensor(float(len(shares))).log().item()
        return {
            "shares": shares.tolist(),
            "first_shares": _shares(self.first).tolist(),
            "cv": variation(shares),
            "gini": gini(shares),
            "dead": dead(shares),
            "entropy": self.nats / self.num_tokens / most,
            "histograms": {name: _shares(n).tolist() for name, n in self.histograms.items()},
            "first_choices": self.first_choices,
        }

    def top_tokens(self, expert: int, num: int) -> list[tuple[int, float, float]]:
        """(id, share of the expert's tokens, lift) of the ids that tell its tokens from all best:
        by share · ln lift, their part of KL(its tokens | all tokens). Lift: that share over the
        share of all tokens, at least 1. Empty for an expert without tokens."""
        own, every = _shares(self.taken[expert]), _shares(self.taken.sum(0))
        part = torch.special.xlogy(own, own / every.clamp(min=1e-300))
        order = own.argsort(descending=True, stable=True)
        best = order[part[order].argsort(descending=True, stable=True)][:num]
        pairs = ((i, float(own[i]), float(every[i])) for i in best.tolist())
        return [(i, a, a / b) for i, a, b in pairs if a and a >= b]


@contextmanager
def routings(model: Net, vocab_size: int, keep: int) -> Iterator[dict[str, Routing]]:
    """Context manager in which all that the model reads is counted: path of a router -> Routing,
    complete when it ends. Pads and soft prompts count nowhere."""
    found: dict[str, Routing] = {}
    read = torch.empty(0, dtype=torch.long)  # the ids (B, T) that the next routers see

    def embedded(_module: nn.Module, args: tuple[Tensor]) -> None:
        nonlocal read
        (read,) = args

    def prompted(prefix: nn.Module, _args: Any, _out: Any) -> None:
        nonlocal read
        read = F.pad(read, (prefix.num_tokens, 0), value=PROMPT)  # type: ignore[arg-type]

    def routed(path: str, probabilities: Tensor) -> None:
        ids = read.flatten()
        if len(probabilities) < len(ids):  # pads were not routed
            ids = ids[ids != PAD]
        is_text = (ids != PAD) & (ids != PROMPT)
        if path not in found:
            mixture: Any = model.get_submodule(path.rpartition(".")[0])
            found[path] = Routing(probabilities.shape[-1], mixture.top_k, vocab_size, keep)
        found[path].add(probabilities[is_text], ids[is_text])

    handles = [
        model.embedding.register_forward_pre_hook(embedded),
        model.prefix.register_forward_hook(prompted),
    ]
    try:
        with heard(model, (SEAM,), routed):
            yield found
    finally:
        for handle in handles:
            handle.remove()


def layer_name(path: str) -> str:
    """`3` of stack.blocks.3.ffn.probabilities, `encoder.3` where there are two stacks."""
    return path.partition(".ffn")[0].replace("blocks.", "").removeprefix("stack.")


def _shares(counts: Tensor) -> Tensor:
    return counts.double() / counts.sum().clamp(min=1)
