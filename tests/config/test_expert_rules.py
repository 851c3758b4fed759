"""What a mixture of experts cannot be, in one line each, and what is said of one that is dense."""

import pytest

from micro_transformer.config.expert_rules import remarks
from micro_transformer.config.overrides import BadConfig
from micro_transformer.config.resolve import resolve
from micro_transformer.runs.planning import make_plan

WRONG = {
    "ffn=moe ffn.top_k=5": "ffn.top_k=5: must be at most ffn.num_experts=4; change one of them",
    "ffn=iso_total ffn.top_k=5": "ffn.top_k=5: must be at most ffn.num_experts=4; change one of",
    "ffn=moe ffn.top_k=0": "ffn.top_k=0: must be in [1, 2^63)",
    "ffn=moe ffn.num_experts=1 ffn.top_k=1": "ffn.num_experts=1: must be in [2, 2^63)",
    "ffn=moe ffn.capacity=0": "ffn.capacity=0: must be in (0, inf] or null",
    "ffn=moe ffn.expert=swiglu": "ffn.expert=swiglu: not a dense FFN that experts can be; use GELU",
    "ffn=moe ffn.expert=MoE": "ffn.expert=MoE: not a dense FFN that experts can be; use GELU",
    "ffn=relu2 ffn.num_experts=8": "ffn.num_experts",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_mixture_is_one_clear_line(words: str) -> None:
    with pytest.raises(BadConfig) as caught:
        make_plan(words.split())
    assert WRONG[words] in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words, is_dense",
    [("ffn.num_experts=2", True), ("ffn.top_k=4", True), ("", False), ("ffn.top_k=1", False)],
)
def test_a_mixture_that_takes_all_experts_is_said_to_be_dense(words: str, is_dense: bool) -> None:
    (job,) = make_plan(["ffn=moe", *words.split()]).jobs
    said = list(remarks(resolve(job.config)))
    assert len(said) == is_dense and all(line.startswith("dense: ") for line in said)


def test_a_twin_is_dense_anyway() -> None:
    (job,) = make_plan(["ffn=iso_total", "ffn.num_experts=2"]).jobs
    assert not list(remarks(resolve(job.config)))
