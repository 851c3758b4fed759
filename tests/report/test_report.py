"""The report of a folder: whole, bound to its records, and deaf to what they say."""

import csv
import io
import itertools
import json
import random
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from micro_transformer.commands.report import main
from micro_transformer.records.rows import collect
from micro_transformer.records.run_record import MEASURED_BESIDE
from micro_transformer.records.tables import as_text
from micro_transformer.report.facts import slope
from micro_transformer.report.study import IN_ROUNDS, ONE_AFTER_THE_OTHER, order_note, study
from micro_transformer.report.summary_table import brief
from micro_transformer.report.write import write_report
from micro_transformer.stats.power_law import power_law
from tests.made_records import add_places, make_record, make_sweep, write_all

FACTORS = {"posenc": ["rope", "alibi"], "cache": ["none", "paged"]}


class Elements(HTMLParser):
    """Counts elements and collects attributes; text is what a reader sees."""

    def __init__(self, text):
        super().__init__()
        self.found, self.attributes, self.text = {}, set(), []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found[tag] = self.found.get(tag, 0) + 1
        self.attributes |= {(tag, name) for name, _ in attrs}

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep") / "demo"
    return write_all(make_sweep(FACTORS, effects={("posenc", "alibi"): 0.05}), folder)


def payloads():
    """500 hostile strings: openings crossed with bodies and closings."""
    opens = ["<script>", '"><script>', "</script><script>", "'>", "]]>", "-->", "<svg onload=",
             "<img src=x onerror=", "</title><script>", "</style>", "{{", "${", "&lt;script&gt;",
             "\u202e<b>", "<!--", "</textarea>", "</svg>", "</td></tr></table>", "` onx=",
             "\\x3c"]  # fmt: skip
    bodies = ["alert(1)", "javascript:alert(1)", "=cmd|' /C calc'!A0", "__import__('os')", "$x_1$"]
    closes = ["", "</script>", ">", '">', "'/onfocus=alert(1) autofocus/x='"]
    return ["".join(parts) for parts in itertools.product(opens, bodies, closes)]


def hostile_sweep(texts):
    """Each text in a level, an error, an override, a sample, the environment."""
    records = []
    for i, text in enumerate(texts):
        record = make_record(i % 3, 1.5 + i / 1000, posenc=text, cache=["a", "b"][i % 2])
        record.error, record.sweep, record.id = text, text, text
        record.env |= {"torch": text, "cpu": text} if i == 0 else {}
        record.git = {"commit": text, "dirty": True}
        record.flags, record.data = [text], {"tier": text, "sha256": "da7a"}
        record.status = "ok" if i % 4 else "failed"
        records.append(record)
    return records


def test_five_hundred_hostile_texts_are_text(tmp_path, sweep):
    texts = payloads()
    assert len(texts) == 500
    folder = write_all(hostile_sweep(texts), tmp_path / "hostile")
    for i in range(3):
        (folder / f"{i:05d}" / "samples.txt").write_text("\n".join(texts))
    write_report(folder, figures=False)
    write_report(sweep)
    page = (folder / "report.html").read_text()
    ours, plain = Elements(page), Elements((sweep / "report.html").read_text())
    new = set(ours.found) - set(plain.found)
    assert new <= {"pre"}, new
    assert ours.found["script"] == ours.found["style"] == 1
    assert ours.attributes - plain.attributes <= {("details", "class"), ("details", "open")}
    assert not [a for a in ours.attributes if a[1].startswith("on") or a[1] in ("style", "href")]
    seen = "".join(ours.text)
    assert all(" ".join(t.split())[:30] in seen or "\u202e" in t for t in texts)


def test_no_hostile_text_breaks_a_markdown_table_or_a_csv_line(tmp_path):
    texts = random.Random(0).sample(payloads(), 60)
    folder = write_all(add_places(hostile_sweep(texts), shorter=texts[1]), tmp_path / "x")
    write_report(folder)
    page = Elements((folder / "report.html").read_text())
    assert page.found["script"] == page.found["style"] == 1 and page.found["img"] > 4
    assert not [name for _, name in page.attributes if name.startswith("on")]
    lines = (folder / "report.md").read_text().splitlines()
    for title, table in itertools.groupby(lines, key=lambda line: line.startswith("|")):
        if title:
            cells = {len(line.replace("\\|", "").split("|")) for line in table}
            assert len(cells) == 1
    assert "<script" not in "\n".join(lines)
    rows = list(csv.reader(io.StringIO((folder / "runs.csv").read_text(), newline="")))
    assert {len(row) for row in rows} == {len(rows[0])} and len(rows) == 61
    assert not [c for row in rows for c in row if c[:1] in tuple("=+@")]


