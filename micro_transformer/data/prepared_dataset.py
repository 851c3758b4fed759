"""Prepared data on disk: memory-mapped token ids and a manifest; verified when opened.

data/prepared/<corpus>-<knob values>/
    manifest.json                      tier, source, counts, tokenizer, splits, digest
    <split>.<column>.bin               token ids of all rows, concatenated
    <split>.<column>.ends.bin          int64, end of each row
    <split>.<column>.numbers.bin       int64, one number per row (labels)
    <split>.<column>.json              JSON, one value per row (references)
"""

import hashlib
import json
import os
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micro_transformer import disk
from micro_transformer.data import files
from micro_transformer.wording import _

if TYPE_CHECKING:  # a plan reads the manifest alone; numpy takes 0.08 s to import
    import numpy as np

    from micro_transformer.data.tokenizer import Tokenizer

FORMAT = 1
MANIFEST = "manifest.json"


class DataMissing(ValueError):
    """Data that a run needs are not prepared; the text names the command that prepares them."""


class DataDamaged(ValueError):
    """Prepared data differ from their manifest; the text names the file and the cure."""


def folder_of(root: Path | str, corpus: str, knobs: dict[str, Any]) -> Path:
    """Folder of the prepared data of a corpus with these knobs."""
    return Path(root) / "prepared" / "-".join([corpus, *(str(knobs[key]) for key in sorted(knobs))])


def command(corpus: str, knobs: dict[str, Any]) -> str:
    """Command line that prepares the data of a corpus with these knobs."""
    words = " ".join(f"{key}={value}" for key, value in knobs.items())
    return f"python -m micro_transformer.data prepare task={corpus} {words}".rstrip()


def open_prepared(root: Path | str, corpus: str, knobs: dict[str, Any]) -> "Prepared":
    """The prepared data of a corpus with these knobs; raises DataMissing, with the command, or
    DataDamaged."""
    folder = folder_of(root, corpus, knobs)
    if not os.path.lexists(folder / MANIFEST):
        raise DataMissing(
            _(
                "data: {folder} is not prepared; run `make data` or `{command}`",
                folder=folder,
                command=command(corpus, knobs),
            )
        )
    return Prepared(folder)


class Prepared:
    """Prepared data of a corpus, split and tokenized, whose files match the SHA-256 of the
    manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = _manifest(folder)
        for name, expected in self.manifest["files"].items():
            path = folder / name
            is_here = Path(name).name == name and "\0" not in name and path.is_file()
            if not is_here or files.sha256(path) != expected:
                raise DataDamaged(
                    _(
                        "data: {path} is damaged; delete {folder} and prepare it again",
                        path=path,
                        folder=folder,
                    )
                )

    @property
    def digest(self) -> str:
        """SHA-256 over the tokenizer and all splits: all that a training's result depends on,
        whatever the tier."""
        return self.manifest["digest"]

    @property
    def tokenizer_digest(self) -> str:
        """SHA-256 of the tokenizer, which is part of `digest`."""
        return digest_of_tokenizer(self.manifest["tokenizer"])

    @property
    def record(self) -> dict[str, Any]:
        """What a run's record contains about its data."""
        return {"tier": self.manifest["tier"], "sha256": self.digest, "rows": self.manifest["rows"]}

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer of the token ids."""
        from micro_transformer.data import tokenizer

        return tokenizer.load(self.manifest["tokenizer"])

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """Maps split -> number of rows, groups, and per column the number of tokens, characters
        and bytes."""
        return self.manifest["splits"]

    def tokens(self, split: str, column: str = "text") -> "np.ndarray":
        """Token ids of all rows of a split, concatenated, (N,), memory-mapped."""
        self._must_have(split)
        return self._map(f"{split}.{column}.bin", self.manifest["dtype"])

    def ends(self, split: str, column: str = "text") -> "np.ndarray":
        """End of each row in `tokens`, (rows,) int64."""
        return self._map(f"{split}.{column}.ends.bin", "int64")

    def numbers(self, split: str, column: str) -> "np.ndarray":
        """One number per row, such as a label, (rows,) int64."""
        return self._map(f"{split}.{column}.numbers.bin", "int64")

    def entries(self, split: str, column: str) -> list[Any]:
        """One JSON value per row."""
        return json.loads((self.folder / f"{split}.{column}.json").read_text(encoding="utf-8"))

    def row(self, split: str, index: int, column: str = "text") -> "np.ndarray":
        """Token ids of one row."""
        ends = self.ends(split, column)
        return self.tokens(split, column)[ends[index - 1] if index else 0 : ends[index]]

    def _must_have(self, split: str) -> None:
        if split not in self.splits:
            raise ValueError(
                _(
                    "split={split}: {name} has {splits}",
                    split=split,
                    name=self.folder.name,
                    splits=", ".join(self.splits),
                )
            )

    @cache  # noqa: B019  (a run opens one set and keeps it)
    def _map(self, name: str, dtype: str) -> "np.ndarray":
        import numpy as np

        path = self.folder / name
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            return np.zeros(0, dtype)
        return np.memmap(path, dtype, mode="r")


def digest_of(manifest: dict[str, Any]) -> str:
    """Digest of prepared data: hash of the tokenizer and of the SHA-256 of the files."""
    identity = {key: manifest[key] for key in ("format", "tokenizer", "dtype", "files")}
    return hashlib.sha256(files.canonical(identity).encode("utf-8", "surrogatepass")).hexdigest()


def digest_of_tokenizer(tokenizer: dict[str, Any]) -> str:
    """SHA-256 of a tokenizer: ids of two sets of data mean the same where it is equal."""
    return hashlib.sha256(files.canonical(tokenizer).encode("utf-8", "surrogatepass")).hexdigest()


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        manifest = disk.read_json(path)
        whole = manifest["format"] == FORMAT and manifest["digest"] == digest_of(manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataDamaged(
            _(
                "data: {path} is damaged; delete {folder} and prepare it again",
                path=path,
                folder=folder,
            )
        ) from error
    if not (whole and _has_shape(manifest)):
        raise DataDamaged(
            _(
                "data: {path} is of another version or was edited; delete "
                "{folder} and prepare again",
                path=path,
                folder=folder,
            )
        )
    return manifest


def _has_shape(manifest: dict[str, Any]) -> bool:
    """Whether the part of the manifest that the digest does not cover fits the part that it
    does."""
    match manifest:
        case {
            "files": dict(names),
            "splits": dict(splits),
            "dtype": "uint8" | "uint16",
            "tier": str(),
            "rows": int(rows),
        }:
            pass
        case _:
            return False
    try:
        columns = [(s, c) for s, split in splits.items() for c in split["columns"]]
        counts = [n for s, c in columns for n in splits[s]["columns"][c].values()]
        return (
            rows == sum(split["rows"] for split in splits.values())
            and all({f"{s}.{c}.bin", f"{s}.{c}.ends.bin"} <= names.keys() for s, c in columns)
            and all(isinstance(n, int) and n >= 0 for n in counts)
        )
    except (KeyError, TypeError, AttributeError):
        return False
