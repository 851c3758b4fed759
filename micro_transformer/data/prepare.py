"""Builds prepared sets: finds a source, cleans, splits, tokenizes, and puts the whole folder in
place at once.

Many processes may ask for the same set: one builds it under a file lock, the others wait and find
it.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from micro_transformer.data import files, prepared, tokenizer
from micro_transformer.data.corpora.base import Corpus, Origin, Rows
from micro_transformer.data.prepared import MANIFEST, DataDamaged, DataMissing, Prepared
from micro_transformer.data.sources import Grammar, Obtain, Unavailable, fetching, locally
from micro_transformer.data.text import Report
from micro_transformer.data.tokenizer import UNK, Tokenizer


def prepare(
    corpus: Corpus, root: Path | str, obtain: Obtain = locally, tier: str | None = None
) -> Prepared:
    """The prepared set of a corpus, built if need be; DataMissing when no source can give it.

    obtain: `locally` reads what this machine has, `fetching` may download. tier: only sources of
    this one.
    """
    folder = prepared.folder_of(root, corpus.name, corpus.knobs)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        found = _existing(folder, tier)
        if found is None or (tier is None and _stands_in(found, corpus)):
            origin, paths = _origin(corpus, Path(root) / "raw", obtain, tier)
            if found is None or origin.tier != found.manifest["tier"]:
                _build(corpus, origin, paths, folder)
        return Prepared(folder)


def fetch(corpus: Corpus, root: Path | str, tier: str | None = None) -> str:
    """The place of the best source that could be had; its files lie under data/raw."""
    origin, _ = _origin(corpus, Path(root) / "raw", fetching, tier)
    return f"tier {origin.tier}, {', '.join(source.place for source in origin.sources)}"


def _existing(folder: Path, tier: str | None) -> Prepared | None:
    """What is there, if it is whole and of the tier asked for."""
    if not (folder / MANIFEST).is_file():
        return None
    try:
        found = Prepared(folder)
    except DataDamaged:
        return None
    return found if tier in (None, found.manifest["tier"]) else None


def _stands_in(found: Prepared, corpus: Corpus) -> bool:
    """Whether synthetic text fills in for a real corpus that may be at hand now."""
    return found.manifest["tier"] == Grammar.tier != corpus.origins()[0].tier


def _origin(
    corpus: Corpus, raw: Path, obtain: Obtain, tier: str | None
) -> tuple[Origin, list[Path]]:
    """The first origin whose files are all at hand, and their paths."""
    reasons = []
    for origin in corpus.origins():
        if tier not in (None, origin.tier):
            continue
        try:
            return origin, [obtain(source, raw) for source in origin.sources]
        except Unavailable as error:
            reasons.append(f"{origin.tier}: {error}")
            print(f"note: {corpus.name}: tier {reasons[-1]}", file=sys.stderr)
    tried = "; ".join(reasons) or f"tier={tier}: {corpus.name} has no such source"
    cure = prepared.command(corpus.name, corpus.knobs)
    raise DataMissing(
        f"data: no source for task={corpus.name} ({tried}); run `{cure}` or set MT_DATA"
    )


def _build(corpus: Corpus, origin: Origin, paths: list[Path], folder: Path) -> None:
    """The folder holds the prepared set; before, the old one or none."""
    temporary = folder.parent / f".{folder.name}.{os.getpid()}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        report = Report()
        splits = corpus.rows(origin.read(paths, report), report)
        manifest = _describe(corpus, origin, splits, report)
        tokens = tokenizer.load(manifest["tokenizer"])
        for name, rows in splits.items():
            _write_split(temporary, name, rows, tokens, manifest)
        manifest["digest"] = prepared.digest_of(manifest)
        files.write_json(temporary / MANIFEST, manifest)
        files.sync_folder(temporary)
        shutil.rmtree(folder, ignore_errors=True)
        files.publish(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _describe(
    corpus: Corpus, origin: Origin, splits: dict[str, Rows], report: Report
) -> dict[str, Any]:
    """The manifest but for the files."""
    for name, rows in splits.items():
        if not len(rows):
            raise DataMissing(
                f"data: split {name} of task={corpus.name} is empty; the source has too little text"
            )
    tokens = tokenizer.train(corpus.tokenizer, "".join(splits["train"].all_text()))
    return {
        "format": prepared.FORMAT,
        "corpus": corpus.name,
        "knobs": corpus.knobs,
        "tier": origin.tier,
        "sources": [{"place": s.place, "sha256": s.sha256} for s in origin.sources],
        "licence": origin.licence,
        "about": origin.about,
        "biases": origin.biases,
        "row": corpus.row,
        "rows": sum(len(rows) for rows in splits.values()),
        "cleaning": report.as_dict(),
        "tokenizer": tokens.to_dict(),
        "dtype": "uint8" if tokens.vocab_size <= 256 else "uint16",
        "facts": corpus.facts(splits),
        "splits": {},
        "files": {},
    }


def _write_split(
    folder: Path, name: str, rows: Rows, tokens: Tokenizer, manifest: dict[str, Any]
) -> None:
    """The arrays of one split are on disk and in the manifest."""
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
