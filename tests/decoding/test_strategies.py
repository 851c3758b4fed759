"""Strategies on table steps, without a model."""

from unittest.mock import Mock

import pytest
import torch

from micro_transformer.build.measuring import build_strategy
from micro_transformer.decoding.base import PAD, Draws, without_holes
from micro_transformer.decoding.greedy import Greedy
from micro_transformer.decoding.sampling import Sampling, inverse_cdf
from micro_transformer.runs.planning import make_plan
from tests.conftest import build, facts, members
from tests.decoding.tables import draws, table_step

PROMPT = torch.tensor([[3, 1], [2, 4]])


def random_table(size: int = 8) -> torch.Tensor:
    table = torch.randn(size, size) * 2
    table[:, PAD] = float("-inf")
    return table


@pytest.mark.parametrize("name", members("decoding"))
def test_the_prompt_comes_first_and_the_seed_decides(name: str) -> None:
    strategy, step = build("decoding", name), table_step(random_table())
    out = strategy(step, PROMPT, 20, draws=draws(7))
    assert out.shape == (2, 22) and torch.equal(out[:, :2], PROMPT)
    assert torch.equal(strategy(step, PROMPT, 20, draws=draws(7)), out)
    other = strategy(step, PROMPT, 20, draws=draws(8))
    assert torch.equal(other, out) == facts("decoding", name)["deterministic"]


@pytest.mark.parametrize("name", members("decoding"))
def test_the_global_seed_is_left_alone(name: str) -> None:
    table, before = random_table(), torch.get_rng_state()
    build("decoding", name)(table_step(table), PROMPT, 5, draws=draws())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", [n for n in members("decoding") if n != "beam"])
def test_the_prompt_is_read_once_and_then_one_token_a_step(name: str) -> None:
    step = Mock(side_effect=table_step(random_table()))
    out = build("decoding", name)(step, PROMPT, 4, draws=draws())
    read = [call.args[0] for call in step.call_args_list]
    assert torch.equal(read[0], PROMPT)
    assert torch.equal(torch.cat(read[1:], 1), out[:, 2:-1])


def test_draws_follow_from_seed_row_and_step_alone() -> None:
    many = Draws(5, range(40)).uniform(30)
    assert torch.equal(Draws(5, [7, 3]).uniform(12), many[[7, 3], :12])
    assert many.unique().numel() == many.numel() and ((many >= 0) & (many < 1)).all()
    assert not torch.isin(Draws(6, range(40)).uniform(30), many).any()


@pytest.mark.parametrize("share", [0.0, 0.3, 1 - 2**-52])
def test_no_draw_is_a_token_of_probability_0(share: float) -> None:
    logits = torch.tensor([[-torch.inf, 0.1, -torch.inf, 0.3, -torch.inf]])
    assert inverse_cdf(logits, torch.tensor([share], dtype=torch.float64)).item() in (1, 3)


def test_greedy_takes_the_best_and_of_equal_ones_the_lowest() -> None:
    table = torch.tensor([[0.0, 1, 2], [0, 5, 5], [0, 1, 0]])
    out = Greedy()(table_step(table), torch.tensor([[2]]), 3, draws=draws())
    assert out.tolist() == [[2, 1, 1, 1]]


@pytest.mark.parametrize(
    "strategy",
    [Sampling(top_k=1), Sampling(temperature=0.0), Sampling(top_p=1e-6), Sampling(min_p=1.0)],
)
def test_sampling_the_one_best_token_is_greedy(strategy: Sampling) -> None:
    step = table_step(random_table())
    expected = Greedy()(step, PROMPT, 30, draws=draws())
    assert torch.equal(strategy(step, PROMPT, 30, draws=draws()), expected)


@pytest.mark.parametrize(
    ("strategy", "weights"),
    [
        (Sampling(), [0, 8, 4, 2, 1, 1]),
        (Sampling(temperature=0.5), [0, 64, 16, 4, 1, 1]),
        (Sampling(top_k=2), [0, 8, 4, 0, 0, 0]),
        (Sampling(top_p=0.8), [0, 8, 4, 2, 0, 0]),
        (Sampling(min_p=0.2), [0, 8, 4, 2, 0, 0]),
        (Sampling(top_k=3, top_p=0.6), [0, 8, 4, 0, 0, 0]),
        (Sampling(repetition_penalty=2.0), [0, 8**0.5, 4, 2, 1, 1]),
    ],
)
def test_draws_follow_the_distribution(strategy: Sampling, weights: list[float]) -> None:
    """Chi-square test of 20,000 draws; tokens of probability 0 are never drawn."""
    logits = torch.tensor([0.0, 8, 4, 2, 1, 1]).log()
    prompt = torch.ones(20_000, 1, dtype=torch.long)
    out = strategy(table_step(logits.expand(6, 6)), prompt, 1, draws=draws(3, 20_000))
    counts = torch.bincount(out[:, 1], minlength=6).double()
    expected = torch.tensor(weights).double() / sum(weights) * 20_000
    assert (counts[expected == 0] == 0).all()
    some = expected > 0
    chi_square = ((counts - expected)[some] ** 2 / expected[some]).sum().item()
    assert chi_square < 25.7  # p = 1e-4 at 5 degrees of freedom


