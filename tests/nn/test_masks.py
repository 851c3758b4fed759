"""Mask predicates against hand-written tables."""

import pytest
import torch

from micro_transformer.nn.masks import Mask
from micro_transformer.nn.visibility import (
    ALL,
    CAUSAL,
    EVERYTHING,
    NONE,
    Padded,
    Selective,
    Window,
    all_of,
)

T = True
F = False


def table(seen: torch.Tensor, row: int = 0) -> list[list[bool]]:
    """The mask (Tq, Tk) of one row of the batch."""
    return seen.expand(2, 1, 3, 3)[row, 0].tolist()


def test_causal_hides_the_future() -> None:
    dense = Mask(CAUSAL, torch.arange(3), torch.arange(3)).dense()
    assert table(dense) == [[T, F, F], [T, T, F], [T, T, T]]


def test_causal_aligns_a_chunk_to_the_last_keys() -> None:
    dense = Mask(CAUSAL, torch.tensor([2, 3]), torch.arange(4)).dense()
    assert dense.tolist() == [[T, T, T, F], [T, T, T, T]]


def test_padding_hides_keys_not_queries() -> None:
    pos = torch.tensor([[-1, 0, 1], [0, 1, 2]])
    dense = Mask(Padded(EVERYTHING), pos, pos).dense()
    assert table(dense, row=0) == [[F, T, T]] * 3
    assert table(dense, row=1) == [[T, T, T]] * 3


def test_pads_are_dead_queries_of_a_causal_mask() -> None:
    pos = torch.tensor([[-1, 0, 1]])
    mask = Mask(Padded(CAUSAL), pos, pos)
    assert table(mask.dense()) == [[F, F, F], [F, T, F], [F, T, T]]
    assert mask.fully_masked is not None
    assert mask.fully_masked[0, 0, :, 0].tolist() == [T, F, F]


def test_selective_blocks_a_key_from_all_but_itself() -> None:
    blocked = torch.tensor([[F, T, F]])
    pos = torch.arange(3)
    dense = Mask(Selective(blocked), pos, pos).dense()
    assert table(dense) == [[T, F, T], [T, T, T], [T, F, T]]


def test_selective_can_be_switched_off_by_leaving_it_out() -> None:
    pos = torch.arange(3)
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    on = Mask(all_of(CAUSAL, Selective(nothing)), pos, pos)
    assert table(on.dense()) == table(Mask(CAUSAL, pos, pos).dense())


def test_additive_is_zero_where_seen_and_never_minus_infinity_all_along_a_row() -> None:
    pos = torch.tensor([[-1, 0]])
    additive = Mask(Padded(CAUSAL), pos, pos).additive(torch.float32)[0, 0]
    assert additive.tolist() == [[0.0, 0.0], [float("-inf"), 0.0]]


def test_facts_need_no_look_into_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    def form(mask: Mask) -> torch.Tensor:
        raise AssertionError("the mask was formed")

    monkeypatch.setattr(Mask, "_form", form)
    for num_q, square, step in ((5, True, False), (1, False, True), (3, False, False)):
        mask = Mask.between(all_of(CAUSAL, Window(5)), range(5 - num_q, 5), range(5))
        assert (mask.pure_causal, mask.coverage is ALL) == (square, step)
        assert mask.fully_masked is None


@pytest.mark.parametrize("width", [3, 20])
def test_a_part_of_a_mask_knows_as_much(width: int) -> None:
    whole = Mask.between(all_of(CAUSAL, Window(width)), range(2, 8), range(8))
    for queries, keys in (
        (slice(0, 2), slice(0, 3)),
        (slice(1, 4), slice(3, 5)),
        (slice(4, 6), slice(0, 3)),
        (slice(0, 1), slice(4, 8)),
    ):
        part = whole.part(queries, keys)
        expected = whole.dense()[queries, keys]
        assert torch.equal(part.dense().expand_as(expected), expected)
        assert (part.coverage is ALL) == bool(expected.all())
        assert (part.coverage is NONE) == (not expected.any())
        fully_masked = ~expected.any(-1, keepdim=True)
        assert (
            not fully_masked.any()
            if part.fully_masked is None
            else torch.equal(part.fully_masked, fully_masked)
        )


def test_a_window_counts_the_query_itself() -> None:
    dense = Mask(all_of(CAUSAL, Window(2)), torch.arange(3), torch.arange(3)).dense()
    assert table(dense) == [[T, F, F], [T, T, F], [F, T, T]]
