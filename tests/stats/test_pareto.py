"""Fronts and power laws on figures whose answer is plain."""

import numpy as np
import pytest

from micro_transformer.records.metrics import PPL, TOKENS_PER_S
from micro_transformer.records.rows import collect
from micro_transformer.stats.pareto import pareto
from micro_transformer.stats.power_law import power_law
from tests.made_records import make_record


def points(table):
    """config -> (speed, ppl) per seed; the point of each."""
    records = []
    for name, figures in table.items():
        for seed, (speed, ppl) in enumerate(figures):
            record = make_record(seed, posenc=name)
            record.metrics["val/ppl"] = ppl
            record.cost["decode/tokens_per_s"] = speed
            records.append(record)
    (board,) = collect(records)
    found = pareto(board, TOKENS_PER_S, PPL, board.settings[0])
    return {p.row.levels["posenc"]: p for p in found}


def test_clear_cases_are_told_apart():
    found = points({
        "fast": [(900, 5.50), (903, 5.51), (898, 5.49)],
        "good": [(500, 5.00), (502, 5.01), (499, 4.99)],
        "poor": [(450, 5.60), (452, 5.61), (449, 5.59)],
        "near": [(890, 5.50), (912, 5.52), (880, 5.51)],
    })  # fmt: skip
    assert {k: p.standing for k, p in found.items()} == {
        "fast": "perhaps", "good": "on the front", "poor": "dominated", "near": "perhaps"
    }  # fmt: skip
    assert [k for k, p in found.items() if p.nominal] == ["fast", "good"]


def test_equal_quality_leaves_the_cost_to_decide():
    same = [5.0, 5.1, 5.2]
    found = points({
        "slow": list(zip([100, 101, 102], same, strict=True)),
        "fast": list(zip([200, 201, 202], same, strict=True)),
    })  # fmt: skip
    assert (found["slow"].standing, found["fast"].standing) == ("dominated", "on the front")


def test_one_seed_is_never_sure():
    found = points({"a": [(100, 5.0)], "b": [(200, 4.0)]})
    assert {p.standing for p in found.values()} == {"perhaps"}
    assert found["b"].nominal and not found["a"].nominal


def test_nominal_front_equals_a_double_loop():
    draw = np.random.default_rng(0)
    table = {f"c{i}": [tuple(draw.normal((500, 5), (100, 1)))] for i in range(60)}
    for name, p in points(table).items():
        ((speed, ppl),) = table[name]
        beaten = any(
            s >= speed and q <= ppl and (s, q) != (speed, ppl) for ((s, q),) in table.values()
        )
        assert p.nominal is not beaten


def test_a_power_law_is_found_with_its_error():
    sizes = [1e6, 4e6, 12e6, 30e6]
    exact = power_law(sizes, [20 * n**-0.07 for n in sizes])
    assert exact.exponent == pytest.approx(-0.07) and exact.scale == pytest.approx(20)
    assert exact.high - exact.low < 1e-7
    rough = power_law(sizes * 2, [20 * n**-0.07 * e for n, e in zip(sizes * 2, [1.0, 1.1, 0.95, 1.0] * 2, strict=True)])  # fmt: skip # noqa: E501
    assert rough.low < rough.exponent < rough.high and rough.sizes == 4
    assert power_law([1e6, 4e6], [5.0, 4.0]) is None
