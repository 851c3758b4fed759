"""python -m micro_transformer.generate [PATH] prompt="..." [decoding=top_p ...]: writes text, or
translates with a net that reads a source: the prompt, or the lines of --file (`-`: standard input).

PATH is a job's folder, or a training as its folder in the store or the first letters of its
fingerprint; without one, the newest training of the store. Text appears as it is written, except
with a strategy that may still change it. The words choose decoding, cache, attention and scaling,
and their knobs, as in `decoding.top_p=0.9`; with --grid each may have several values, as in
`decoding=greedy,beam`, and every prompt is written by each.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from micro_transformer import disk
from micro_transformer.commands.places import data_flag, store_flag, training_at
from micro_transformer.commands.text_grid import Cell, write_grid
from micro_transformer.config import compatibility, schema
from micro_transformer.config.neutral import with_neutral
from micro_transformer.config.overrides import BadConfig
from micro_transformer.console import Argument, Flag, Parser, clean
from micro_transformer.data.prepared_dataset import DataDamaged, DataMissing
from micro_transformer.machine import cuda_usable
from micro_transformer.records.record_files import RECORD, read
from micro_transformer.records.run_record import NotARecord
from micro_transformer.runs.planning import make_plan
from micro_transformer.store.checkpoints import Damaged, Entry
from micro_transformer.wording import _, printable

CHOSEN = ("decoding", "cache", "attention", "scaling")  # groups that the words may set
PICTURES = (".svg", ".png")
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
            Flag(
                "--alignment",
                _("draw what each token of a translation reads of its source; .png or .svg"),
                "FILE",
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


def _cells(entry: Entry, words: list[str], data_dir: str, *, is_grid: bool) -> list[Cell]:
    """The training's configuration with each combination of the chosen groups, of which only a
    grid may have several; raises BadConfig."""
    for word in words:
        key = word.split("=")[0].split(".")[0]
        if key not in CHOSEN:
            known = ", ".join(CHOSEN)
            raise BadConfig([_("{word}: must set one of {known}", word=clean(word), known=known)])
    trained: dict[str, Any] = with_neutral(entry.factors()["config"])
    cells = []
    for job in make_plan([*_like(trained), *words, *["-m"] * is_grid]).jobs:
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


def _like(trained: dict[str, Any]) -> Iterator[str]:
    """Words that choose the trained net's arch and task, which some strategies need."""
    yield from ("eval=none", "bench=none")
    for group in ("arch", "task"):
        kind = trained[group]["kind"]
        for choice in schema.choices_of(group):
            if schema.read_choice(group, choice)["kind"] == kind:
                yield f"{group}={choice}"
                break


def _title(config: dict[str, Any]) -> str:
    return " + ".join(str(schema.component(group, config).kind) for group in ("task", *CHOSEN[:2]))


