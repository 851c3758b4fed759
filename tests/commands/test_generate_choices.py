"""Choices of the generate command are judged with the net that was trained, not the default one."""

from types import SimpleNamespace
from typing import Any

import pytest

from micro_transformer.commands.generate import _cells
from micro_transformer.config.groups import TRAIN_FACTORS
from micro_transformer.config.overrides import BadConfig
from micro_transformer.config.resolve import resolve
from micro_transformer.runs.planning import make_plan


def entry(*words: str) -> Any:
    """A stored training of these words, as far as the command reads it."""
    (job,) = make_plan([*words, "device=cpu"]).jobs
    config = resolve(job.config)
    factors = {key: config[key] for key in TRAIN_FACTORS}
    return SimpleNamespace(factors=lambda: {"config": factors})


COVERAGE = ["decoding=beam", "decoding.coverage_penalty=0.2"]


def test_a_net_that_reads_a_source_takes_a_coverage_penalty() -> None:
    (cell,) = _cells(entry("option=B"), COVERAGE, "data", is_grid=False)
    assert cell.config["decoding"]["coverage_penalty"] == 0.2
    assert cell.config["task"]["kind"] == "Tatoeba"
    grid = _cells(entry("option=B"), ["decoding=beam,greedy"], "data", is_grid=True)
    assert [each.name for each in grid] == ["decoding=beam", "decoding=greedy"]


def test_a_language_model_refuses_it_in_one_line() -> None:
    with pytest.raises(BadConfig, match="arch kind DecoderLM reads no source"):
        _cells(entry(), COVERAGE, "data", is_grid=False)
