"""A visibility's answer for a range agrees with its tensor, for every member of the family."""

import random

import pytest
import torch

from micro_transformer.nn.cache.sink import Recent, Sinks
from micro_transformer.nn.cache.sliding import LastKeys
from micro_transformer.nn.visibility import (
    ALL,
    CAUSAL,
    EVERYTHING,
    NONE,
    Coverage,
    Padded,
    Selective,
    Visibility,
    Wanted,
    Window,
    all_of,
    visible_range,
)
from tests.conftest import build, members

LONGEST = 24
PATTERNS = {f"pattern={name}": build("pattern", name) for name in members("pattern")}
BLOCKED = torch.rand(1, 2 * LONGEST, generator=torch.Generator().manual_seed(0)) < 0.3
MEMBERS: dict[str, Visibility] = {
    **PATTERNS,
    "everything": EVERYTHING,
    "causal": CAUSAL,
    "window": Window(4),
    "last keys": LastKeys(3),
    "sinks": Sinks(2, 5),
    "recent": Recent(5, 2),
    "selective": Selective(BLOCKED),
}
JOINED = MEMBERS | {f"causal, {name}": all_of(CAUSAL, each) for name, each in MEMBERS.items()}
JOINED |= {
    "two windows": all_of(CAUSAL, Window(5), Window(9)),
    "sinks of a pattern": all_of(CAUSAL, PATTERNS["pattern=sliding"], Sinks(2, 5)),
}
EXACT = ("everything", "causal", "window", "causal, window", "pattern=full", "pattern=sliding")
EXACT += ("causal, pattern=full", "causal, pattern=sliding", "two windows")


def dense(visibility: Visibility, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    seen = visibility.visible(torch.tensor(0), torch.tensor(0), q[:, None], k[None])
    return seen.expand(len(q), len(k))


def of(side: range) -> torch.Tensor:
    return torch.arange(side.start, side.stop)


def some_range() -> range:
    start = random.randrange(LONGEST)
    return range(start, start + random.randint(1, LONGEST))


def check(answer: Coverage, seen: torch.Tensor, exact: bool) -> None:
    assert answer is not NONE or not seen.any()
    assert answer is not ALL or seen.all()
    if exact:
        assert (answer is NONE, answer is ALL) == (not seen.any(), bool(seen.all()))


@pytest.mark.parametrize("name", JOINED)
def test_coverage_agrees_with_the_dense_mask(name: str) -> None:
    visibility = JOINED[name]
    for _ in range(300):
        q, k = some_range(), some_range()
        seen = dense(visibility, of(q), of(k))
        check(visibility.coverage(q, k), seen, exact=name in EXACT)
        inner = visibility.within(q, k)
        assert torch.equal(dense(inner, of(q), of(k)), seen)
        kept = visible_range(visibility, q, k)
        outside = torch.tensor([at not in kept for at in k])
        assert not seen[:, outside].any()
        if name in EXACT and seen.any():
            assert seen[:, k.index(kept[0])].any() and seen[:, k.index(kept[-1])].any()


@pytest.mark.parametrize("name", JOINED)
def test_ranges_hold_every_visible_key_once(name: str) -> None:
    for _ in range(100):
        q, k = some_range(), some_range()
        seen = dense(JOINED[name], of(q), of(k)).any(0)
        parts = JOINED[name].ranges(q, k)
        columns = [at for part in parts for at in part]
        assert columns and columns == sorted(set(columns)) and set(columns) <= set(k)
        assert {at for at, one in zip(k, seen, strict=True) if one} <= set(columns)


def test_a_window_that_hides_nothing_leaves_the_causal_mask() -> None:
    visibility = all_of(CAUSAL, Window(9))
    assert visibility.within(range(9), range(9)) == CAUSAL
    assert visibility.within(range(10), range(10)) == visibility
    assert visibility.within(range(8, 9), range(9)) == EVERYTHING


@pytest.mark.parametrize("name", JOINED)
def test_with_pads_a_range_of_columns_is_answered_for_any_number_of_them(name: str) -> None:
    visibility = Padded(JOINED[name])
    for _ in range(300):
        length, pads = LONGEST, random.randrange(LONGEST)
        pos = (torch.arange(length) - pads).clamp(min=-1)
        q = range(random.randrange(length), length)
        k = range(random.randrange(length), length)
        q, k = q[: random.randint(1, len(q))], k[: random.randint(1, len(k))]
        seen = dense(visibility, pos[q.start : q.stop], pos[k.start : k.stop])
        seen = seen[pos[q.start : q.stop] >= 0]  # the outputs of pads are not read
        check(visibility.coverage(q, k), seen, exact=False)


def test_with_left_pads_what_a_window_hides_is_known() -> None:
    """Otherwise a padded batch would read every block of a cache at each step."""
    wanted = Wanted(Padded(all_of(CAUSAL, Window(5))), range(13, 14), range(14))
    assert (wanted.columns, wanted.blocks(4)) == (range(9, 14), [2, 3])


@pytest.mark.parametrize("name", JOINED)
def test_a_wanted_block_is_one_with_a_visible_column(name: str) -> None:
    visibility = JOINED[name]
    for _ in range(50):
        length, size = random.randint(1, LONGEST), random.randint(1, 6)
        q, k = range(random.randrange(length), length), range(length)
        seen = dense(visibility, of(q), of(k)).any(0)
        blocks = Wanted(visibility, q, k).blocks(size)
        visible = {at // size for at in k if seen[at]}
        assert visible <= set(blocks)
        if name in EXACT:
            assert visible == set(blocks)
