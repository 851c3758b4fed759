"""Our Muon equals torch's, with a configurable dtype and matrices of equal shape in one batch."""

import pytest
import torch

from micro_transformer.training import muon
from micro_transformer.training.muon import Muon

SHAPES = [(16, 16), (16, 40), (40, 16), (16, 16), (24, 16), (1, 8)]
RATES = {"lr": 0.03, "weight_decay": 0.1}


def stepped(make, steps=4):
    """The matrices after several steps, with the same gradients for every optimizer."""
    draws = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(s, generator=draws)) for s in SHAPES]
    optimizer = make(weights)
    for step in range(steps):
        for i, weight in enumerate(weights):
            weight.grad = torch.randn(weight.shape, generator=draws)
            if (step, i) == (1, 3):
                weight.grad = None  # a part that this batch did not reach
        optimizer.step()
    return [w.detach() for w in weights], optimizer


def exact(steps=4):
    """Reference implementation of Muon after its paper: float64, one matrix at a time."""
    draws = torch.Generator().manual_seed(0)
    weights = [torch.randn(s, generator=draws).double() for s in SHAPES]
    momenta = [torch.zeros_like(w) for w in weights]
    for step in range(steps):
        for i, w in enumerate(weights):
            grad = torch.randn(w.shape, generator=draws).double()
            if (step, i) == (1, 3):
                continue
            momenta[i] = 0.95 * momenta[i] + 0.05 * grad
            x = 0.05 * grad + 0.95 * momenta[i]
            x = x / x.norm()
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            stretch = max(1, w.shape[0] / w.shape[1]) ** 0.5
            w.mul_(1 - RATES["lr"] * RATES["weight_decay"]).sub_(RATES["lr"] * stretch * x)
    return weights


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 3e-6), (torch.bfloat16, 1e-2)])
def test_a_step_is_that_of_the_paper_and_of_torch(dtype, tolerance):
    ours, _ = stepped(lambda weights: Muon(weights, **RATES, dtype=dtype))
    theirs, _ = stepped(lambda weights: torch.optim.Muon(weights, **RATES))
    for one, two, right in zip(ours, theirs, exact(), strict=True):
        torch.testing.assert_close(one.double(), right, rtol=0, atol=tolerance)
        torch.testing.assert_close(one, two, rtol=0, atol=1e-2)


def test_its_state_has_the_names_of_torch_and_is_taken_up():
    _, ours = stepped(lambda weights: Muon(weights, **RATES, dtype=torch.float32))
    _, theirs = stepped(lambda weights: torch.optim.Muon(weights, **RATES))
    one, two = ours.state_dict(), theirs.state_dict()
    assert one["param_groups"] == two["param_groups"] and one["state"].keys() == two["state"].keys()
    for index, entry in two["state"].items():
        torch.testing.assert_close(one["state"][index], entry)
    theirs.load_state_dict(one)


def test_matrices_of_a_shape_are_one_product_and_keep_their_own_values(monkeypatch):
    seen, orthogonal = [], muon.orthogonal
    monkeypatch.setattr(muon, "orthogonal", lambda x, *a: seen.append(x) or orthogonal(x, *a))
    stepped(lambda weights: Muon(weights, **RATES, dtype=torch.float32), steps=1)
    assert sorted(tuple(x.shape) for x in seen) == [
        (1, 1, 8),
        (1, 16, 24),
        (2, 16, 16),
        (2, 16, 40),
    ]
    for x in seen:
        alone = [orthogonal(each[None], torch.float32, KNOBS)[0] for each in x]
        torch.testing.assert_close(orthogonal(x, torch.float32, KNOBS), torch.stack(alone))


KNOBS = {"ns_coefficients": (3.4445, -4.7750, 2.0315), "eps": 1e-7, "ns_steps": 5}


def test_a_matrix_of_zeros_stays_as_it_is():
    zeros = torch.zeros(1, 4, 6)
    assert torch.equal(muon.orthogonal(zeros, torch.float32, KNOBS), zeros)


def test_an_expert_of_a_stack_is_updated_as_a_matrix_alone():
    """Tall and wide stacks, in a batch with matrices of their shape; also its state."""
    draws = torch.Generator().manual_seed(0)
    shapes = [(3, 16, 40), (2, 40, 16), (16, 40)]
    together = [torch.nn.Parameter(torch.randn(s, generator=draws)) for s in shapes]
    alone = [
        torch.nn.Parameter(m.clone()) for p in together for m in p.data.reshape(-1, *p.shape[-2:])
    ]
    optimizers = [Muon(each, **RATES, dtype=torch.float32) for each in (together, alone)]
    for _ in range(3):
        for p in together:
            p.grad = torch.randn(p.shape, generator=draws)
        matrices = [m for p in together for m in p.grad.reshape(-1, *p.shape[-2:])]
        for p, gradient in zip(alone, matrices, strict=True):
            p.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
    found = [m for p in together for m in p.data.reshape(-1, *p.shape[-2:])]
    for one, expected in zip(found, alone, strict=True):
        torch.testing.assert_close(one, expected.data, rtol=0, atol=1e-6)
