"""Every bench gives the figures that the tables ask for, counts what it times, and hides no gap."""

import pytest
import torch

from micro_transformer import memory
from micro_transformer.bench import decoding_speed, scenarios, timing
from micro_transformer.bench.cache_memory import Memory
from micro_transformer.bench.decoding_speed import DecodingSpeed
from micro_transformer.bench.peak_memory import peak_of
from micro_transformer.bench.training_step import TrainingStep, stepper
from micro_transformer.config.components import find
from micro_transformer.config.schema import choices_of, read_choice
from tests.evals.subjects import subjects, tiny_subject

SMALL = {
    "prompt_len": 4,
    "new_tokens": 21,
    "segment": 8,
    "repeats": 2,
    "recompute_steps": 1,
    "batch_size": 2,
    "context": 16,
    "steps": 2,
    "warmup": 1,
    "train_steps": 1,
    "decode_tokens": 4,
    "lengths": [8, 16],
    "num": 4,
    "alone": 2,
    "length": 8,
}
ENTRIES = {
    f"{choice}.{name}": entry
    for choice in choices_of("bench")
    for name, entry in read_choice("bench", choice)["measures"].items()
}
SPEED = DecodingSpeed(prompt_len=4, new_tokens=21, segment=8, repeats=1, recompute_steps=1)


def run(entry, subject):
    knobs = {k: SMALL.get(k, v) for k, v in entry.items() if k != "kind"}
    return dict(find("bench", entry["kind"]).load()(**knobs).run(subject))


@pytest.mark.parametrize("name", ENTRIES)
def test_a_bench_yields_positive_figures_and_no_vram_without_cuda(name, tmp_path):
    """Before every task that gives what it needs."""
    needs = set(find("bench", ENTRIES[name]["kind"]).facts.get("needs", ()))
    measured = [s for s in subjects(tmp_path) if needs <= set(s.task.gives)]
    assert measured
    for subject in measured:
        check(run(ENTRIES[name], subject))


def check(found):
    assert all(found.pop(key) is None for key in list(found) if "vram" in key)
    may_be_0 = ("spread", "delta", "error", "host", "file", "transfer")
    small = [found.pop(key) for key in list(found) if any(word in key for word in may_be_0)]
    assert small and all(value is None or value >= 0 for value in small)
    assert found and all(value > 0 for value in found.values())


@pytest.mark.parametrize("cache", choices_of("cache"))
def test_memory_is_measured_at_each_length_and_beside_a_prediction(cache, tmp_path):
    lengths = (300, 1100)
    bench = Memory(lengths=list(lengths), decode_tokens=4, recompute_steps=1)
    found = dict(bench.run(tiny_subject(tmp_path, cache=cache)))
    stores = find("cache", read_choice("cache", cache)["kind"]).facts["stores"]
    for n in lengths:
        assert found[f"cache/bytes@{n}"] == found[f"cache/predicted_bytes@{n}"]
        assert found[f"cache/prediction_error@{n}"] == (0 if stores else None)
        assert 0 <= found[f"cache/used_bytes@{n}"] <= found[f"cache/bytes@{n}"]
        assert found[f"cache/tokens_per_s@{n}"] > 0 and found[f"cache/rss_gb@{n}"] > 0
        assert (found[f"cache/file_bytes@{n}"] > 0) == (cache == "paged_offload" and n > 1024)
    everything = 2 * 2 * 32 * 4  # K and V, layers, width, float32
    assert found["cache/bytes@300"] <= 1536 * everything  # two hot blocks and room for one


def test_a_step_of_the_memory_bench_sees_the_whole_text(tmp_path):
    """The last step of N tokens has N - 1 before it; every timed one is a token."""
    subject, seen = tiny_subject(tmp_path), []
    hidden = subject.model.hidden

    def watched(ids, cache=None, pos=None):
        seen.append((cache.length, ids.shape[1]))
        return hidden(ids, cache, pos)

    subject.model.hidden = watched
    dict(Memory(lengths=[40], decode_tokens=3, recompute_steps=1).run(subject))
    assert seen == [(0, 8), (0, 37), (37, 1), (38, 1), (39, 1)]


def with_ticking_clock(monkeypatch, seconds_a_call=0.5):
    """A clock that only the calls of the step move on."""
    now = [0.0]
    monkeypatch.setattr(timing, "clock", lambda device: now[0])
    generate = decoding_speed.generate

    def timed_generate(*args, watch, **kwargs):
        def slow(step):
            inner = watch(step)

            def call(ids, parents=None):
                out = inner(ids, parents)
                now[0] += seconds_a_call * ids.shape[1]  # a prompt takes as long as its tokens
                return out

            return call

        return generate(*args, watch=slow, **kwargs)

    monkeypatch.setattr(decoding_speed, "generate", timed_generate)


