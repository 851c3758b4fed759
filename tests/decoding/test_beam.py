"""Beam search: parity with transformers, exhaustive search, and scores by hand."""

import math

import pytest
import torch
from torch import Tensor

from micro_transformer.decoding.base import PAD, Draws, StepOutput
from micro_transformer.decoding.beam import LENGTH_PENALTIES, Beam
from tests.conftest import build

EOS, V = 2, 11


class TableStep:
    """Logits from a table by the last two tokens; attention on S source tokens by the last one."""

    def __init__(self, table: Tensor, attention: Tensor | None = None):
        self.table, self.attention = table, attention
        self.ids: Tensor | None = None
        self.rows: list[int] = []  # of each call

    def __call__(self, ids: Tensor, parents: Tensor | None = None) -> StepOutput:
        past = self.ids if parents is None or self.ids is None else self.ids[parents]
        self.ids = ids if past is None else torch.cat((past, ids), 1)
        self.rows.append(len(self.ids))
        last = self.ids[:, -1]
        weights = None if self.attention is None else self.attention[last]
        return StepOutput(self.table[self.ids[:, -2], last], weights)


def table(size: int = V, scale: float = 2.0, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(size, size, size, generator=g, dtype=torch.float64)
    logits[..., [PAD, 1]] = -math.inf
    return logits


def prompts(rows: int, size: int = V) -> Tensor:
    return torch.randint(3, size, (rows, 2))


def texts(beam: Beam, step: TableStep, prompt: Tensor, most: int, eos: int | None) -> list:
    out = beam(step, prompt, most, draws=Draws(0, range(len(prompt))), eos=eos)
    return [[id for id in row if id != PAD] for row in out[:, prompt.shape[1] :].tolist()]


def every_text(step_table: Tensor, prompt: list[int], most: int, eos: int | None):
    """(tokens, sum of log-probabilities) of every text that ends or is `most` long."""
    log_probs = step_table.log_softmax(-1)
    open_texts = [([], 0.0)]
    while open_texts:
        ids, total = open_texts.pop()
        before = (prompt + ids)[-2:]
        for token, score in enumerate(log_probs[before[0], before[1]].tolist()):
            if score == -math.inf:
                continue
            longer = ([*ids, token], total + score)
            if token == eos or len(longer[0]) == most:
                yield longer
            else:
                open_texts.append(longer)


@pytest.mark.parametrize("eos", [EOS, None])
@pytest.mark.parametrize("coverage", [0.0, 0.5])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("kind", LENGTH_PENALTIES)
def test_a_beam_as_wide_as_the_tree_is_exhaustive_search(
    kind: str, alpha: float, coverage: float, eos: int | None
) -> None:
    size, most = 5, 4
    step_table = table(size, 1.0)
    attention = torch.rand(size, 3, dtype=torch.float64).softmax(-1)
    attention[:, 2] = 0  # a pad
    beam = Beam(
        num_beams=3**most,
        length_penalty=kind,  # type: ignore[arg-type]
        alpha=alpha,
        coverage_penalty=coverage,
        early_stopping="never",
    )
    for prompt in ([3, 4], [4, 4]):

        def score(ids: list[int], total: float) -> float:
            seen = torch.stack([attention[t] for t in [prompt[-1], *ids[:-1]]]).sum(0)  # noqa: B023
            covered = seen[:2].clamp(max=1).log().sum().item()
            return total / LENGTH_PENALTIES[kind](len(ids), alpha) + coverage * covered

        found = [
            (score(ids, total), ids) for ids, total in every_text(step_table, prompt, most, eos)
        ]
        found.sort(reverse=True)
        step = TableStep(step_table, attention)
        [ours] = beam.search(step, torch.tensor([prompt]), most, eos)
        of = {str(ids): value for value, ids in found}  # texts of equal score may change places
        for each in ours[:10]:
            assert each.score == pytest.approx(of[str(each.ids.tolist())], rel=1e-5)
        expected = [value for value, _ in found[:10]]
        assert [each.score for each in ours[:10]] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stopping", [("heuristic", False), ("never", "never"), ("finished", True)])
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("num_beams", [2, 4, 8])
@pytest.mark.parametrize("eos", [EOS, None])
def test_beams_are_those_of_transformers(
    eos: int | None, num_beams: int, alpha: float, stopping: tuple[str, object]
) -> None:
    """Its pad_token_id=0 is taken for no pad, so its texts are filled with eos: they are cut."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
    ids = {"bos_token_id": 1, "eos_token_id": EOS, "pad_token_id": 0}
    torch.manual_seed(4)
    config = GPT2Config(vocab_size=V, initializer_range=1.5, **sizes, **ids)
    net = GPT2LMHeadModel(config).double().eval()

    class Step(TableStep):
        def __init__(self) -> None:
            super().__init__(torch.zeros(V, V, V))

        def __call__(self, ids: Tensor, parents: Tensor | None = None) -> StepOutput:
            super().__call__(ids, parents)
            with torch.no_grad():
                return StepOutput(net(self.ids).logits[:, -1])

    prompt = torch.randint(3, V, (3, 4))
    beam = Beam(num_beams=num_beams, alpha=alpha, early_stopping=stopping[0])  # type: ignore
    ours = beam(Step(), prompt, 8, draws=Draws(0, range(3)), eos=eos)[:, 4:].tolist()
    theirs = net.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        num_beams=num_beams,
        length_penalty=alpha,
        early_stopping=stopping[1],
        max_new_tokens=8,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=eos,
    )[:, 4:].tolist()

    def cut(row: list[int]) -> list[int]:
        return row[: row.index(eos) + 1] if eos in row else [id for id in row if id != PAD]

    assert list(map(cut, ours)) == list(map(cut, theirs))


def test_rows_are_searched_as_they_would_be_alone_and_leave_when_they_are_done() -> None:
    step_table, prompt = table(seed=3), prompts(5)
    beam = Beam(num_beams=3)
    step = TableStep(step_table)
    together = texts(beam, step, prompt, 12, EOS)
    alone = [TableStep(step_table) for _ in prompt]
    assert together == [
        texts(beam, each, prompt[i : i + 1], 12, EOS)[0] for i, each in enumerate(alone)
    ]
    assert step.rows[0] == 5 and max(step.rows) <= 15  # one text per row at first
    assert len(step.rows) == max(len(each.rows) for each in alone)
    assert sum(step.rows) == sum(sum(each.rows) for each in alone)  # finished rows are not stepped
    assert len({len(each.rows) for each in alone}) > 1


def test_one_beam_is_greedy() -> None:
    step_table, prompt = table(seed=1), prompts(4)
    greedy = build("decoding", "greedy")
    for eos in (EOS, None):
        one = texts(Beam(num_beams=1), TableStep(step_table), prompt, 9, eos)
        out = greedy(TableStep(step_table), prompt, 9, draws=Draws(0, range(4)), eos=eos)
        assert one == [[id for id in row if id != PAD] for row in out[:, 2:].tolist()]


@pytest.mark.parametrize("kind, factor", [("power", 1.516), ("gnmt", 1.359)])
def test_twenty_tokens_beat_ten_from_the_stated_ratio_on(kind: str, factor: float) -> None:
    """At alpha 0.6: sums of log-probabilities of 20 and 10 tokens are equal at that ratio."""
    penalty = LENGTH_PENALTIES[kind]
    assert penalty(20, 0.6) / penalty(10, 0.6) == pytest.approx(factor, abs=5e-4)
    assert penalty(20, 0.0) == penalty(10, 0.0) == 1


def test_never_with_a_strong_penalty_runs_to_the_cap() -> None:
    """With alpha = 2 a longer text may always win, so no row is done before its last token."""
    step = TableStep(table(seed=2))
    texts(Beam(num_beams=2, alpha=2.0, early_stopping="never"), step, prompts(2), 15, EOS)
    assert len(step.rows) == 15


@pytest.mark.parametrize("num_beams", [4, 8])
def test_more_beams_than_tokens_are_searched_to_the_end(num_beams: int) -> None:
    step_table, prompt = table(4), torch.tensor([[3, 3]])
    found = Beam(num_beams=num_beams).search(TableStep(step_table), prompt, 3, EOS)
    every = list(every_text(step_table, [3, 3], 3, EOS))
    assert len(found[0]) == min(num_beams, len(every))
    assert all(math.isfinite(each.score) for each in found[0])


def test_a_coverage_penalty_needs_a_source() -> None:
    beam = Beam(coverage_penalty=0.2)
    with pytest.raises(ValueError, match="coverage_penalty: needs a net that reads a source"):
        texts(beam, TableStep(table()), prompts(1), 3, EOS)


def test_penalties_act_on_the_running_texts() -> None:
    """A text of a repeated token is the best; with a penalty no token occurs twice."""
    step_table, prompt = table(seed=5), prompts(2)
    step_table[..., 7] += 6
    plain = texts(Beam(num_beams=3), TableStep(step_table), prompt, 6, None)
    assert all(row.count(7) > 2 for row in plain)
    for knob in ("presence_penalty", "frequency_penalty"):
        found = texts(Beam(num_beams=3, **{knob: 1e3}), TableStep(step_table), prompt, 6, None)
        assert all(len(set(row)) == len(row) for row in found)


def test_scores_are_sums_of_log_probabilities() -> None:
    step_table, prompt = table(seed=6), prompts(3)
    log_probs = step_table.log_softmax(-1)
    for row, found in zip(
        prompt.tolist(), Beam().search(TableStep(step_table), prompt, 6, EOS), strict=True
    ):
        for each in found:
            whole = row + each.ids.tolist()
            total = sum(
                log_probs[a, b, c].item()
                for a, b, c in zip(whole, whole[1:], whole[2:], strict=False)
            )
            assert each.score == pytest.approx(total / len(each.ids) ** 0.6, rel=1e-5)
        assert [e.score for e in found] == sorted((e.score for e in found), reverse=True)
        assert len({str(e.ids.tolist()) for e in found}) == len(found)