def test_nothing_is_asked_from_elsewhere(sweep):
    write_report(sweep)
    page = (sweep / "report.html").read_text()
    assert "default-src 'none'" in page and "unsafe" not in page.split("</head>")[0]
    assert page.count("<style>") == 1  # a policy allows this one alone
    for word in ("http://", "https://", "//cdn", "@import", "innerHTML", "eval("):
        assert word not in page.replace("http://www.w3.org", "")


def test_the_page_says_what_the_table_says(sweep, capsys):
    assert main([str(sweep)]) == 0
    printed = capsys.readouterr().out
    page = "".join(Elements((sweep / "report.html").read_text()).text)
    assert "rope beats alibi by" in printed and "rope beats alibi by" in page
    assert "give the same validation loss" in page and "python run.py" in page
    assert "PPL mean ± std" in printed and "42, 43, 44" in printed
    figures = (
        "pareto-decode-tokens_per_s.svg",
        "effects.png",
        "ppl_by_epoch.png",
        "speed.png",
        "loss.svg",
    )
    for name in ("report.md", "report.html", "runs.csv", *(f"figures/{f}" for f in figures)):
        assert (sweep / name).stat().st_size > 500


def test_the_report_is_the_same_twice(sweep, tmp_path):
    for out in (tmp_path / "a", tmp_path / "b"):
        write_report(sweep, out)
    for one in (p for p in (tmp_path / "a").rglob("*") if p.is_file()):
        two = tmp_path / "b" / one.relative_to(tmp_path / "a")
        assert one.read_bytes() == two.read_bytes()


def test_strict_fails_on_gaps_alone(tmp_path, capsys):
    records = make_sweep(FACTORS)
    write_all(records, tmp_path / "whole")
    assert main([str(tmp_path / "whole"), "--strict", "--no-figures"]) == 0
    write_all(records[:-1], tmp_path / "part")
    assert main([str(tmp_path / "part"), "--no-figures"]) == 0
    assert main([str(tmp_path / "part"), "--strict", "--no-figures"]) == 1
    (tmp_path / "whole" / "00000" / "record.json").write_text("{")
    assert main([str(tmp_path / "whole"), "--strict", "--no-figures"]) == 1
    assert "1 file skipped" in capsys.readouterr().out