def test_penalties_come_before_temperature_and_filters() -> None:
    """Token 1 has the highest logit; with top_k=1 a penalty must be able to exclude it."""
    table = torch.tensor([0.0, 2.0, 1.9]).expand(3, 3)
    strategy = Sampling(temperature=0.1, top_k=1, presence_penalty=0.2)
    out = strategy(table_step(table), torch.tensor([[1]]), 3, draws=draws())
    assert out.tolist() == [[1, 1, 2, 1]]  # the prompt's 1 is free, the generated one is not


@pytest.mark.parametrize("kept", ["1111", "0111", "1011", "0010", "1000", "0000", "0110100101"])
def test_rows_that_end_are_replaced_by_the_last_ones(kept: str) -> None:
    """Every kept row is there once, and moves only from a place past the end."""
    mask = torch.tensor([letter == "1" for letter in kept])
    parents = without_holes(mask)
    assert sorted(parents.tolist()) == mask.nonzero()[:, 0].tolist()
    moved = (parents != torch.arange(len(parents))).nonzero()[:, 0]
    assert (parents[moved] >= len(parents)).all()
    assert not mask[: len(parents)][moved].any()


def test_rows_end_at_eos_and_all_of_them_end_the_loop() -> None:
    table = torch.full((6, 6), -9.0)
    for last, following in ((3, 4), (4, 5), (1, 2), (2, 5), (5, 3)):
        table[last, following] = 9.0
    step = Mock(side_effect=table_step(table))
    out = Greedy()(step, torch.tensor([[3, 3], [1, 4]]), 10, draws=draws(), eos=5)
    assert out.tolist() == [[3, 3, 4, 5], [1, 4, 5, PAD]]
    assert step.call_count == 2
    unending = Greedy()(table_step(table), torch.tensor([[3, 3]]), 4, draws=draws())
    assert unending.tolist() == [[3, 3, 4, 5, 3, 4]]


@pytest.mark.parametrize("knobs", [{"top_p": 1.0}, {"min_p": 0.0}, {"top_k": 10**6}])
def test_a_filter_that_is_off_changes_no_draw(knobs: dict[str, float]) -> None:
    step = table_step(random_table())
    plain = Sampling()(step, PROMPT, 40, draws=draws(3))
    assert torch.equal(Sampling(**knobs)(step, PROMPT, 40, draws=draws(3)), plain)


@pytest.mark.parametrize("value", [5e-324, 1e-46, 1e-38, 0.0])
def test_the_lowest_temperatures_are_greedy(value: float) -> None:
    step = table_step(random_table())
    found = Sampling(temperature=value)(step, PROMPT, 30, draws=draws())
    assert torch.equal(found, Greedy()(step, PROMPT, 30, draws=draws()))


@pytest.mark.parametrize("name", members("decoding"))
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_row_without_a_best_token_is_an_error_not_a_text(name: str, bad: float) -> None:
    table = random_table()
    table[1, :] = bad
    with pytest.raises(ValueError, match="^logits: ") as caught:
        build("decoding", name)(table_step(table), PROMPT, 5, draws=draws())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words, knob",
    [
        ("decoding=top_k decoding.top_k=21", "top_k"),
        ("decoding=beam decoding.num_beams=21", "num_beams"),
    ],
)
def test_a_knob_above_the_vocabulary_is_said_to_keep_all(
    words: str, knob: str, caplog: pytest.LogCaptureFixture
) -> None:
    (job,) = make_plan(words.split()).jobs
    for size, said in ((21, []), (20, [f"decoding.{knob}=21: exceeds the vocabulary of 20"])):
        caplog.clear()
        build_strategy(job.config, size)
        assert [line.split(", so all")[0] for line in caplog.messages] == said
