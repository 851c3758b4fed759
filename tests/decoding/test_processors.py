"""Each processor against hand-computed values, and laws of all processors."""

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from micro_transformer.decoding import processors
from micro_transformer.decoding.processors import Processor

IDS = torch.tensor([[1, 2, 2, 3], [0, 0, 4, 4]])
ALL: dict[str, Processor] = {
    "repetition": processors.repetition(1.2),
    "frequency": processors.frequency(0.5, start=0),
    "presence": processors.presence(0.5, start=0),
    "temperature": processors.temperature(0.7),
    "top_k": processors.top_k(3),
    "top_p": processors.top_p(0.8),
    "typical": processors.typical(0.6),
    "min_p": processors.min_p(0.2),
    "no_repeat_ngram": processors.no_repeat_ngram(2),
}
PENALTIES = ("repetition", "frequency", "presence")
Warper = Callable[[Tensor, Tensor], Tensor]


def kept(logits: Tensor) -> list[list[int]]:
    """Per row, the tokens that were not removed."""
    return [row.isfinite().nonzero()[:, 0].tolist() for row in logits]


def of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


NONE = torch.zeros(1, 0, dtype=torch.long)


@pytest.mark.parametrize("name", ALL)
def test_a_processor_is_pure(name: str) -> None:
    """In-place writes to the logits once made another library's exclusion list a no-op."""
    logits = torch.randn(2, 6)
    before = logits.clone()
    out = ALL[name](IDS, logits)
    assert torch.equal(logits, before)
    assert out.shape == logits.shape and out.data_ptr() != logits.data_ptr()
    assert torch.equal(out, ALL[name](IDS, logits))


@pytest.mark.parametrize("name", ALL)
def test_rows_do_not_know_each_other(name: str) -> None:
    logits = torch.randn(2, 6)
    both = ALL[name](IDS, logits)
    for row in (slice(0, 1), slice(1, 2)):
        assert torch.equal(ALL[name](IDS[row], logits[row]), both[row])


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_never_rewards_and_touches_seen_tokens_only(name: str) -> None:
    for _ in range(20):
        logits = torch.randn(2, 6) * 5
        out = ALL[name](IDS, logits)
        seen = torch.zeros(2, 6, dtype=torch.bool)
        seen[0, [1, 2, 3]] = True
        seen[1, 4] = True  # 0 is a pad, no token
        assert (out[seen] < logits[seen]).all()
        assert torch.equal(out[~seen], logits[~seen])


def test_repetition_divides_positive_and_multiplies_negative_logits_once() -> None:
    out = processors.repetition(2.0)(torch.tensor([[1, 2, 2]]), torch.tensor([[3.0, 4.0, -4.0]]))
    assert out.tolist() == [[3.0, 2.0, -8.0]]


def test_repetition_equals_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    ids, logits = torch.randint(1, 9, (3, 7)), torch.randn(3, 9)
    oracle = transformers.RepetitionPenaltyLogitsProcessor(1.3)
    assert torch.equal(processors.repetition(1.3)(ids, logits), oracle(ids, logits.clone()))


def test_frequency_counts_and_presence_does_not_and_the_prompt_is_free() -> None:
    ids, logits = torch.tensor([[1, 1, 2, 2, 3]]), torch.zeros(1, 5)
    assert processors.frequency(0.5, start=2)(ids, logits).tolist() == [[0, 0, -1.0, -0.5, 0]]
    assert processors.presence(0.5, start=2)(ids, logits).tolist() == [[0, 0, -0.5, -0.5, 0]]


