"""What the experts of a mixture do: loads, gates, tokens, and FLOPs as counted."""

import json
import logging
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from micro_transformer.config.knobs import Count
from micro_transformer.data.tokenizer import FIRST, SPECIALS, Tokenizer
from micro_transformer.disk import write_file
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.evals.probes import with_weights
from micro_transformer.evals.routing import Routing, layer_name, routings
from micro_transformer.hashing import digest
from micro_transformer.nn.arch.base import Net
from micro_transformer.records.run_record import EXPERTS
from micro_transformer.stats.load_balance import DEAD
from micro_transformer.wording import _

# B batch, T tokens

log = logging.getLogger(__name__)
COUNTED = 4096  # tokens over which FLOPs are counted, about


class Experts(Measure):
    """Loads of the experts over the validation split as the task scores it, and of each layer:
    histograms, the tokens of each expert and the first choice of the first tokens, in experts.json.

    Of a dense net the FLOPs alone. kept: tokens whose first choices are written, for the agreement
    over seeds. shown: tokens per expert.
    """

    of_experts = True

    def __init__(self, *, kept: Count, shown: Count):
        self.kept, self.shown = kept, shown

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields the least and the largest share of any layer and its dead experts, summed over the
        layers; CV and Gini of the loads and entropy of the router, each layer's and the mean, none
        of them for a dense net; FLOPs per token."""
        task = subject.task
        with routings(subject.model, task.vocab_size, self.kept) as found:
            task.score(subject.model, "val")
        layers = {layer_name(path): self._layer(r, task.tokenizer) for path, r in found.items()}
        flops = self._flops(subject)
        if layers:
            page = {"dead_below": DEAD, "flops_per_token": flops, "layers": layers}
            write_file(subject.folder / EXPERTS, json.dumps(page).encode())
            yield from _summary(layers)
        else:
            log.info(_("experts: the net is dense, so its FLOPs alone are counted"))
        yield "experts/flops_per_token_counted", flops["counted"]
        yield "experts/attention_flops_per_token", flops["attention"]

    def _layer(self, routing: Routing, tokenizer: Tokenizer) -> dict[str, Any]:
        top = [
            [
                {"token": _text(tokenizer, i), "share": share, "lift": lift}
                for i, share, lift in routing.top_tokens(expert, self.shown)
            ]
            for expert in range(len(routing.shares))
        ]
        own = {"tokens": routing.num_tokens, "top_k": routing.top_k, "text": digest(routing.ids)}
        return {**own, **routing.figures(), "top_tokens": top}

    def _flops(self, subject: EvalContext) -> dict[str, float]:
        """Of random tokens, as many as a batch has but at most COUNTED: the rows that fill up the
        groups of experts are counted, and their share falls with the number of tokens."""
        context = subject.recipe.context
        rows = max(1, min(subject.recipe.batch_size, COUNTED // context))
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(FIRST, subject.task.vocab_size, (rows, context), generator=draw)
        ids = ids.to(subject.device)
        has_source = "source_target" in subject.task.gives
        counted, attention = counted_flops(subject.model, ids, has_source=has_source)
        return {
            "predicted": subject.model.flops_per_token(),
            "counted": counted,
            "attention": attention,
            "context": context,
        }


def counted_flops(net: Net, ids: Tensor, *, has_source: bool) -> tuple[float, float]:
    """FLOPs per token of a forward pass over ids (B, T), also as the source of a net that reads
    one: of products with weights, which `Net.flops_per_token` predicts, and of attention, in which
    every query meets every key.

    With gradients and the manual kernel: torch does not count the faster products without.
    """
    net, reader = with_weights(net), {}
    with torch.enable_grad(), FlopCounterMode(display=False) as counter:
        if has_source:
            reader["memory"] = net.encode(ids)  # type: ignore[operator]
        net.logits(net.hidden(ids, **reader))
    within = [sum(n.values()) for path, n in counter.get_flop_counts().items() if _is_kernel(path)]
    attention, num = sum(within), ids.numel()
    return (counter.get_total_flops() - attention) / num, attention / num


def _is_kernel(path: str) -> bool:
    return path.rpartition(".")[2] == "kernel"


def _summary(layers: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, float]]:
    shares = [share for layer in layers.values() for share in layer["shares"]]
    yield "experts/share_min", min(shares)
    yield "experts/share_max", max(shares)
    yield "experts/dead", sum(layer["dead"] for layer in layers.values())
    for name in ("cv", "gini", "entropy"):
        yield f"experts/{name}", fmean(layer[name] for layer in layers.values())
    for name in ("cv", "entropy"):
        for number, layer in layers.items():
            yield f"experts/{name}/{number}", layer[name]


def _text(tokenizer: Tokenizer, token: int) -> str:
    return SPECIALS[token] if token < FIRST else tokenizer.decode([token])
