"""The report as one page: no request leaves it, no string of a record becomes markup or code."""

import base64
import hashlib
import shlex
from collections import Counter
from pathlib import Path

from micro_transformer.records.cells import Cell, Table
from micro_transformer.records.rows import setting_of
from micro_transformer.records.run_record import RunRecord
from micro_transformer.records.tables import filled
from micro_transformer.report.claims import Claim
from micro_transformer.report.drawn import Drawn
from micro_transformer.report.html import Markup, joined, tag
from micro_transformer.report.pareto_svg import front_svg, legend
from micro_transformer.report.study import FRONT_RULE, HEADLINES, Study
from micro_transformer.wording import plural

HERE = Path(__file__).parent
SAMPLES, SAMPLE_CHARACTERS, MOST_SAMPLES = "samples.txt", 1500, 3
MARKS = {
    "differs": "≠", "equal": "≈", "identical": "=", "undecided": "?", "untested": "?",
    "fact": "·", "note": "!",
}  # fmt: skip


def page(
    title: str,
    studies: list[Study],
    drawn: list[Drawn],
    gaps: list[str],
    across: Table | None,
    command: str,
) -> str:
    """The whole HTML document."""
    style = (HERE / "page.css").read_text(encoding="utf-8")
    script = (HERE / "page.js").read_text(encoding="utf-8")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    body = [_header(title, studies), *(_gaps(gaps) if gaps else [])]
    for study in studies:
        body.append(_study(study, len(studies) > 1))
    if across is not None:
        body.append(_section("Across tokenizers", _table(across)))
    if shown := [d for d in drawn if d.on_page]:
        body.append(_section("Figures", *map(_figure, shown)))
    records = [r for s in studies for row in s.board.rows for r in (*row.ok, *row.bad)]
    body += [_samples(records), _section("Every run", _table(runs_table(studies)))]
    body += [_section("Provenance", _provenance(records, command)), _method()]
    head = [
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("title", title),
        Markup(f"<style>{style}</style>"),
    ]
    whole = [
        tag("head", *head),
        tag("body", tag("main", *body), Markup(f"<script>{script}</script>")),
    ]
    return f"<!doctype html>\n{tag('html', *whole, lang='en')}\n"


def runs_table(studies: list[Study]) -> Table:
    """Every run with its end and the command that makes it again."""
    table = Table("", ["Config", "Seed", "Status", "Command", "Why", "Seconds", "Id"])
    for row in (row for study in studies for row in study.board.rows):
        for r in sorted((*row.ok, *row.bad), key=lambda r: r.seed):
            seconds = Cell("—" if r.seconds is None else f"{r.seconds:.1f}", r.seconds)
            table.rows.append([
                Cell(row.name, row.name), Cell(str(r.seed), r.seed), Cell(r.status, r.status),
                Cell(command_of(r)), Cell((r.error or "—")[:400]), seconds, Cell(r.id[:12], r.id),
            ])  # fmt: skip
    return table


def command_of(record: RunRecord) -> str:
    """The command that makes a run again."""
    return shlex.join(["python", "run.py", *record.overrides])


def _header(title: str, studies: list[Study]) -> Markup:
    rows = [row for study in studies for row in study.board.rows]
    ends = Counter(r.status for row in rows for r in (*row.ok, *row.bad))
    missing = sum(len(row.missing) for row in rows)
    parts = [f"{n} {status}" for status, n in ends.most_common()]
    parts += [f"{missing} never run"] if missing else []
    chips = []
    for board in (study.board for study in studies):
        for factor in board.factors:
            levels = list(dict.fromkeys(row.levels[factor] for row in board.rows))
            text = ", ".join(levels[:12]) + (f" and {len(levels) - 12} more" * (len(levels) > 12))
            chips.append(tag("li", tag("b", factor), f" {text}"))
        seeds = board.seeds
        some = ", ".join(map(str, seeds[:8])) + (" …" if len(seeds) > 8 else "")
        chips.append(tag("li", tag("b", "seed"), f" {some}"))
    count = sum(ends.values())
    summary = f"{plural(len(rows), '{n} configuration', '{n} configurations')}, {plural(count, '{n} run', '{n} runs')}: {', '.join(parts)}"  # noqa: E501
    return tag(
        "header", tag("p", "micro-Transformer lab", class_="over"), tag("h1", title),
        tag("p", summary, class_="summary"), tag("ul", *dict.fromkeys(chips), class_="chips"),
    )  # fmt: skip


def _study(study: Study, named: bool) -> Markup:
    board = study.board
    parts = [tag("h2", board.title)] if named else []
    shown, rest = study.headlines[:HEADLINES], study.headlines[HEADLINES:]
    parts.append(_section("What this sweep says", _claims(shown), *_more(rest)))
    parts.append(_section("How sure that is", _claims(study.facts)))
    if study.fronts:
        parts.append(_trade(study))
    first, *others = study.tables
    parts.append(_section("Results", _table(first)))
    for table in others:
        fold = tag("details", tag("summary", table.title), _table(table, heading=False))
        parts.append(fold)
    return tag("section", *parts, class_="study")


def _claims(claims: list[Claim]) -> Markup:
    if not claims:
        return tag("p", "Nothing was varied, or nothing could be compared.", class_="quiet")
    items = [
        tag(
            "li",
            tag("span", MARKS[c.verdict], class_="mark"),
            tag("span", c.text),
            class_=c.verdict,
        )
        for c in claims
    ]
    return tag("ul", *items, class_="claims")


