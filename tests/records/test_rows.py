"""Rows and the brief's table against a small oracle, over random partial, doubled, mixed sets."""

import csv
import io
import random
import statistics

import pytest

from micro_transformer.records import tables
from micro_transformer.records.cells import figure
from micro_transformer.records.rows import Summary, collect, reason, setting_of, value_of
from micro_transformer.report.summary_table import brief
from tests.made_records import make_record, make_sweep


def oracle(records):
    """(posenc, cache, code when codes clash) -> {seed: loss of the first ok record}, by hand."""
    codes = {}
    for r in records:
        key = (r.choices["posenc"], r.choices["cache"])
        codes.setdefault(key, set()).add(r.fingerprints["code"])
    clash = any(len(found) > 1 for found in codes.values())
    cells = {}
    for r in records:
        key = (r.choices["posenc"], r.choices["cache"], r.fingerprints["code"] if clash else None)
        seeds = cells.setdefault(key, {})
        if r.seed not in seeds or (seeds[r.seed] is None and r.status == "ok"):
            seeds[r.seed] = r.metrics["val/loss"] if r.status == "ok" else None
    return cells


def random_records(draw):
    records = []
    for _ in range(draw.randrange(1, 25)):
        record = make_record(
            draw.choice([1, 2, 3]), draw.random() + 1,
            posenc=draw.choice(["rope", "alibi", "none"]), cache=draw.choice(["none", "paged"]),
            status=draw.choice(["ok", "ok", "ok", "failed", "killed", "nan"]),
        )  # fmt: skip
        record.fingerprints["code"] = draw.choice(["old", "new"]) if draw.random() < 0.05 else "new"
        records.append(record)
    return records


def test_a_thousand_random_sets_agree_with_the_oracle():
    draw = random.Random(7)
    for _ in range(1000):
        records = random_records(draw)
        (board,) = collect(records)
        expected = oracle(records)
        assert len(board.rows) == len(expected)
        for row in board.rows:
            first = (row.ok or row.bad)[0]
            key = (first.choices["posenc"], first.choices["cache"])
            code = first.fingerprints["code"] if board.mixed else None
            seeds = expected[(*key, code)]
            good = [loss for loss in seeds.values() if loss is not None]
            summary = row.summary("val/loss")
            assert summary.n == len(good) == len(row.ok)
            assert summary.mean == (pytest.approx(statistics.fmean(good)) if good else None)
            assert summary.std == (pytest.approx(statistics.stdev(good)) if len(good) > 1 else None)
            assert row.missing == sorted({r.seed for r in records} - set(seeds))
        assert board.duplicates == len(records) - sum(map(len, expected.values()))


def test_a_row_is_named_by_what_varies_and_not_by_what_follows():
    records = [
        make_record(seed, posenc=posenc, lr=lr)
        for seed in (1, 2) for posenc in ("rope", "alibi") for lr in (0.1, 0.2)
    ]  # fmt: skip
    (board,) = collect(records)
    assert board.factors == ["posenc", "train.lr"]
    assert board.rows[0].name == "posenc=rope train.lr=0.1"
    (board,) = collect([make_record(1), make_record(2)])
    assert [row.name for row in board.rows] == ["as configured"]


def test_one_seed_has_no_deviation():
    assert Summary.of([1.0]) == Summary(1.0, None, 1)
    assert figure(Summary.of([5.0])).text == "5.00 ± —"
    assert Summary.of([None]) == Summary(None, None, 0)


def test_memory_of_a_device_that_is_not_there_is_not_zero():
    record = make_record()
    record.cost["mem/peak_vram_gb"] = 0.0
    assert value_of(record, "mem/peak_vram_gb") is None
    (board,) = collect([record])
    assert "n/a" in tables.as_text(tables.speed(board))
    assert ",0.0," not in tables.runs_csv([board])


def test_costs_of_other_devices_threads_and_schemas_have_their_own_columns():
    here, there, more = make_record(1), make_record(2), make_record(3)
    there.env |= {"device": "cuda", "gpu": "H100"}
    there.cost["mem/peak_vram_gb"] = 1.5
    more.env["threads"] = 8
    (board,) = collect([here, there, more])
    assert len(board.settings) == len({setting_of(r) for r in (here, there, more)}) == 3
    table = brief(board)
    (row,) = table.rows
    assert sum(c.startswith("Tokens/s [") for c in table.columns) == 3
    assert sum(cell.text.startswith("900") for cell in row) == 3
    assert "Peak VRAM (GB) [cuda, H100, 2 threads]" in table.columns


def test_tasks_and_tokenizers_never_share_a_board():
    other = make_record(2, task="cuentos")
    bpe = make_record(3, data={"tokenizer": {"kind": "bpe"}})
    assert len(collect([make_record(1), other, bpe])) == 3


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [("oom", "OOM @ 4096: no room", "OOM @ 4096"), ("oom", None, "OOM"),
     ("failed", "ValueError: x\ntrace", "failed: ValueError: x"), ("killed", "", "killed"),
     ("nan", "step 7", "diverged: step 7"), ("invalid", "rule", "invalid combination: rule")],
)  # fmt: skip
def test_a_cell_without_a_result_says_why(status, error, expected):
    record = make_record(status=status, error=error)
    assert reason(record) == expected
    (board,) = collect([record])
    assert expected in tables.as_markdown(brief(board)).replace("\\", "")


def test_gaps_are_named_and_senseless_cells_are_none():
    records = make_sweep({"posenc": ["rope", "alibi"], "cache": ["none", "paged"]})
    for record in records[:3]:
        record.status, record.error = "invalid", "rule"
    assert collect(records)[0].gaps() == []
    records[5].status = "killed"
    del records[-1]
    assert collect(records)[0].gaps() == [
        "posenc=rope cache=paged: seed 44 killed", "posenc=alibi cache=paged: seed 44 missing"
    ]  # fmt: skip


def test_records_of_one_run_that_disagree_are_named():
    (board,) = collect([make_record(1, 1.5), make_record(1, 1.6)])
    assert board.duplicates == 1
    assert "disagree" in board.gaps()[0]


@pytest.mark.parametrize("what", ["data", "code", "torch", "schema"])
def test_what_was_made_differently_is_not_pooled_unless_asked(what):
    records = [make_record(1), make_record(2)]
    if what in ("data", "code"):
        records[1].fingerprints[what] = "other"
    elif what == "torch":
        records[1].env["torch"] = "1.0"
    else:
        records[1].schema = 2
    (board,) = collect(records)
    assert len(board.rows) == 2 and what in board.gaps()[0]
    (pooled,) = collect(records, mix=True)
    assert len(pooled.rows) == 1 and not pooled.gaps()


@pytest.mark.parametrize("start", "=+-@\t\r")
def test_a_spreadsheet_runs_no_cell(start):
    text = tables.csv_text([[f"{start}cmd|' /C calc'!A0", -1.5]])
    ((cell, figure),) = csv.reader(io.StringIO(text, newline=""))
    assert cell.lstrip()[:1] not in "=+-@" and "cmd" in cell and figure == "-1.5"


def test_markdown_and_terminal_show_text_as_text():
    hostile = "a|b\n`c` <script>x</script> [l](http://x) \x1b[31m *b* _i_ train.batch_size"
    shown = tables.markdown(hostile)
    assert "\n" not in shown and "<" not in shown and "\x1b" not in shown
    assert "\\|" in shown and "\\`" in shown and "\\[" in shown and "batch_size" in shown
    assert tables.printable("a\x1b[2J\u202eb\nc") == "a[2Jb c"
