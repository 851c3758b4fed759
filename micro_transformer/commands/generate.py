"""python -m micro_transformer.generate [PATH] prompt="..." [decoding=top_p ...]: writes text, or
translates with a net that reads a source: the prompt, or the lines of --file (`-`: standard input).

PATH is a job's folder, or a training as its folder in the store or the first letters of its
fingerprint; without one, the newest training of the store. Text appears as it is written, except
with a strategy that may still change it. The words choose decoding, cache, attention and scaling,
and their knobs, as in `decoding.p=0.9`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from micro_transformer import disk
from micro_transformer.commands.places import data_flag, store_flag, training_at
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
            Flag("--json", _("print one JSON object at the end")),
        ],
        choices=_("decoding, cache, attention, scaling and their knobs, such as decoding.p=0.9"),
    )


@disk.one_line
def main(words: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 wrong usage, 3 training or data unusable."""
    asked = parser().parse(words)
    try:
        if asked.tokens < 1:
            raise BadConfig([_("--tokens={n}: must be at least 1", n=asked.tokens)])
        entry = _entry(asked.path, asked.store)
        config = _config(entry, asked.choices, asked.data)
        print(_("{training}: {what}", training=entry.folder, what=_title(config)), file=sys.stderr)
        return _write(entry, config, asked)
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


def _config(entry: Entry, words: list[str], data_dir: str) -> dict[str, Any]:
    """The training's configuration with the chosen groups; raises BadConfig."""
    for word in words:
        key = word.split("=")[0].split(".")[0]
        if key not in CHOSEN:
            known = ", ".join(CHOSEN)
            raise BadConfig([_("{word}: must set one of {known}", word=clean(word), known=known)])
    config: dict[str, Any] = with_neutral(entry.factors()["config"])
    composed = make_plan(words).jobs[0].config
    config |= {group: composed[group] for group in CHOSEN}
    config |= {name: composed[name] for name in ("budget", "run", "bench")}
    config |= {"data": {"dir": data_dir}, "eval": {"measures": {}}}
    config["bench"] = {**config["bench"], "measures": {}}
    if not cuda_usable():
        config["device"] = "cpu"
    if faults := compatibility.conflicts(config):
        raise BadConfig(faults)
    return config


def _title(config: dict[str, Any]) -> str:
    return " + ".join(str(schema.component(group, config).kind) for group in ("task", *CHOSEN[:2]))


def _write(entry: Entry, config: dict[str, Any], asked: Any) -> int:
    """Prints the text; exit code."""
    import torch

    from micro_transformer.build import measuring, training
    from micro_transformer.commands.streaming import Streamed
    from micro_transformer.evals.sentences import translate
    from micro_transformer.generation import generate
    from micro_transformer.runs import worker  # loads torch
    from micro_transformer.seeds import make_deterministic

    make_deterministic(config["train"]["threads"])
    task = training.build_task(config)
    model, _state = worker.load(config, entry, task)
    options: dict[str, Any] = {"make_layer": measuring.cache_maker(config), "seed": asked.seed}
    strategy = measuring.build_strategy(config)
    if "source_target" in task.gives:
        lines = _lines(asked)
        texts = translate(model, task.tokenizer, lines, strategy, asked.tokens, **options)
        for source, text in zip(lines, texts, strict=True):
            row = {"source": source, "translation": text}
            print(json.dumps(row, ensure_ascii=False) if asked.json else printable(text))
        return 0
    if asked.file:
        raise BadConfig([_("--file: needs a translation net; give a prompt")])
    ids = torch.from_numpy(task.tokenizer.encode(asked.prompt).astype("int64"))[None]
    if not ids.numel():
        raise BadConfig([_('prompt: has no tokens; write prompt="some text"')])
    shown = None if asked.json else Streamed(task.tokenizer, sys.stdout)
    watch = shown.watch if shown else lambda step: step
    ids = ids.to(model.device)
    out = generate(model, ids, strategy, asked.tokens, watch=watch, **options)
    text = task.tokenizer.decode(out[0, ids.shape[1] :].tolist())
    if shown:
        shown.end(text)
    else:
        print(json.dumps({"prompt": asked.prompt, "text": text}, ensure_ascii=False))
    return 0


def _lines(asked: Any) -> list[str]:
    """The sources to translate; raises BadConfig if there are none."""
    if not asked.file:
        if not asked.prompt.strip():
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