def _more(claims: list[Claim]) -> list[Markup]:
    if not claims:
        return []
    return [
        tag(
            "details",
            tag("summary", plural(len(claims), "{n} more comparison", "{n} more comparisons")),
            _claims(claims[:200]),
        )
    ]


def _trade(study: Study) -> Markup:
    options, views = [], []
    for i, front in enumerate(study.fronts):
        name = f"{front.quality.label} against {front.cost.title}"
        if len(study.board.settings) > 1:
            name += f", {front.setting}"
        options.append(tag("option", name, value=i))
        views.append(tag("div", front_svg(front), class_="view", data_view=i))
    choose = tag("label", "Show ", tag("select", *options, class_="choose"), class_="bar")
    return _section(
        "What it costs",
        tag("div", choose, *views, tag("div", class_="tip", role="status", hidden=True),
            tag("p", legend(), class_="legend"), class_="trade"),
        tag("p", FRONT_RULE, " Bars: ± std over seeds. ", "; ".join(study.board.settings), ". ",
            " ".join(dict.fromkeys(front.warning for front in study.fronts)),
            class_="quiet"),
    )  # fmt: skip


def _table(table: Table, heading: bool = True) -> Markup:
    """A table that the script sorts and filters; without it, it is whole."""
    table = filled(table)
    head = [tag("th", tag("button", name, type="button"), scope="col") for name in table.columns]
    body = [
        tag("tr", *(_cell(c, name) for c, name in zip(row, table.columns, strict=True)))
        for row in table.rows
    ]
    title = [tag("h3", table.title)] if heading and table.title else []
    note = [tag("p", table.note, class_="quiet")] if table.note else []
    grid = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("div", *title, *note, tag("div", grid, class_="scroll"), class_="sheet")


def _cell(cell: Cell, column: str) -> Markup:
    number = isinstance(cell.value, int | float) and not isinstance(cell.value, bool)
    inside = tag("code", cell.text) if column == "Command" else cell.text
    value = None if cell.value is None else cell.value
    return tag(
        "td", inside, data_label=column, data_sort=value, class_="number" if number else None
    )


def _gaps(gaps: list[str]) -> list[Markup]:
    items = [tag("li", gap) for gap in gaps[:200]]
    more = f" (first 200 of {len(gaps)})" if len(gaps) > 200 else ""
    summary = tag(
        "summary",
        f"{plural(len(gaps), '{n} gap', '{n} gaps')}{more}: what is missing or kept apart",
    )
    return [tag("details", summary, tag("ul", *items), class_="gaps", open=len(gaps) <= 5)]


def _figure(drawn: Drawn) -> Markup:
    source = "data:image/svg+xml;base64," + base64.b64encode(drawn.svg).decode()
    image = tag("img", src=source, alt=drawn.caption)
    picture = tag("div", image, class_="picture", tabindex=0)
    return tag("figure", picture, tag("figcaption", drawn.caption))


def _samples(records: list[RunRecord]) -> Markup:
    found: list[Markup] = []
    for r in records:
        path = r.path.with_name(SAMPLES) if r.path else None
        if path is not None and len(found) < MOST_SAMPLES and path.is_file():
            with open(path, "rb") as file:
                text = file.read(4 * SAMPLE_CHARACTERS).decode("utf-8", "replace")
            name = tag("figcaption", " ".join(r.overrides) or r.id)
            found.append(tag("figure", name, tag("pre", text[:SAMPLE_CHARACTERS])))
    return _section("Samples", *found) if found else joined()


def _provenance(records: list[RunRecord], command: str) -> Markup:
    def seen(values: list[object]) -> str:
        counts = Counter(str(v) for v in values if v is not None)
        return ", ".join(f"{value} ({n})" for value, n in counts.most_common(6)) or "—"

    lines = {
        "Made by": command,
        "Measured on": seen([setting_of(r) for r in records]),
        "Git commit": seen([_commit(r) for r in records]),
        "Code": seen([r.fingerprints.get("code") for r in records]),
        "Data": seen([_data(r) for r in records]),
        "Python": seen([r.env.get("python") for r in records]),
        "torch": seen([r.env.get("torch") for r in records]),
        "Beside other jobs": seen([r.env.get("jobs_beside") for r in records]),
        "Flags": seen([flag for r in records for flag in r.flags]),
        "Started": _span([r.started for r in records if r.started]),
    }
    items = [joined(tag("dt", name), tag("dd", value[:600])) for name, value in lines.items()]
    return tag("dl", *items)


def _commit(record: RunRecord) -> str | None:
    commit = record.git.get("commit")
    return (
        f"{str(commit)[:12]}{' with changes' * bool(record.git.get('dirty'))}" if commit else None
    )


def _data(record: RunRecord) -> str:
    return f"{record.data.get('tier')} {str(record.data.get('sha256'))[:12]}"


def _span(times: list[str]) -> str:
    return f"{min(times)} to {max(times)}" if times else "—"


def _method() -> Markup:
    text = (
        "Differences are averaged over the settings of the other factors in which both sides have "
        "results. Seeds are blocks; what is measured several times on one training is compared "
        "within that training. Intervals are Student's, from the residual pooled over the sweep, "
        "each at 95 %. Each measure has its own family of tests, corrected by Holm. “No difference "
        "larger than” is two one-sided tests at 5 %, corrected likewise. Losses are compared in "
        "nats, costs as ratios. ± in tables is the sample deviation over seeds (n − 1)."
    )
    return _section("Method", tag("p", text, class_="quiet"))


def _section(title: str, *children: object) -> Markup:
    return tag("section", tag("h2", title), *children)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
