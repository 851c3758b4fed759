"""The store lists and explains its trainings, and prunes nothing else."""

import json
import multiprocessing
import os
import re
import time

import pytest
from filelock import FileLock

from micro_transformer.commands import store
from micro_transformer.config.resolve import resolve
from micro_transformer.hashing import digest
from micro_transformer.records.record_files import write
from micro_transformer.records.run_record import RunRecord
from micro_transformer.runs.planning import make_plan
from micro_transformer.store import catalog
from micro_transformer.store.checkpoints import Entry
from micro_transformer.store.fingerprints import fingerprints


def factors(*words):
    (job,) = make_plan(["model=tiny", "train=smoke", *words]).jobs
    return fingerprints(resolve(job.config), "0123456789ab").factors


def put(root, made, finished=True, age=0):
    entry = Entry(root, digest(made))
    entry.open(made)
    progress = {"best": 1.25, "step": 8, "best_step": 8, "bad_evaluations": 0, "resumes": 0}
    progress |= {"stopped_early": False, "train_seconds": 1.0, "cost": {}, "history": []}
    state = json.dumps({"progress": progress, "scaler": {}}).encode()
    if finished:
        entry.finish({"weights.safetensors": b"x" * 1000, "state.json": state})
    else:
        entry.write_step(3, {"state.json": state})
    file = entry.folder / "factors.json"
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime - age))
    return entry


def say(capsys, root, *words):
    code = store.main(["--dir", str(root), *words])
    return code, "".join(capsys.readouterr())


def test_the_list_names_choices_loss_and_state(tmp_path, capsys):
    done = put(tmp_path, factors("posenc=alibi", "train.steps=9"), age=3 * 3600)
    cut = put(tmp_path, factors("seed=7"), finished=False)
    (tmp_path / "mine").mkdir()
    _, text = say(capsys, tmp_path, "list")
    first, second = text.splitlines()[1:]
    assert first.startswith(done.fingerprint) and "1.2500" in first and "3.0 h" in first
    assert "model=tiny posenc=alibi" in first and "train=smoke[steps=9]" in first
    assert second.startswith(cut.fingerprint) and "cut at step 3" in second


def test_the_reason_of_a_training_is_named(tmp_path, capsys):
    base = factors()
    other_code = {**base, "code": {**base["code"], "micro_transformer.training.trainer": "0" * 12}}
    other_data = {**base, "data": "f" * 12}
    whole = put(tmp_path, base, age=100)
    cases = {
        "code micro_transformer.training.trainer has changed": other_code,
        "data: ffffffffffff | 0123456789ab": other_data,
        "config train.lr: 0.5 | 0.008": factors("train.lr=0.5"),
        "config posenc.kind: NoPosition": factors("posenc=none"),
    }
    for age, (line, made) in enumerate(cases.items()):
        entry = put(tmp_path, made, age=10 - age)
        code, text = say(capsys, tmp_path, "explain", entry.fingerprint, whole.fingerprint)
        assert code == 0 and line.split(": No")[0] in text, text
    twin = put(tmp_path, {**other_data, "code": other_code["code"]})
    assert "1 difference\n" in say(capsys, tmp_path, "explain", twin.fingerprint)[1]


def test_a_job_folder_explains_its_training_even_when_it_was_pruned(tmp_path, capsys):
    put(tmp_path / "store", factors(), age=50)
    (job,) = make_plan(["model=tiny", "train=smoke", "train.steps=77"]).jobs
    prints = fingerprints(resolve(job.config), "0123456789ab")
    record = RunRecord(id=job.id, seed=42, status="ok", config=resolve(job.config))
    record.fingerprints = {"train": prints.train, "code": prints.code, "data": prints.data}
    write(record, tmp_path / "job")
    _, text = say(capsys, tmp_path / "store", "explain", str(tmp_path / "job"))
    assert "config train.steps: 77 | 8" in text
    assert say(capsys, tmp_path / "store", "explain", "nowhere")[0] == 2


def test_prune_is_dry_and_spares_the_running_the_strange_and_the_foreign(tmp_path, capsys):
    made = [factors(f"seed={seed}") for seed in range(4)]
    cut, running, strange = (put(tmp_path, m, finished=False) for m in made[:3])
    done = put(tmp_path, made[3])
    (strange.folder / "thesis.txt").write_text("mine")
    foreign = put(tmp_path, factors("seed=9"), finished=False)
    foreign.folder.rename(tmp_path / "0123456789ab")
    with FileLock(running.lock):
        _, text = say(capsys, tmp_path, "prune", "--unfinished")
        assert "1 training, " in text and "nothing was deleted" in text and cut.folder.exists()
        _, text = say(capsys, tmp_path, "prune", "--unfinished", "--yes")
    assert "1 training deleted" in text
    left = {entry.folder for entry in (running, strange, done)} | {tmp_path / "0123456789ab"}
    assert set(tmp_path.iterdir()) == left
    assert say(capsys, tmp_path, "prune")[0] == 2
    assert say(capsys, tmp_path, "prune", "../elsewhere", "--yes")[0] == 2


