"""Comparing two records of one run finds differences beyond the tolerance, and only those."""

import json
import sys

import pytest

from micro_transformer.commands import verify
from micro_transformer.records.run_record import RunRecord
from tests.made_records import make_record, write_all


def changed(**values) -> RunRecord:
    record = make_record()
    for key, value in values.items():
        getattr(record, key).update(value)
    return record


def test_the_same_run_is_the_same():
    assert verify.compare(make_record(), changed(cost={"decode/tokens_per_s": 1000.0})) == []


def test_one_bit_on_a_like_machine_is_a_difference():
    (found,) = verify.compare(make_record(loss=1.0), make_record(loss=1.0 + 2**-52, metrics={
        **make_record(loss=1.0).metrics, "val/loss": 1.0 + 2**-52}))  # fmt: skip
    assert found.key == "metrics.val/loss" and not found.is_cost


def test_another_machine_may_round_otherwise_but_not_more():
    other = {"env": {"cpu": "Other CPU"}}
    assert verify.compare(make_record(), changed(**other, metrics={"val/loss": 1.625})) == []
    assert verify.compare(make_record(), changed(**other, metrics={"val/loss": 1.70}))


def test_lost_and_new_metrics_and_other_data_are_named():
    other = changed(fingerprints={"data": "other"}, metrics={"test/bleu": 1.0})
    del other.metrics["val/ppl"]
    keys = {d.key for d in verify.compare(make_record(), other)}
    assert keys == {"metrics.val/ppl", "metrics.test/bleu", "data"}


def test_costs_are_named_and_not_counted(capsys):
    slow = changed(cost={"decode/tokens_per_s": 90.0})
    assert verify.verify([make_record()], lambda _: slow) == (1, 0)
    assert "not counted" in capsys.readouterr().out


def test_the_overrides_are_run_again_in_a_place_of_their_own(tmp_path):
    """A stub of run.py writes a record of its seed and posenc to the folder it is given."""
    script = tmp_path / "run.py"
    script.write_text(
        "import sys, json\nfrom pathlib import Path\nfrom tests.made_records import make_record\n"
        "from micro_transformer.records.record_files import write\n"
        "words = dict(w.split('=', 1) for w in sys.argv[1:])\n"
        "write(make_record(int(words['seed']), posenc=words['posenc']),"
        " Path(words['hydra.run.dir']))\n"
    )
    record = make_record(43, posenc="alibi")
    again = verify.rerun(record, (sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); "
                                  f"exec(open({str(script)!r}).read())"))  # fmt: skip
    assert verify.compare(record, again) == []


def test_a_run_without_a_record_is_a_failure(tmp_path, capsys):
    def broken(_):
        raise RuntimeError("no record")

    assert verify.verify([make_record()], broken) == (0, 1)
    write_all([make_record(status="failed")], tmp_path)
    assert verify.main([str(tmp_path)]) == 3


@pytest.mark.parametrize(
    "word", ["--config-dir=/tmp", "+hydra.searchpath=[/x]", "hydra/launcher=x"]
)
def test_a_record_does_not_steer_the_command(word):
    with pytest.raises(RuntimeError, match="not rerun"):
        verify.rerun(make_record(overrides=[word]), ("false",))


def test_a_real_sweep_is_made_again_and_a_tampered_record_is_told(
    real_sweep, tmp_path, monkeypatch, capsys
):
    """Only records are kept: no weights, no history. One record has a falsified loss."""
    for i, path in enumerate(sorted(real_sweep.rglob("record.json"))[:2]):
        record = json.loads(path.read_text())
        record["metrics"]["val/loss"] += 1e-6 * i
        (tmp_path / "kept" / str(i)).mkdir(parents=True)
        (tmp_path / "kept" / str(i) / "record.json").write_text(json.dumps(record))
    (tmp_path / "kept" / "2").mkdir()
    (tmp_path / "kept" / "2" / "record.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    assert verify.main([str(tmp_path / "kept"), "--rows", "5"]) == 1
    said = capsys.readouterr().out
    assert "1 file skipped" in said and "2 of 2 runs" in said
    assert said.count("  same") == said.count("  differs") == 1 and "1 same, 1 different" in said
    assert said.count("metrics.") == said.count("metrics.val/loss") == 1
    assert not (tmp_path / "checkpoints").exists()


def test_a_senseless_cell_is_no_run(tmp_path, capsys):
    write_all([make_record(status="invalid", error="rule")], tmp_path)
    assert verify.main([str(tmp_path)]) == 3
    assert capsys.readouterr().err.count("\n") == 1
