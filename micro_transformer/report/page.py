"""The report as one page: no request leaves it, no string of a record becomes markup or code."""

import base64
import hashlib
import shlex
from collections import Counter
from typing import Any

from markupsafe import Markup

from micro_transformer.records.cells import Cell, Code, Table
from micro_transformer.records.rows import setting_of
from micro_transformer.records.run_record import SAMPLES, RunRecord
from micro_transformer.records.tables import filled
from micro_transformer.report.drawn import Drawn
from micro_transformer.report.pareto_svg import drawings, legend
from micro_transformer.report.study import HEADLINES, Study
from micro_transformer.report.templates import render, source
from micro_transformer.report.trade_off import front_rule
from micro_transformer.wording import _, plural

SAMPLE_CHARACTERS, MOST_SAMPLES = 1500, 3
MOST_GAPS, MOST_LEVELS = 200, 12
MARKS = {
    "differs": "≠", "equal": "≈", "identical": "=", "undecided": "?", "untested": "?",
    "fact": "·", "note": "!",
}  # fmt: skip


def method() -> str:
    """How the report compares, tests and rounds."""
    return _(
        "Differences are averaged over the settings of the other factors in which both sides have "
        "results. Seeds are blocks; what is measured several times on one training is compared "
        "within that training. Intervals are Student's, from the residual pooled over the sweep, "
        "each at 95 %. Each measure has its own family of tests, corrected by Holm. “No difference "
        "larger than” is two one-sided tests at 5 %, corrected likewise. Losses are compared in "
        "nats, costs as ratios. ± in tables is the sample deviation over seeds (n − 1)."
    )


