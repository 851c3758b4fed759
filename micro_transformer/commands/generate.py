"""python -m micro_transformer.generate [PATH] prompt="..." [decoding=top_p ...]: writes text, or
translates with a net that reads a source: the prompt, or the lines of --file (`-`: standard input).

PATH is a job's folder, or a training as its folder in the store or the first letters of its
fingerprint; without one, the newest training of the store. Text appears as it is written, except
with a strategy that may still change it. The words choose decoding, cache, attention and scaling,
and their knobs, as in `decoding.top_p=0.9`; with --grid each may have several values, as in
`decoding=greedy,beam`, and every prompt is written by each.
"""

import csv
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from micro_transformer import disk
from micro_transformer.commands.places import data_flag, store_flag, training_at
from micro_transformer.config import compatibility, schema
from micro_transformer.config.neutral import with_neutral
from micro_transformer.config.overrides import BadConfig
from micro_transformer.console import Argument, Flag, Parser, clean
from micro_transformer.data.prepared_dataset import DataDamaged, DataMissing
from micro_transformer.machine import cuda_usable
from micro_transformer.progress import Display, shown
from micro_transformer.records.record_files import RECORD, read
from micro_transformer.records.run_record import NotARecord
from micro_transformer.runs.planning import make_plan
from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.wording import _, printable

CHOSEN = ("decoding", "cache", "attention", "scaling")  # groups that the words may set
BAD_USE, BAD_DATA = 2, 3


