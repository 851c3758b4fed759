"""Fine-tuning from a base: what it means, its fingerprint and what contradicts it."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from micro_transformer.build import measuring, training
from micro_transformer.commands import store
from micro_transformer.config import choices, schema
from micro_transformer.config.components import make
from micro_transformer.config.overrides import BadConfig
from micro_transformer.runs import forecast
from micro_transformer.runs.planning import make_plan
from micro_transformer.store.checkpoints import Entry
from tests.conftest import facts
from tests.runs.extending import EXTEND, SCALINGS, config_of, training_of

TASK = SimpleNamespace(vocab_size=20, num_outputs=20)


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of conf/ that a test may add choices to."""
    monkeypatch.setattr(choices, "CONF", Path(shutil.copytree(choices.CONF, tmp_path / "conf")))
    return tmp_path / "conf"


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_net_reads_under_the_scaling_that_its_texts_have_grown_by(scaling):
    """The factor is 2048 / 512 whatever the yaml says; original_len is the base's context."""
    config = config_of(*EXTEND, f"train.scaling={scaling}", "model=tiny", "device=cpu")
    knobs = schema.read_choice("scaling", scaling)
    expected = make("scaling", knobs | ({"factor": 4.0} if "factor" in knobs else {}))
    net = training.build_model(config, TASK)
    for length in (300, 2048, 8192):
        inv_freq, scale = expected(net.posenc.inv_freq, original_len=512, target_len=length)
        for _ in range(2):  # as trained, and as measured
            found = net.posenc.frequencies(length)
            assert torch.equal(found[0], inv_freq) and found[1] == scale
            measuring.stretch(net, config)


def test_a_net_that_was_not_stretched_is_read_from_the_length_it_was_trained_on_last():
    words = [*EXTEND, "train.scaling=none", "scaling=dynamic_ntk", "model=tiny"]
    net = training.build_model(config_of(*words, "device=cpu"), TASK)
    measuring.stretch(net, config_of(*words))
    assert torch.equal(net.posenc.frequencies(2048)[0], net.posenc.inv_freq)
    assert not torch.equal(net.posenc.frequencies(2049)[0], net.posenc.inv_freq)


BASES = [c for c in schema.choices_of("train") if c != "extend"]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    "words",
    [[], ["train.threads=1", "train.precision=fp32"], ["posenc=alibi", "base.seed=7", "seed=8"]],
)
def test_the_base_is_the_training_that_its_own_recipe_names(base, words):
    """Where it says auto, the base is trained as the recipe that asks for it."""
    recipe = schema.read_choice("train", base)
    fixed = {w for w in words for k in recipe if w.startswith(f"train.{k}") and recipe[k] != "auto"}
    alone = [w.removeprefix("base.") for w in words if not w.startswith("seed=")]
    own = training_of(f"train={base}", *(w for w in alone if w not in fixed))
    for scaling in ("none", "linear"):
        if scaling == "none" or not any("alibi" in word for word in words):
            asked = [*EXTEND, f"base.train={base}", f"train.scaling={scaling}"]
            extended = training_of(*asked, *words)
            assert extended.base.factors == own.factors and own.base is None
            assert extended.base.entry.folder == own.entry.folder != extended.entry.folder


def test_all_seeds_share_one_base_and_another_seed_of_the_base_is_another_net():
    one, two = training_of(*EXTEND, "seed=1"), training_of(*EXTEND, "seed=2")
    assert one.base.entry.folder == two.base.entry.folder and one.factors != two.factors
    other = training_of(*EXTEND, "seed=1", "base.seed=7")
    assert other.base.entry.folder != one.base.entry.folder and other.factors != one.factors


def test_a_base_may_start_from_a_base(conf):
    """Its origin has an origin; the net keeps the one scaling under which it was fine-tuned."""
    (conf / "base/extended.yaml").write_text("seed: 1\ntrain: extend\nbase: long\n")
    third = training_of("base=extended", "train=extend", "train.scaling=none", "device=cpu")
    second = training_of(*EXTEND, "seed=1", "device=cpu")
    assert third.base.factors == second.factors
    assert third.base.base.factors == second.base.factors and third.base.base.base is None
    nets = [training.build_model(t.config, TASK) for t in (second, third)]
    one, other = (net.posenc.frequencies(4096)[0] for net in nets)
    assert torch.equal(one, other) and not torch.equal(one, nets[0].posenc.inv_freq)
    with pytest.raises(BadConfig, match="was fine-tuned under train.scaling=linear itself"):
        training_of("base=extended", "train=extend", "train.context=4096")


def test_the_bases_recipe_and_code_are_part_of_what_a_training_is(conf, tmp_path, capsys):
    before = training_of(*EXTEND)
    (conf / "train/other.yaml").write_text("defaults: [long]\nlr: 7.0e-3\nkernel: blockwise\n")
    after = training_of(*EXTEND, "base.train=other")
    for planned in (before, after):
        Entry(tmp_path, planned.entry.fingerprint).open(planned.factors)
    names = [planned.entry.fingerprint for planned in (after, before)]
    assert store.main(["--dir", str(tmp_path), "explain", *names]) == 0
    said = capsys.readouterr().out
    assert "config origin.train.lr: 0.007 | 0.008" in said
    assert "code micro_transformer.nn.kernels.blockwise: only the first uses" in said


@pytest.mark.parametrize("scaling", SCALINGS)
def test_only_the_scaling_of_the_fine_tuning_is_part_of_a_training(scaling):
    code = training_of(*EXTEND, f"train.scaling={scaling}").factors["code"]
    used = {name.rsplit(".", 1)[1] for name in code if ".nn.scaling." in name}
    assert used == {"base", "none", scaling}
    assert training_of("train=quick", f"scaling={scaling}").factors == training_of().factors


MISFITS = {
    "train.context=512": "train.context=512: not longer than the 512 tokens of base.train=long",
    "posenc=alibi": "train.scaling=linear: stretches rotary positions, and posenc kind ALiBi",
    "scaling=yarn": "scaling kind YaRN: a net fine-tuned under train.scaling=linear is read",
    "base=none": "train.scaling=linear: stretches a trained net; choose one, such as base=long",
    "base=longer": "base=longer: must be one of",
    "base.train=longer": "base.train=longer: must be one of",
    "base=loop": "base.base=loop.base=loop: starts from its own weights",
    "train.base=long": "train.base: is a group now; remove it and choose base=long",
    "train.scaling=pi": "train.scaling=pi: must be one of",
}


@pytest.mark.parametrize("word", MISFITS)
def test_what_contradicts_the_fine_tuning_is_one_line(word, conf):
    (conf / "base/loop.yaml").write_text("seed: 1\ntrain: long\nbase: loop\n")
    with pytest.raises(BadConfig) as caught:
        make_plan([*EXTEND, word])
    (line,) = caught.value.lines
    assert line.startswith(MISFITS[word]) and len(line) < 200


@pytest.mark.parametrize("scaling", SCALINGS)
def test_a_head_too_narrow_for_the_scaling_is_told(scaling):
    narrow = [*EXTEND, f"train.scaling={scaling}", "model.d_model=8", "run.sweep=x"]
    plan = make_plan([*narrow, "model.num_heads=2,4", "-m"])
    rules = [forecast.compatibility.conflicts(job.config) for job in plan.jobs]
    assert bool(rules[1]) == bool(facts("scaling", scaling).get("divides_by_width_less_two"))
    assert not rules[0]


def test_a_recipe_at_the_same_length_is_a_control_without_a_scaling():
    assert config_of(*EXTEND, "train.scaling=none", "train.context=512")