def test_temperature_divides() -> None:
    assert processors.temperature(0.5)(NONE, torch.tensor([[1.0, -2.0]])).tolist() == [[2.0, -4.0]]


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [2]), (2, [0, 2]), (3, [0, 1, 2, 3]), (4, [0, 1, 2, 3]), (99, None)]
)
def test_top_k_keeps_ties_and_may_pass_the_vocabulary(k: int, expected: list[int] | None) -> None:
    logits = torch.tensor([[3.0, 1.0, 5.0, 1.0, 0.0]])
    assert kept(processors.top_k(k)(NONE, logits)) == [expected or [0, 1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.1, [1]), (0.49, [1]), (0.51, [1, 3]), (0.74, [1, 3]), (0.76, [0, 1, 3]), (1.0, None)],
)
def test_top_p_keeps_the_token_that_crosses(p: float, expected: list[int] | None) -> None:
    """Probabilities 1/8, 1/2, 1/8 - e, 1/4, e: the smallest set with total >= p is kept."""
    e = 0.001
    logits = of(0.125, 0.5, 0.125 - e, 0.25, e)
    assert kept(processors.top_p(p)(NONE, logits)) == [expected or [0, 1, 2, 3, 4]]


def test_top_p_stops_where_the_mass_reaches_p_exactly() -> None:
    """Sums of halves and quarters are exact, so 1/2 reaches 0.5 and needs no second token."""
    logits = torch.tensor([[2.0, 1.0, 1.0]]) * math.log(2)  # 1/2, 1/4, 1/4
    probabilities = logits.softmax(-1)
    assert kept(processors.top_p(probabilities[0, 0].item())(NONE, logits)) == [[0]]


@pytest.mark.parametrize("share", [0.0, 0.25, 0.26, 0.5, 0.51, 1.0])
def test_min_p_is_relative_to_the_best(share: float) -> None:
    logits = of(0.5, 0.25, 0.125, 0.0625, 0.0625)
    probabilities = logits.exp()[0]
    expected = [i for i in range(5) if probabilities[i] >= share * probabilities[0] - 1e-12]
    assert kept(processors.min_p(share - 1e-9)(NONE, logits)) == [expected]


def test_filters_equal_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    logits = torch.randn(64, 50) * 3
    for ours, oracle in (
        (processors.top_k(7), transformers.TopKLogitsWarper(7)),
        (processors.top_p(0.83), transformers.TopPLogitsWarper(0.83)),
        (processors.min_p(0.07), transformers.MinPLogitsWarper(0.07)),
        (processors.typical(0.4), transformers.TypicalLogitsWarper(0.4)),
        (processors.typical(0.95), transformers.TypicalLogitsWarper(0.95)),
        (processors.temperature(0.7), transformers.TemperatureLogitsWarper(0.7)),
    ):
        torch.testing.assert_close(ours(NONE, logits), oracle(NONE, logits.clone()))


@pytest.mark.parametrize(
    ("mass", "expected"), [(0.1, [1]), (0.3, [0, 1]), (0.7, [0, 1]), (0.8, [0, 1, 2, 3])]
)
def test_typical_keeps_what_is_nearest_to_the_mean_surprise(
    mass: float, expected: list[int]
) -> None:
    """Probabilities 1/2, 1/4, 1/8, 1/8: surprises 1, 2, 3, 3 bits, entropy 1.75 bits."""
    assert kept(processors.typical(mass)(NONE, of(0.5, 0.25, 0.125, 0.125))) == [expected]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_no_ngram_occurs_twice_as_in_transformers(size: int) -> None:
    transformers = pytest.importorskip("transformers", reason="the oracle is not installed")
    oracle = transformers.NoRepeatNGramLogitsProcessor(size)
    for length in (1, 2, 6, 15):
        ids, logits = torch.randint(1, 4, (20, length)), torch.randn(20, 9)
        found = processors.no_repeat_ngram(size)(ids, logits)
        assert torch.equal(found, oracle(ids, logits.clone()))


def test_pads_are_part_of_no_ngram() -> None:
    logits = torch.zeros(2, 5)
    ids = torch.tensor([[0, 0, 0, 3], [3, 4, 2, 3]])
    assert kept(processors.no_repeat_ngram(2)(ids, logits)) == [[0, 1, 2, 3, 4], [0, 1, 2, 3]]