def parser() -> Parser:
    """The command's grammar."""
    return Parser(
        "generate",
        _("Writes text with a trained model; a translation model translates the prompt."),
        [Argument("PATH", _("a job's folder or a training; default: the newest training"), "?")],
        [
            Flag("--prompt", _("the text to go on from"), "TEXT", default="", old=("prompt=",)),
            Flag("--file", _("a file of lines to translate; -: standard input"), "FILE"),
            Flag("--tokens", _("new tokens at most; default: 200"), "N", int, 200),
            Flag("--seed", _("of the draws; default: 1"), "N", int, 1),
            data_flag(),
            store_flag(),
            Flag("--n-best", _("the N best texts of decoding=beam, with their scores"), "N", int),
            Flag(
                "--grid",
                _("write each prompt by each choice, as in decoding=greedy,beam"),
                "FOLDER",
                Path,
            ),
            Flag("--json", _("print one JSON object at the end")),
        ],
        choices=_("decoding, cache, attention, scaling and their knobs, such as decoding.p=0.9"),
    )


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 wrong usage, 3 training or data unusable."""
    asked = parser().parse(words)
    try:
        for name, number in (("tokens", asked.tokens), ("n-best", asked.n_best)):
            if number is not None and number < 1:
                raise BadConfig([_("--{name}={n}: must be at least 1", name=name, n=number)])
        entry = _entry(asked.path, asked.store)
        cells = _cells(entry, asked.choices, asked.data, is_grid=asked.grid is not None)
        what = _title(cells[0].config)
        print(_("{training}: {what}", training=entry.folder, what=what), file=sys.stderr)
        return _write(entry, cells, asked)
    except BadConfig as error:
        for line in error.lines:
            print(_("error: {fault}", fault=line), file=sys.stderr)
        return BAD_USE
    except (Damaged, DataMissing, DataDamaged, NotARecord, ValueError) as error:
        print(_("error: {fault}", fault=error), file=sys.stderr)
        return BAD_DATA


def _entry(path: Path | None, store: Path) -> Entry:
    """The training that the path names, or the newest one; raises Damaged if there is none."""
    if path is None:
        done = [each.parent for each in store.glob("*/final") if each.is_dir()]
        if not done:
            raise Damaged(_("{store}: has no finished training; run `python run.py`", store=store))
        newest = max(done, key=lambda folder: (folder / "final").stat().st_mtime)
        return Entry(newest.parent, newest.name)
    if (path / RECORD).is_file():
        record = read(path / RECORD)
        print_ = record.fingerprints.get("train")
        if not print_:
            raise Damaged(_("{path}: its run trained nothing", path=path))
        return training_at(Path(print_), store)
    return training_at(path, store)


def _cells(entry: Entry, words: list[str], data_dir: str, *, is_grid: bool) -> list["Cell"]:
    """The training's configuration with each combination of the chosen groups, of which only a
    grid may have several; raises BadConfig."""
    for word in words:
        key = word.split("=")[0].split(".")[0]
        if key not in CHOSEN:
            known = ", ".join(CHOSEN)
            raise BadConfig([_("{word}: must set one of {known}", word=clean(word), known=known)])
    trained: dict[str, Any] = with_neutral(entry.factors()["config"])
    cells = []
    for job in make_plan([*words, *["-m"] * is_grid]).jobs:
        config = trained | {group: job.config[group] for group in CHOSEN}
        config |= {name: job.config[name] for name in ("budget", "run", "bench")}
        config |= {"data": {"dir": data_dir}, "eval": {"measures": {}}}
        config["bench"] = {**config["bench"], "measures": {}}
        if not cuda_usable():
            config["device"] = "cpu"
        if faults := compatibility.conflicts(config):
            raise BadConfig(faults)
        named = [word for word in job.overrides if word.split("=")[0].split(".")[0] in CHOSEN]
        cells.append(Cell(" ".join(named) or f"decoding={job.choices['decoding']}", config))
    return cells


class Cell(NamedTuple):
    """A combination of choices, by the words that set it."""

    name: str
    config: dict[str, Any]


def _title(config: dict[str, Any]) -> str:
    return " + ".join(str(schema.component(group, config).kind) for group in ("task", *CHOSEN[:2]))


def _write(entry: Entry, cells: list[Cell], asked: Any) -> int:
    """Prints the text, or writes the grid; exit code."""
    from micro_transformer.build import measuring, training
    from micro_transformer.commands.streaming import Streamed
    from micro_transformer.evals import sentences
    from micro_transformer.runs import worker  # loads torch
    from micro_transformer.seeds import make_deterministic

    config = cells[0].config
    is_searched = schema.component("decoding", config).facts["searches"]
    if asked.n_best and asked.grid:
        raise BadConfig([_("--n-best: has no grid; leave out --grid or --n-best")])
    if asked.n_best and not is_searched:
        raise BadConfig([_("--n-best: needs a search; add decoding=beam")])
    make_deterministic(config["train"]["threads"])
    task = training.build_task(config)
    model, _state = worker.load(config, entry, task)
    translates = "source_target" in task.gives
    if asked.file and not (translates or asked.grid):
        raise BadConfig([_("--file: needs a translation net or --grid; give a prompt")])
    prompts = _lines(asked, is_source=translates)

    def how(config: dict[str, Any]) -> tuple[Any, int, dict[str, Any]]:
        """The strategy, the number of tokens, and the options of a configuration."""
        options = {"make_layer": measuring.cache_maker(config)}
        return measuring.build_strategy(config), asked.tokens, options

    def texts(config: dict[str, Any], **more: Any) -> list[str]:
        strategy, tokens, options = how(config)
        each = (model, task.tokenizer), (strategy, tokens), options | {"seed": asked.seed} | more
        if translates:
            return sentences.translate(*each[0], prompts, *each[1], **each[2])
        return [sentences.continuation(*each[0], p, *each[1], **each[2]) for p in prompts]

    if asked.grid:
        _write_grid(texts, prompts, cells, asked.grid)
    elif asked.n_best:
        strategy, tokens, options = how(config)
        find = sentences.translations if translates else _each(sentences.continuations)
        found = find(model, task.tokenizer, prompts, strategy, tokens, **options)
        _print_best(prompts, found, asked)
    elif translates:
        for source, text in zip(prompts, texts(config), strict=True):
            _print({"source": source, "translation": text}, text, asked)
    elif asked.json:
        _print({"prompt": prompts[0], "text": texts(config)[0]}, "", asked)
    else:
        screen = Streamed(task.tokenizer, sys.stdout)
        screen.end(texts(config, watch=screen.watch)[0])
    return 0


def _each(find: Callable[..., Any]) -> Callable[..., list[Any]]:
    """`find`, which takes one prompt, for several."""

    def found(model: Any, tokenizer: Any, prompts: list[str], *how: Any, **options: Any) -> Any:
        return [find(model, tokenizer, prompt, *how, **options) for prompt in prompts]

    return found


def _print_best(prompts: list[str], found: list[list[tuple[str, float]]], asked: Any) -> None:
    for prompt, texts in zip(prompts, found, strict=True):
        for text, score in texts[: asked.n_best]:
            row = {"prompt": prompt, "text": text, "score": score}
            _print(row, f"{score:.3f}  {text}", asked)


def _print(row: dict[str, Any], text: str, asked: Any) -> None:
    print(json.dumps(row, ensure_ascii=False) if asked.json else printable(text))


def _write_grid(
    written: Callable[..., list[str]], prompts: list[str], cells: list[Cell], folder: Path
) -> None:
    """grid.csv has a row per prompt and combination; grid.md is the same to read."""
    folder.mkdir(parents=True, exist_ok=True)
    disk.need_writable(folder)
    display, rows = Display(_("combination"), len(cells)), []
    with shown(display):
        for name, config in cells:
            texts = written(config)
            rows += [(prompt, name, text) for prompt, text in zip(prompts, texts, strict=True)]
            display.advance()
    table, page = io.StringIO(), []
    csv.writer(table).writerows([("prompt", "choices", "text"), *rows])
    for prompt in dict.fromkeys(prompts):
        page.append(f"## {printable(prompt)}")
        page += [f"**{name}**\n\n{printable(text)}" for of, name, text in rows if of == prompt]
    disk.write_file(folder / "grid.csv", table.getvalue().encode())
    disk.write_file(folder / "grid.md", ("\n\n".join(page) + "\n").encode())
    print(_("written: {table}, {page}", table=folder / "grid.csv", page=folder / "grid.md"))


def _lines(asked: Any, *, is_source: bool) -> list[str]:
    """The prompts, or sources to translate; raises BadConfig if there are none."""
    if not asked.file:
        if not asked.prompt.strip() if is_source else not asked.prompt:
            raise BadConfig([_('prompt: has no tokens; write prompt="some text" or --file FILE')])
        return [asked.prompt]
    if asked.file == "-":
        return sys.stdin.read().splitlines()
    try:
        return Path(asked.file).expanduser().read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise BadConfig([_("--file={file}: must be UTF-8 text", file=asked.file)]) from None
    except OSError as error:
        why = error.strerror
        raise BadConfig([_("--file={file}: {why}", file=asked.file, why=why)]) from None
