"""Probes of experts against routers whose probabilities are known."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from micro_transformer.data.tokenizer import BOS, PAD
from micro_transformer.evals.experts import Experts, counted_flops
from micro_transformer.evals.routing import Routing, layer_name, routings
from tests.conftest import (
    build,
    random_ids,
    tiny_decoder,
    tiny_encoder,
    tiny_encoder_decoder,
    trainable_kernels,
)
from tests.evals.subjects import sentence_subject, tiny_subject, translation_subject


def table(net: torch.nn.Module, probabilities: Tensor) -> None:
    """Every router of the net gives these (V, E) by the id of its token, at any position."""
    read: list[Tensor] = []
    net.embedding.register_forward_pre_hook(lambda _, args: read.append(args[0].flatten()))

    def known(_module: torch.nn.Module, _args: object, found: Tensor) -> Tensor:
        ids = read[-1] if len(found) == len(read[-1]) else read[-1][read[-1] != PAD]
        return probabilities[ids]

    for name, module in net.named_modules():
        if name.endswith("probabilities"):
            module.register_forward_hook(known)


def one_hot(experts: Tensor, num: int = 4, sure: float = 0.7) -> Tensor:
    """(V,) -> (V, E): `sure` for the expert, 0.3 less for the next; the rest is even."""
    rest = (1 - sure - 0.2) / (num - 2)
    found = torch.full((len(experts), num), rest)
    found[torch.arange(len(experts)), experts] = sure
    found[torch.arange(len(experts)), (experts + 1) % num] = 0.2
    return found


def counted(net: torch.nn.Module, batches: list[Tensor], keep: int = 100) -> Routing:
    with torch.inference_mode(), routings(net.eval(), 50, keep) as found:
        for ids in batches:
            net(ids)
    return next(iter(found.values()))


def test_known_probabilities_give_their_figures() -> None:
    """Ids 5 to 8 go to expert 0 first and 1 second, 9 to 2 and 3: of ten tokens, eight and two."""
    net, experts = tiny_decoder(ffn="moe"), torch.zeros(50, dtype=torch.long)
    experts[9] = 2
    table(net, one_hot(experts))
    found = counted(net, [torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([[5, 5, 5, 5, 9]])])
    figures = found.figures()
    assert figures["shares"] == pytest.approx([0.4, 0.4, 0.1, 0.1])
    assert figures["first_shares"] == pytest.approx([0.8, 0, 0.2, 0])
    assert figures["cv"] == pytest.approx(0.15 / 0.25)
    assert figures["gini"] == pytest.approx(8 * 0.3 / 16 / (2 * 0.25))
    nats = -sum(p * math.log(p) for p in (0.7, 0.2, 0.05, 0.05))
    assert figures["entropy"] == pytest.approx(nats / math.log(4))
    bins = {0.05: 0.5, 0.2: 0.25, 0.7: 0.25}
    assert figures["histograms"]["probabilities"] == pytest.approx(_bins(bins), abs=1e-9)
    gates = {0.2 / 0.9: 0.5, 0.7 / 0.9: 0.5}
    assert figures["histograms"]["gates"] == pytest.approx(_bins(gates), abs=1e-9)
    assert figures["first_choices"] == [0, 0, 0, 0, 2, 0, 0, 0, 0, 2]
    assert found.top_tokens(0, 2) == [
        (5, pytest.approx(5 / 8), pytest.approx(10 / 8)),
        (6, pytest.approx(1 / 8), pytest.approx(10 / 8)),
    ]
    assert found.top_tokens(3, 5) == [(9, 1.0, pytest.approx(5.0))]


def _bins(values: dict[float, float]) -> list[float]:
    found = [0.0] * 20
    for value, share in values.items():
        found[int(value * 20 + 1e-6)] += share
    return found


def test_uniform_gates_have_entropy_one_and_sure_ones_none() -> None:
    routing = Routing(4, 1, 50, 10)
    routing.add(torch.full((3, 4), 0.25), torch.tensor([5, 6, 7]))
    assert routing.figures()["entropy"] == pytest.approx(1)
    routing = Routing(4, 1, 50, 10)
    routing.add(torch.eye(4), torch.tensor([5, 6, 7, 8]))
    figures = routing.figures()
    assert figures["entropy"] == 0 and figures["cv"] == figures["gini"] == 0
    assert figures["histograms"]["probabilities"][-1] == 0.25  # 1 is in the last bin


def test_an_expert_is_dead_over_the_whole_set_not_in_a_batch() -> None:
    """Expert 2 has nothing of the first batch and expert 3 one token of 200."""
    routing = Routing(4, 1, 50, 0)
    sure = torch.eye(4)
    routing.add(sure[torch.tensor([0, 1] * 50)], torch.full((100,), 5))
    assert routing.figures()["dead"] == 2
    routing.add(sure[torch.tensor([2] * 99 + [3])], torch.full((100,), 5))
    assert routing.figures()["dead"] == 1
    assert routing.ids == routing.first_choices == []


def test_pads_count_nowhere() -> None:
    """At either end of a row, and the BOS of a sentence does."""
    net = tiny_encoder(ffn="moe")
    rows = torch.tensor([[BOS, 5, 6, PAD, PAD], [PAD, BOS, 7, 8, 9]])
    together = counted(net, [rows])
    alone = counted(net, [rows[:1, :3], rows[1:, 1:]])
    assert together.num_tokens == 7 and together.ids == [BOS, 5, 6, BOS, 7, 8, 9]
    assert torch.equal(together.taken, alone.taken) and not together.taken[:, PAD].any()
    assert together.first_choices == alone.first_choices
    assert together.figures()["entropy"] == pytest.approx(alone.figures()["entropy"])


def test_a_soft_prompt_counts_nowhere() -> None:
    net = tiny_encoder(ffn="moe")
    build("adapter", "soft_prompt").insert(net)
    found = counted(net, [torch.tensor([[BOS, 5, 6, PAD], [BOS, 7, 8, 9]])])
    assert net.prefix.num_tokens and found.ids == [BOS, 5, 6, BOS, 7, 8, 9]


@pytest.mark.parametrize("kernel", trainable_kernels())
def test_counted_operations_are_those_predicted(kernel: str) -> None:
    """And attention, which is no part of the prediction, is q·k and its product with v."""
    ids = random_ids(1, 16)
    for net in (tiny_decoder(ffn="moe", attention=kernel), tiny_encoder(ffn="moe")):
        products, attention = counted_flops(net, ids, has_source=False)
        assert products == net.flops_per_token()
        assert attention == net.dims.num_layers * 2 * 2 * 16 * net.dims.d_model
    net = tiny_encoder_decoder(ffn="moe")
    assert counted_flops(net, ids, has_source=True)[0] == net.flops_per_token()


@pytest.mark.parametrize(
    "path, name",
    [
        ("stack.blocks.3.ffn.probabilities", "3"),
        ("stack.blocks.3.ffn.ffn.probabilities", "3"),
        ("encoder.blocks.0.ffn.probabilities", "encoder.0"),
    ],
)
def test_a_layer_is_named_by_its_place(path: str, name: str) -> None:
    assert layer_name(path) == name


def subject_of(kind: str, folder: Path):
    if kind == "decoder":
        return tiny_subject(folder, ffn="moe")
    if kind == "translation":
        return translation_subject(folder, ffn="moe")
    return sentence_subject(folder, kind, ffn="moe")


@pytest.mark.parametrize("kind", ["decoder", "translation", "sst2", "mlm"])
def test_a_whole_split_is_counted_once(kind: str, tmp_path: Path) -> None:
    subject = subject_of(kind, tmp_path)
    found = dict(Experts(kept=50, shown=4).run(subject))
    page = json.loads((tmp_path / "experts.json").read_text())
    layers, task = page["layers"], subject.task
    if kind == "decoder":
        expected = {len(task.tokens("val")) - 1}
    else:
        ends = {n: task.data.ends("val", n) for n in task.data.splits["val"]["columns"]
                if n in ("text", "source", "target")}  # fmt: skip
        per_row = {"source": 0}  # BOS
        expected = {int(e[-1]) + len(e) * per_row.get(n, 1) for n, e in ends.items()}
    assert {layer["tokens"] for layer in layers.values()} == expected
    assert list(layers) == (
        ["encoder.0", "encoder.1", "decoder.0", "decoder.1"]
        if kind == "translation"
        else ["0", "1"]
    )
    for layer in layers.values():
        assert sum(layer["shares"]) == pytest.approx(1)
        assert all(sum(h) == pytest.approx(1) for h in layer["histograms"].values())
        assert len(layer["first_choices"]) == 50 and len(layer["top_tokens"]) == 4
    assert found["experts/dead"] == sum(layer["dead"] for layer in layers.values())
    assert found["experts/share_min"] == min(min(layer["shares"]) for layer in layers.values())
    flops = page["flops_per_token"]
    assert flops["predicted"] == subject.model.flops_per_token()
    assert 1 <= flops["counted"] / flops["predicted"] < 1.2  # with rows that fill up groups
    assert all(f"experts/cv/{name}" in found for name in layers)


def test_of_a_dense_net_the_operations_alone_are_counted(tmp_path: Path) -> None:
    """So that it may be an arm of a sweep of mixtures."""
    subject = tiny_subject(tmp_path)
    found = dict(Experts(kept=50, shown=4).run(subject))
    counted, attention = found.values()
    assert counted == subject.model.flops_per_token() and attention > 0
    assert not (tmp_path / "experts.json").exists()


def test_rows_that_fill_up_groups_are_counted() -> None:
    """A few percent of those of the experts."""
    net = tiny_decoder(ffn="moe")
    counted, _ = counted_flops(net, random_ids(8, 128), has_source=False)
    assert 1 <= counted / net.flops_per_token() < 1.03