def page(
    title: str,
    studies: list[Study],
    drawn: list[Drawn],
    gaps: list[str],
    across: Table | None,
    command: str,
) -> str:
    """The whole HTML document."""
    style = Markup("").join(map(source, ("colours.css", "page.css", "front.css")))
    script = source("page.js")
    records = [r for s in studies for row in s.board.rows for r in (*row.ok, *row.bad)]
    return render(
        "report.html.j2",
        language="en",
        title=title,
        style=style,
        script=script,
        policy=Markup(
            f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
        summary=_summary(studies),
        factors=_factors(studies),
        gaps=gaps,
        gaps_title=_gaps_title(gaps),
        most_gaps=MOST_GAPS,
        studies=[_shown(study) for study in studies],
        marks=MARKS,
        looks=legend(),
        across=filled(across) if across else None,
        figures=[d for d in drawn if d.on_page],
        samples=_samples(records),
        runs=filled(runs_table(studies)),
        provenance=_provenance(records, command),
        method=method(),
    )


def runs_table(studies: list[Study]) -> Table:
    """Every run with its end and the command that makes it again."""
    table = Table(
        "", [_("Config"), _("Seed"), _("Status"), _("Command"), _("Why"), _("Seconds"), _("Id")]
    )
    for row in (row for study in studies for row in study.board.rows):
        for r in sorted((*row.ok, *row.bad), key=lambda r: r.seed):
            seconds = Cell("—" if r.seconds is None else f"{r.seconds:.1f}", r.seconds)
            table.rows.append([
                Cell(row.name, row.name), Cell(str(r.seed), r.seed), Cell(r.status, r.status),
                Code(command_of(r)), Cell((r.error or "—")[:400]), seconds, Cell(r.id[:12], r.id),
            ])  # fmt: skip
    return table


def command_of(record: RunRecord) -> str:
    """The command that makes a run again."""
    return shlex.join(["python", "run.py", *record.overrides])


def _summary(studies: list[Study]) -> str:
    rows = [row for study in studies for row in study.board.rows]
    ends = Counter(r.status for row in rows for r in (*row.ok, *row.bad))
    missing = sum(len(row.missing) for row in rows)
    parts = [f"{n} {status}" for status, n in ends.most_common()]
    parts += [_("{n} never run", n=missing)] if missing else []
    configurations = plural(len(rows), "{n} configuration", "{n} configurations")
    runs = plural(sum(ends.values()), "{n} run", "{n} runs")
    return f"{configurations}, {runs}: {', '.join(parts)}"


def _factors(studies: list[Study]) -> list[tuple[str, str]]:
    """(name, its levels) of each factor and of the seeds, each pair once."""
    found: list[tuple[str, str]] = []
    for board in (study.board for study in studies):
        for factor in board.factors:
            levels = list(dict.fromkeys(row.levels[factor] for row in board.rows))
            text = ", ".join(levels[:MOST_LEVELS])
            if more := len(levels[MOST_LEVELS:]):
                text = _("{levels} and {n} more", levels=text, n=more)
            found.append((factor, text))
        seeds = board.seeds
        found.append(("seed", ", ".join(map(str, seeds[:8])) + (" …" if len(seeds) > 8 else "")))
    return list(dict.fromkeys(found))


def _shown(study: Study) -> dict[str, Any]:
    """What the template shows of a study."""
    shown, rest = study.headlines[:HEADLINES], study.headlines[HEADLINES:]
    warnings = dict.fromkeys(front.warning for front in study.fronts if front.warning)
    bars = _("Bars: ± std over seeds.")
    return {
        "title": study.board.title,
        "headlines": shown,
        "more": rest[:MOST_GAPS],
        "more_title": plural(len(rest), "{n} more comparison", "{n} more comparisons"),
        "facts": study.facts,
        "drawings": drawings(study.fronts),
        "trade_note": " ".join(
            (front_rule(), bars, "; ".join(study.board.settings) + ".", *warnings)
        ),
        "tables": [filled(table) for table in study.tables],
    }


def _gaps_title(gaps: list[str]) -> str:
    missing = plural(
        len(gaps), "{n} gap: missing or excluded", "{n} gaps: what is missing or excluded"
    )
    return missing if len(gaps) <= MOST_GAPS else _("{gaps} (first {n})", gaps=missing, n=MOST_GAPS)


def _samples(records: list[RunRecord]) -> list[tuple[str, str]]:
    """(name, text) of the first runs that have text samples."""
    found: list[tuple[str, str]] = []
    for r in records:
        path = r.path.with_name(SAMPLES) if r.path else None
        if path is not None and len(found) < MOST_SAMPLES and path.is_file():
            with open(path, "rb") as file:
                text = file.read(4 * SAMPLE_CHARACTERS).decode("utf-8", "replace")
            found.append((" ".join(r.overrides) or r.id, text[:SAMPLE_CHARACTERS]))
    return found


def _provenance(records: list[RunRecord], command: str) -> dict[str, str]:
    def seen(values: list[object]) -> str:
        counts = Counter(str(v) for v in values if v is not None)
        return ", ".join(f"{value} ({n})" for value, n in counts.most_common(6)) or "—"

    lines = {
        _("Made by"): command,
        _("Measured on"): seen([setting_of(r) for r in records]),
        _("Git commit"): seen([_commit(r) for r in records]),
        _("Code"): seen([r.fingerprints.get("code") for r in records]),
        _("Data"): seen([_data(r) for r in records]),
        _("Python"): seen([r.env.get("python") for r in records]),
        _("torch"): seen([r.env.get("torch") for r in records]),
        _("Concurrent jobs"): seen([r.env.get("jobs_beside") for r in records]),
        _("Flags"): seen([flag for r in records for flag in r.flags]),
        _("Started"): _span([r.started for r in records if r.started]),
    }
    return {name: value[:600] for name, value in lines.items()}


def _commit(record: RunRecord) -> str | None:
    commit = str(record.git.get("commit") or "")[:12]
    if not commit:
        return None
    return _("{commit} with changes", commit=commit) if record.git.get("dirty") else commit


def _data(record: RunRecord) -> str:
    return f"{record.data.get('tier')} {str(record.data.get('sha256'))[:12]}"


def _span(times: list[str]) -> str:
    return _("{first} to {last}", first=min(times), last=max(times)) if times else "—"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
