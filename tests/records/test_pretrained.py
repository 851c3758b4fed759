"""Fine-tunings of several seeds that share one pre-trained net are told from those that do not."""

import pytest

from micro_transformer.records.pretrained import shared_base_seed
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