class Writer:
    """A training's model and task; `config` of its methods says how it decodes.

    translates: the model reads a source, and prompts are sentences to translate.
    """

    def __init__(self, entry: Entry, config: dict[str, Any], *, tokens: int, seed: int):
        from micro_transformer.build import measuring, training  # loads torch
        from micro_transformer.evals import sentences
        from micro_transformer.runs import trained_net
        from micro_transformer.seeds import make_deterministic

        make_deterministic(config["train"]["threads"])
        self.tokens, self.seed = tokens, seed
        self.build, self.sentences = measuring, sentences
        self.task = training.build_task(config)
        self.model = trained_net.load(config, entry, self.task)[0].net
        self.translates = "source_target" in self.task.gives

    def _strategy(self, config: dict[str, Any]) -> Any:
        return self.build.build_strategy(config, self.task.vocab_size)

    def texts(self, config: dict[str, Any], prompts: list[str], **options: Any) -> list[str]:
        """One translation or continuation per prompt. options: as of `generate`."""
        options |= {"make_layer": self.build.cache_maker(config), "seed": self.seed}
        model, strategy = (self.model, self.task.tokenizer), self._strategy(config)
        if self.translates:
            return self.sentences.translate(*model, prompts, strategy, self.tokens, **options)
        return [
            self.sentences.continuation(*model, prompt, strategy, self.tokens, **options)
            for prompt in prompts
        ]

    def best(self, config: dict[str, Any], prompts: list[str]) -> list[list[tuple[str, float]]]:
        """The texts that a search finds for each prompt and their scores, best first."""
        make_layer = self.build.cache_maker(config)
        model = (self.model, self.task.tokenizer)
        strategy: Any = self._strategy(config)
        if self.translates:
            return self.sentences.translations(
                *model, prompts, strategy, self.tokens, make_layer=make_layer
            )
        return [
            self.sentences.continuations(
                *model, prompt, strategy, self.tokens, make_layer=make_layer
            )
            for prompt in prompts
        ]

    def picture(self, config: dict[str, Any], source: str, kind: str) -> bytes:
        """What each token of the translation reads of its source, as an .svg or .png file."""
        from micro_transformer.plots.alignment import alignment_map
        from micro_transformer.plots.style import rendered

        found = self.sentences.alignment(
            self.model,
            self.task.tokenizer,
            source,
            self._strategy(config),
            self.tokens,
            make_layer=self.build.cache_maker(config),
            seed=self.seed,
        )
        plot = alignment_map(found.source, found.written, found.weights.tolist())
        return dict(zip((".svg", ".png"), rendered(plot), strict=True))[kind]


def _write(entry: Entry, cells: list[Cell], asked: Any) -> int:
    """Prints the text, or writes the grid or the picture; exit code."""
    from micro_transformer.commands.streaming import Streamed

    config = cells[0].config
    _check_flags(asked, is_searched=schema.component("decoding", config).facts["searches"])
    writer = Writer(entry, config, tokens=asked.tokens, seed=asked.seed)
    if asked.file and not (writer.translates or asked.grid):
        raise BadConfig([_("--file: needs a translation net or --grid; give a prompt")])
    if asked.alignment and not writer.translates:
        raise BadConfig([_("--alignment: needs a translation net")])
    prompts = _lines(asked, is_source=writer.translates)
    if asked.alignment:
        disk.write_file(asked.alignment, writer.picture(config, prompts[0], asked.alignment.suffix))
        print(_("written: {file}", file=asked.alignment))
    elif asked.grid:
        write_grid(writer.texts, prompts, cells, asked.grid)
    elif asked.n_best:
        _print_best(prompts, writer.best(config, prompts), asked)
    elif writer.translates:
        for source, text in zip(prompts, writer.texts(config, prompts), strict=True):
            _print({"source": source, "translation": text}, text, asked)
    elif asked.json:
        [text] = writer.texts(config, prompts)
        _print({"prompt": prompts[0], "text": text}, "", asked)
    else:
        screen = Streamed(writer.task.tokenizer, sys.stdout)
        [text] = writer.texts(config, prompts, watch=screen.watch)
        screen.end(text)
    return 0


def _check_flags(asked: Any, *, is_searched: bool) -> None:
    if asked.n_best and asked.grid:
        raise BadConfig([_("--n-best: has no grid; leave out --grid or --n-best")])
    if asked.alignment and (asked.n_best or asked.grid):
        raise BadConfig([_("--alignment: draws one translation; leave out --grid and --n-best")])
    if asked.alignment and asked.alignment.suffix not in PICTURES:
        raise BadConfig(
            [
                _(
                    "--alignment={file}: must end in {kinds}",
                    file=asked.alignment,
                    kinds=" or ".join(PICTURES),
                )
            ]
        )
    if asked.n_best and not is_searched:
        raise BadConfig([_("--n-best: needs a search; add decoding=beam")])


def _print_best(prompts: list[str], found: list[list[tuple[str, float]]], asked: Any) -> None:
    for prompt, texts in zip(prompts, found, strict=True):
        for text, score in texts[: asked.n_best]:
            row = {"prompt": prompt, "text": text, "score": score}
            _print(row, f"{score:.3f}  {text}", asked)


def _print(row: dict[str, Any], text: str, asked: Any) -> None:
    print(json.dumps(row, ensure_ascii=False) if asked.json else printable(text))


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