def test_a_folder_without_records_is_one_line_and_exit_3(tmp_path, capsys):
    assert main([str(tmp_path)]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_a_sweep_that_only_failed_is_reported(tmp_path):
    records = [make_record(s, status="failed", error="boom", metrics={}, cost={}) for s in (1, 2)]
    report = write_report(write_all(records, tmp_path / "x"))
    assert "failed: boom" in report.text and len(report.gaps) == 1


def test_a_scaling_sweep_has_its_line(tmp_path):
    truth = {("model", "4m"): -0.2, ("model", "12m"): -0.36}
    records = make_sweep({"model": ["1m", "4m", "12m"]}, effects=truth)
    for r in records:
        r.size["params"] = {"1m": 1e6, "4m": 4e6, "12m": 12e6}[r.choices["model"]]
    report = write_report(write_all(records, tmp_path / "x"))
    assert (tmp_path / "x" / "figures" / "scaling.svg").exists()
    assert "PPL falls as params^−0.1" in (tmp_path / "x" / "report.md").read_text()
    assert report.gaps == []
    flat = power_law([1e6, 4e6, 12e6], [5.0, 5.1, 5.0])
    assert "no trend is shown" in slope(flat).text


def test_costs_measured_beside_other_jobs_are_shown_and_not_compared():
    """A sweep that ran its first half on a busy machine made its second half "64 % faster"."""
    records = make_sweep({"posenc": ["rope", "alibi"]})
    for record in records:
        record.cost["decode/tokens_per_s"] *= 2 if record.choices["posenc"] == "rope" else 1
    alone = study(collect(records)[0])
    assert any("times the tokens/s" in claim.text for claim in alone.headlines)
    assert any("not in rounds" in claim.text for claim in alone.facts)
    for record in records:
        record.flags = [MEASURED_BESIDE]
    beside = study(collect(records)[0])
    assert not any("tokens/s" in claim.text for claim in beside.headlines)
    assert any("run.bench=alone" in claim.text for claim in beside.facts)
    assert {p.standing for front in beside.fronts for p in front.points} == {"perhaps"}
    assert "with concurrent jobs" in as_text(brief(beside.board))


def test_a_figure_that_is_not_finite_stands_as_na_with_the_reason():
    records = make_sweep({"posenc": ["rope", "alibi"]})
    for record in records[:3]:
        record.metrics["val/ppl"], record.flags = None, ["val/ppl was inf"]
    (board,) = collect(records)
    assert "n/a: was inf" in as_text(brief(board))


def test_rows_with_the_same_figures_are_named_together():
    found = study(collect(make_sweep(FACTORS, effects={("posenc", "alibi"): 0.05}))[0])
    (best,) = [c.text for c in found.facts if c.text.startswith("Best mean")]
    assert "posenc=rope (2 alike)" in best


def test_tokenizers_meet_in_bits_per_byte_only(tmp_path):
    records = [make_record(s, data={"tokenizer": t}) for s in (1, 2) for t in ("char", "bpe")]
    write_report(write_all(records, tmp_path / "x"))
    text = (tmp_path / "x" / "report.md").read_text()
    assert "Bits per byte across" in text and "tokenizer char" in text


def test_undecided_is_never_called_equal():
    records = make_sweep({"posenc": ["rope", "alibi"]}, noise=0.05)
    found = study(collect(records)[0])
    assert any("undecided" in claim.text for claim in found.headlines)
    assert not any("no difference larger" in claim.text for claim in found.headlines)


def test_the_report_loads_no_torch(sweep):
    script = (
        "import sys; from micro_transformer.commands.report import main; "
        f"main([{str(sweep)!r}]); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


def test_history_lines_that_are_no_figures_are_left_out(tmp_path):
    folder = write_all(make_sweep({"posenc": ["rope", "alibi"]}), tmp_path / "x")
    bad = json.dumps({"step": 50, "val/loss": "x"}) + "\n" + json.dumps({"step": 60, "epoch": None})
    (folder / "00000" / "history.jsonl").write_text(bad + '\n{"step": 1e999, "val/loss": 2}\n')
    assert write_report(folder).gaps == []


def test_distance_is_judged_by_rows_and_between_them():
    def placed(loss_far):
        records = []
        for posenc, far in loss_far.items():
            for seed in (42, 43, 44):
                record = make_record(seed, 1.6 + seed / 1e4, posenc=posenc)
                record.config["train"]["context"] = 512
                noise = 0.004 * (seed - 43)
                end = None if far is None else far + noise * seed / 43 * (posenc != "none")
                record.metrics |= {"context/loss@256": 1.8 + noise, "context/loss@512": 1.7 + noise,
                                   "context/loss@8192": end}  # fmt: skip
                records.append(record)
        (board,) = collect(records)
        return study(board)

    found = placed({"rope": 3.1, "alibi": 1.7, "none": 1.701, "learned": None})
    said = {claim.text: claim.verdict for claim in found.headlines}
    rows = {t.split(":")[0]: t for t in said if "against 512" in t or "n/a" in t}
    assert "1.400 ± " in rows["posenc=rope"] and "nats higher" in rows["posenc=rope"]
    assert "no change larger than 0.01 nats (−0.0" in rows["posenc=alibi"]
    assert "undecided, −0.0" in rows["posenc=none"]
    absent = rows["posenc=learned, loss with 8192 tokens of context"]
    assert "no trained position past 512" in absent
    between = [t for t in said if "alibi beats rope by 1.4" in t]
    assert len(between) == 1 and said[between[0]] == "differs"
    assert found.effects[1].measure.key == "context/loss@8192"


def test_unequal_scatter_is_said():
    records = []
    for posenc, spread in (("rope", 1e-4), ("alibi", 0.3)):
        for seed in range(5):
            records.append(make_record(seed, 1.6 + spread * (seed * 7 % 5), posenc=posenc))
    (board,) = collect(records)
    assert any("vary far more" in claim.text for claim in study(board).facts)


def test_a_figure_that_is_nothing_everywhere_is_a_figure():
    records = [make_record(seed, posenc=p) for p in ("rope", "alibi") for seed in (42, 43)]
    for record in records:
        record.metrics = {"needle/accuracy@64": 0.0, "needle/accuracy@1024": 0.0}
        record.cost = {}
    (board,) = collect(records)
    found = study(board)
    said = [claim.text for claim in (*found.headlines, *found.facts)]
    assert len([t for t in said if "give the same needle" in t]) == 1
    assert any(text.startswith("All 2 configurations have the same Needle") for text in said)


@pytest.mark.parametrize(("accuracy", "suspicious"), [(1.0, False), (0.73, True)])
def test_seeds_that_agree_are_suspicious_unless_all_is_right(accuracy, suspicious):
    records = [make_record(seed, posenc=p) for p in ("rope", "alibi") for seed in (42, 43)]
    for record in records:
        record.metrics = {"recall/trained_length": accuracy}
    (board,) = collect(records)
    assert any("may not reach" in claim.text for claim in study(board).facts) == suspicious


def test_the_order_of_the_runs_is_read_off_their_times():
    def noted(order):
        records = []
        for i, (posenc, seed) in enumerate(order):
            record = make_record(seed, 1.6 + seed / 1e3, posenc=posenc)
            record.started = f"2026-01-02T03:{i:02d}:00Z"
            records.append(record)
        (board,) = collect(records)
        return order_note(board)

    rounds = [("rope", 42), ("alibi", 42), ("alibi", 43), ("rope", 43)]
    assert noted(rounds) == IN_ROUNDS
    assert noted([rounds[i] for i in (0, 3, 1, 2)]) == ONE_AFTER_THE_OTHER