def test_prefill_and_decoding_are_timed_apart_and_every_token_once(monkeypatch, tmp_path):
    with_ticking_clock(monkeypatch)
    found = dict(SPEED.run(tiny_subject(tmp_path)))
    assert found["decode/ttft_ms"] == pytest.approx(1e3 * 0.5 * 4)
    assert found["decode/tokens_per_s"] == pytest.approx(2.0)
    assert found["decode/timed_tokens"] == 20  # the first of 21 is the prefill's
    contexts = [int(key.split("@")[1]) for key in found if "@" in key]
    assert contexts == [4 + 9, 4 + 17, 4 + 21]
    assert found["decode/tokens_per_s/spread"] == pytest.approx(0)


def test_without_a_cache_a_sample_of_the_steps_stands_for_all_and_says_so(tmp_path):
    found = dict(SPEED.run(tiny_subject(tmp_path, cache="none")))
    assert found["decode/timed_tokens"] == 3  # one a segment
    assert found["cache/bytes"] == 0
    rates = [value for key, value in found.items() if "@" in key]
    tokens = [8, 8, 4]
    whole = sum(n / rate for n, rate in zip(tokens, rates, strict=True))
    assert found["decode/tokens_per_s"] == pytest.approx(20 / whole)


def test_a_sampled_step_stands_for_every_step_of_its_segment(monkeypatch, tmp_path):
    with_ticking_clock(monkeypatch)
    found = dict(SPEED.run(tiny_subject(tmp_path, cache="none")))
    assert found["decode/tokens_per_s"] == pytest.approx(2.0)


def test_cache_bytes_are_those_of_keys_and_values(tmp_path):
    found = dict(SPEED.run(tiny_subject(tmp_path)))
    assert found["cache/bytes"] == 2 * 2 * 32 * 4 * (4 + 21)  # K and V, layers, width, float32


def test_one_token_has_no_rate(tmp_path):
    bench = DecodingSpeed(prompt_len=4, new_tokens=1, segment=8, repeats=1, recompute_steps=1)
    found = dict(bench.run(tiny_subject(tmp_path)))
    assert found["decode/tokens_per_s"] is None and found["decode/ttft_ms"] > 0


def test_a_timed_step_trains(tmp_path):
    subject = tiny_subject(tmp_path)
    net = subject.new_model()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    object.__setattr__(subject, "new_model", lambda: net)
    step = stepper(subject, 2, 16)
    step()
    step()
    assert all(not torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_step_is_the_one_of_the_recipe_and_the_asked_size(monkeypatch, tmp_path):
    subject, sizes = tiny_subject(tmp_path), []
    loss = subject.task.loss
    subject.task.loss = lambda net, batch, smoothing: (
        sizes.append(tuple(batch.ids.shape)) or loss(net, batch, smoothing)
    )
    dict(TrainingStep(batch_size=3, context=24, steps=2, warmup=1).run(subject))
    assert sizes == [(3, 24)] * 3


@pytest.mark.skipif(not memory.reset_peak(), reason="the kernel cannot reset the peak")
def test_the_rise_is_that_of_the_work_alone():
    block = torch.ones(64, 2**20)  # held before: 256 MB that must not count
    peak, rise, vram = peak_of(lambda: torch.ones(16, 2**20).sum(), "cpu")
    assert vram is None and peak > block.nbytes / 1e9
    assert rise == pytest.approx(64e6 / 1e9, abs=0.03)
    _, later, _ = peak_of(lambda: None, "cpu")
    assert later < 0.02  # an earlier peak is forgotten


def test_parts_of_the_net_are_compared_at_every_length(tmp_path):
    net = tiny_subject(tmp_path, posenc="alibi").new_model()
    rows = list(scenarios.compare(net, [8, 16], "cpu", 2))
    parts = ["attention/manual", "attention/sdpa", "mhsa/manual", "mhsa/sdpa", "ffn"]
    assert [(name, tokens) for name, tokens, *_ in rows] == [(p, t) for t in (8, 16) for p in parts]


def test_the_parts_compute_the_same_by_hand_and_by_torch(tmp_path):
    net = tiny_subject(tmp_path).new_model().eval()
    with torch.inference_mode():
        actions = scenarios._actions(net, 16, "cpu")
        for part in ("attention", "mhsa"):
            by_hand, by_torch = (actions[f"{part}/{kernel}"]() for kernel in ("manual", "sdpa"))
            torch.testing.assert_close(by_hand, by_torch, atol=1e-5, rtol=1e-4)


def test_the_backend_that_ran_is_named(tmp_path):
    name = scenarios.sdpa_backend(tiny_subject(tmp_path).new_model(), 64, "cpu")
    assert name.startswith(("flash", "math", "efficient"))


def test_a_profile_leaves_a_trace_and_a_page(tmp_path):
    import json

    run({**read_choice("bench", "profile")["measures"]["profile"]}, tiny_subject(tmp_path))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = {event.get("name") for event in events}
    assert {"training", "decoding"} <= names
    page = (tmp_path / "profile.md").read_text()
    for word in ("PPL", "Tokens/s", "Peak VRAM", "ms/batch", "n/a", "Manual / SDPA", "Self CPU"):
        assert word in page
    assert sum(line.count("aten::") > 0 for line in page.splitlines()) <= 20
