"""Fine-tunings of several seeds that share one pre-trained net are told from those that do not."""

import pytest

from micro_transformer.records.pretrained import shared_base_seed
from micro_transformer.records.rows import collect
from micro_transformer.report.study import study
from tests.made_records import make_sweep

ONE, OLD = {"seed": 42, "train": {}}, {"train": {}}  # before `base`, a base had the seed of its run


@pytest.mark.parametrize(
    ("origins", "expected"),
    [
        ((ONE, ONE), 42),
        ((ONE, {"seed": 7}), None),
        ((ONE, None), None),
        ((OLD, OLD), None),
        ((None, None), None),
        ((ONE,), None),  # one seed has no interval
        ((), None),
    ],
)
def test_one_pre_trained_net_is_named_by_its_seed(origins, expected):
    records = make_sweep({"posenc": ["rope"]}, seeds=tuple(range(len(origins)))) if origins else []
    for record, start in zip(records, origins, strict=True):
        record.config["origin"] = start
    assert shared_base_seed(records) == expected


def test_a_report_says_what_its_intervals_do_not_cover():
    records = make_sweep({"posenc": ["rope", "alibi"]}, seeds=(1, 2, 3))
    assert not [c for c in study(collect(records)[0]).facts if "pre-trained" in c.text]
    for record in records:
        record.config["origin"] = ONE
    (claim,) = [c for c in study(collect(records)[0]).facts if "pre-trained" in c.text]
    assert claim.verdict == "note" and "one pre-trained net (seed 42)" in claim.text