def test_a_row_without_another_token_may_repeat() -> None:
    ids, logits = torch.tensor([[1, 2, 3]]), torch.tensor([[-torch.inf, 1.0, 2.0, 3.0]])
    assert torch.equal(processors.no_repeat_ngram(1)(ids, logits), logits)


NEUTRAL: dict[str, Processor] = {
    "repetition": processors.repetition(1.0),
    "frequency": processors.frequency(0.0, start=0),
    "presence": processors.presence(0.0, start=0),
    "temperature": processors.temperature(1.0),
    "top_k": processors.top_k(300),
    "top_k of more": processors.top_k(10**12),
    "top_p": processors.top_p(1.0),
    "typical": processors.typical(1.0),
    "min_p": processors.min_p(0.0),
    "no_repeat_ngram of more": processors.no_repeat_ngram(10),
}
HARD = {
    "normal": lambda: 4 * torch.randn(2, 300),
    "flat": lambda: torch.zeros(2, 300),
    "steep": lambda: 100 * torch.randn(2, 300),
    "forbidden ids": lambda: torch.randn(2, 300).index_fill(1, torch.arange(5), float("-inf")),
    "in bf16": lambda: (4 * torch.randn(2, 300)).bfloat16(),
}


@pytest.mark.parametrize("kind", HARD)
@pytest.mark.parametrize("name", NEUTRAL)
def test_a_neutral_value_changes_no_bit(name: str, kind: str) -> None:
    logits = HARD[kind]()
    out = NEUTRAL[name](IDS, logits)
    assert out.dtype == logits.dtype and torch.equal(out, logits)


@pytest.mark.parametrize("p", [0.5, 0.999, 1 - 1e-6, 0.9999999, 1 - 1e-9, 1 - 1e-12])
@pytest.mark.parametrize("std", [0.0, 1.0, 4.0])
def test_top_p_keeps_exactly_the_smallest_set_also_close_to_one(p: float, std: float) -> None:
    """Against exact rational sums; a float32 cumsum is off by more than 1 - p."""
    logits = std * torch.randn(1, 2000)
    weights = [Fraction(w) for w in logits[0].double().softmax(-1).tolist()]
    order = sorted(range(2000), key=lambda i: (-weights[i], i))
    total, size = Fraction(0), 0
    while size < 2000 and total < Fraction(p):
        total += weights[order[size]]
        size += 1
    found = kept(processors.top_p(p)(NONE, logits))[0]
    assert abs(len(found) - size) <= (1 if 1 - p > 1e-10 else 20)
    assert set(found) <= set(order[: size + 20])


KNOBS = [5e-324, 1e-46, 1e-38, 1.0, 1e38, 1e308, float("inf")]


@pytest.mark.parametrize("knob", KNOBS)
def test_no_knob_makes_a_logit_that_is_no_number(knob: float) -> None:
    logits = HARD["forbidden ids"]()
    chains = (
        [processors.repetition(knob), processors.temperature(knob)],
        [processors.repetition(knob), processors.temperature(1e-308)],
        [processors.frequency(knob, start=0), processors.temperature(knob)],
        [processors.presence(-knob, start=0), processors.temperature(1e-308)],
    )
    for chain in chains:
        out = logits
        for process in chain:
            out = process(IDS, out)
        assert out[:, 5:].isfinite().all() and torch.isneginf(out[:, :5]).all()


@pytest.mark.parametrize("value", KNOBS)
def test_temperature_goes_from_the_best_token_to_all_alike(value: float) -> None:
    probabilities = processors.temperature(value)(NONE, torch.tensor([[0.0, 5.0, 4.0]])).softmax(-1)
    expected = {True: [0.0, 1.0, 0.0], False: [1 / 3] * 3}
    if value != 1:
        assert probabilities[0].tolist() == pytest.approx(expected[value < 1])