def test_prune_says_what_it_keeps_and_why(tmp_path, capsys):
    made = [factors(f"seed={seed}") for seed in range(4)]
    needed, running, strange, free = (put(tmp_path, m, age=99) for m in made)
    (strange.folder / "thesis.txt").write_text("mine")
    with needed.held(), needed.held(), FileLock(running.lock):
        for yes in ([], ["--yes"]):
            code, text = say(capsys, tmp_path, "prune", "--older-than", "0", *yes)
            assert code == 0
            assert re.search(f"{needed.fingerprint} .* kept: a running job needs it", text)
            assert re.search(f"{running.fingerprint} .* kept: a process is training it", text)
            assert re.search(f"{strange.fingerprint} .* kept: contains 'thesis.txt'", text)
            assert "1 training" in text
    assert not free.folder.exists() and needed.verify() and running.verify()
    assert "1 training deleted" in say(capsys, tmp_path, "prune", needed.fingerprint, "--yes")[1]


def test_a_training_that_a_job_needs_from_now_on_is_not_pruned(tmp_path):
    """The job takes its lock after the list was made and before the deletion."""
    entry = put(tmp_path, factors())
    (training,) = catalog.stored(tmp_path)
    with entry.held():
        assert not store.remove(training)
    assert entry.verify() and store.remove(training)
    with entry.held():  # waits for no one: the folder is a new one
        assert list(entry.folder.iterdir()) == [entry.needed]


def test_the_hold_of_a_killed_job_is_gone(tmp_path):
    entry = put(tmp_path, factors())
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=hold, args=(entry, ready))
    child.start()
    assert ready.wait(10)
    (training,) = catalog.stored(tmp_path)
    assert not store.remove(training)
    child.kill()
    child.join()
    assert store.remove(training) and not list(tmp_path.iterdir())


def hold(entry, ready):
    with entry.held():
        ready.set()
        time.sleep(60)


def test_what_killed_commands_left_hinders_nobody(tmp_path, capsys):
    entry = put(tmp_path, factors())
    (tmp_path / f".{entry.fingerprint}.pruned" / "final").mkdir(parents=True)
    for name in ("12abc", "²"):
        (entry.folder / "steps" / name).mkdir(parents=True)
    assert say(capsys, tmp_path, "list")[0] == 0
    assert "1 training deleted" in say(capsys, tmp_path, "prune", entry.fingerprint, "--yes")[1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("harm", ["factors", "weights", "format"])
def test_a_damaged_training_is_listed_as_such(tmp_path, capsys, harm):
    entry = put(tmp_path, factors())
    path = {"factors": entry.folder / "factors.json", "weights": entry.final / "state.json"}.get(
        harm, entry.final / "manifest.json"
    )
    was, now = {"format": (b'"format": 2', b'"format": 1')}.get(harm, (b"1", b"2"))
    path.write_bytes(path.read_bytes().replace(was, now))
    code, text = say(capsys, tmp_path, "list")
    assert code == 0 and f"{entry.fingerprint}  damaged" in text and str(path.parent) in text
    if harm == "factors":
        assert say(capsys, tmp_path, "explain", entry.fingerprint)[0] == 3
        text = say(capsys, tmp_path, "prune", entry.fingerprint, "--yes")[1]
        assert "kept: " in text and entry.folder.exists()


def test_stale_is_what_code_has_left_behind(tmp_path):
    now = factors()
    old = {**now, "code": {**now["code"], "micro_transformer.training.trainer": "0" * 12}}
    fresh, stale = put(tmp_path, now), put(tmp_path, old)
    state = {s.name: s.is_stale() for s in catalog.stored(tmp_path)}
    assert state == {fresh.fingerprint: False, stale.fingerprint: True}


NO_PART_OF_A_TRAINING = ("plots", "report", "records", "stats", "commands", "runs", "store")
NO_PART_OF_A_TRAINING += ("evals", "bench", "decoding", "machine", "console", "stop")


@pytest.mark.parametrize("posenc", ["rope", "alibi", "none"])
def test_a_training_depends_on_its_own_components_alone(posenc):
    modules = [name.split(".")[1:] for name in factors(f"posenc={posenc}")["code"]]
    assert not [m for m in modules if m[0] in NO_PART_OF_A_TRAINING]
    assert ["training", "trainer"] in modules and ["nn", "attention"] in modules
    assert {m[-1] for m in modules if m[:2] == ["nn", "posenc"]} == {"base", posenc}


def test_a_base_is_kept_as_long_as_what_starts_from_it(tmp_path, capsys):
    tuning = ["base=long", "base.train=smoke", "train.steps=4", "train.warmup_steps=1"]
    base = put(tmp_path, factors("seed=42")).fingerprint
    other = put(tmp_path, factors("seed=7")).fingerprint
    one, two = (put(tmp_path, factors(*tuning, f"seed={n}")).fingerprint for n in (1, 2))
    there = lambda: {path.name for path in tmp_path.iterdir()}  # noqa: E731
    assert len({base, other, one, two}) == 4
    _, text = say(capsys, tmp_path, "prune", base, other, one, "--yes")
    assert f"kept: {two} starts from its weights" in text and there() == {base, two}
    assert say(capsys, tmp_path, "prune", base, two, "--yes")[0] == 0 and not there()
