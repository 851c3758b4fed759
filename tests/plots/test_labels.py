"""Points bear their names: short, readable, and none over another."""

import itertools

import numpy as np
import pytest

from micro_transformer.plots.labels import MARK, Box, place_names, short_names
from micro_transformer.records.rows import collect
from micro_transformer.report.pareto_svg import drawings, front_file
from micro_transformer.report.study import study
from tests.made_records import make_record, make_sweep

FRAME = Box(220, 110, 440, 220)


@pytest.mark.parametrize("draw", range(12))
def test_names_cover_neither_points_nor_names(draw):
    rng = np.random.default_rng(draw)
    spread = (1, 0.1)[draw % 2]  # all over the frame, or in a heap
    points = [
        (220 + 400 * spread * x, 110 + 190 * spread * y) for x, y in rng.random((14, 2)) - 0.5
    ]
    names = ["n" * rng.integers(3, 12) for _ in points]
    found = place_names(points, names, (4.7, 10.0), FRAME)
    assert all(found), "a dozen names find room"
    marks = [Box(x, y, 2 * MARK, 2 * MARK) for x, y in points]
    assert not any(a.meets(b) for a, b in itertools.combinations([*found, *marks], 2)
                   if not (a in marks and b in marks))  # fmt: skip
    for box in found:
        assert abs(box.x - 220) + box.width / 2 <= 220 and abs(box.y - 110) + box.height / 2 <= 110


def names_of(factors):
    (board,) = collect(make_sweep(factors, seeds=(1,)))
    return short_names(board.rows)


def test_a_name_is_what_differs():
    assert names_of({"posenc": ["rope", "alibi"], "model": ["1m"]}) == ["rope", "alibi"]
    two = names_of({"posenc": ["rope", "none"], "cache": ["none", "paged"]})
    assert two == ["rope cache=none", "rope paged", "posenc=none cache=none", "posenc=none paged"]
    (board,) = collect([make_record(lr=lr) for lr in (0.01, 0.02)])
    assert short_names(board.rows) == ["lr=0.01", "lr=0.02"]


def test_every_point_of_the_trade_has_its_name():
    (board,) = collect(make_sweep({"posenc": ["rope", "alibi", "none"], "cache": ["a", "b"]}))
    drawing = drawings(study(board).fronts)[0]
    names = set(short_names(board.rows))
    assert {label.text for label in drawing.labels} == names
    svg = front_file(drawing)
    assert all(f">{name}</text>" in svg for name in names)


def test_the_line_of_the_front_joins_no_rows_that_differ_by_noise():
    """good and fast trade one for the other; near is fast's twin but for noise."""
    figures = {"good": (500, 5.0), "fast": (900, 5.5), "near": (903, 5.502), "poor": (450, 5.6)}
    noise = {"good": (0, 2, -1), "fast": (0, 9, -8), "near": (-9, 0, 8), "poor": (0, 1, -1)}
    records = []
    for (name, (speed, ppl)), seed in itertools.product(figures.items(), range(3)):
        record = make_record(seed, posenc=name)
        record.metrics["val/ppl"] = ppl + noise[name][seed] / 1000
        record.cost["decode/tokens_per_s"] = speed + noise[name][seed]
        records.append(record)
    points = study(collect(records)[0]).fronts[0].points
    assert [p.row.levels["posenc"] for p in points if p.nominal] == ["good", "fast", "near"]
    assert {p.row.levels["posenc"] for p in points if p.on_line} == {"good", "fast"}
    one = collect([r for r in records if r.seed == 0])[0]
    assert sum(p.on_line for p in study(one).fronts[0].points) == 1  # one seed joins nothing
