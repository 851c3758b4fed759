"""The data card: what a prepared set holds, its source and biases; and a figure of lengths."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from micro_transformer.data.prepared import Prepared  # noqa: E402

SAMPLES = 3
SAMPLE_CHARACTERS = 300


def text(data: Prepared) -> str:
    """The card as plain lines."""
    m = data.manifest
    knobs = ", ".join(f"{k}={v}" for k, v in m["knobs"].items())
    lines = [f"# {m['corpus']} ({knobs})", "", m["about"], ""]
    lines += [f"tier     {m['tier']}"]
    lines += [f"source   {s['place']}" + _hash(s["sha256"]) for s in m["sources"]]
    lines += [f"licence  {m['licence']}", f"biases   {m['biases']}", f"digest   {m['digest']}"]
    lines += [f"tokens   {m['tokenizer']['kind']}, vocabulary {data.tokenizer.vocab_size}", ""]
    for name, split in m["splits"].items():
        lines += _split(data, name, split)
    lines += ["", "cleaning " + (_pairs(m["cleaning"]) or "nothing to change or drop")]
    lines += _recurring(**m["recurring"])
    if m["facts"]:
        lines += ["facts    " + "; ".join(f"{k} {v}" for k, v in m["facts"].items())]
    for name in m["splits"]:
        lines += ["", f"## samples of {name}", *_samples(data, name)]
    return "\n".join(lines)


def figure(data: Prepared) -> Path:
    """A PNG beside the data: how long the rows of each split are, in tokens."""
    columns = [(s, c) for s, counts in data.splits.items() for c in counts["columns"]]
    fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for split, column in columns:
        lengths = _lengths(data, split, column)
        bins = list(np.geomspace(1, max(2, lengths.max() + 1), 40))
        ax.hist(lengths, bins=bins, histtype="step", density=True, label=f"{split}, {column}")
    ax.set(xscale="log", xlabel=f"tokens a {data.manifest['row']}", ylabel="density")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_title(f"{data.manifest['corpus']}, tier {data.manifest['tier']}")
    ax.legend()
    path = data.folder.parent / f"{data.folder.name}.lengths.png"
    fig.savefig(path, dpi=150)
    plt.close(fig)
    return path


def _split(data: Prepared, name: str, split: dict[str, Any]) -> list[str]:
    lines = [f"{name:8} {split['rows']} rows ({data.manifest['row']})"]
    for column, counts in split["columns"].items():
        lengths = _lengths(data, name, column)
        spread = (
            f"tokens a row: min {lengths.min()}, median {np.median(lengths):g}, max {lengths.max()}"
        )
        sizes = ", ".join(f"{value} {key}" for key, value in counts.items())
        lines.append(f"  {column:12} {sizes}; {spread}")
    if split["groups"]:
        lines.append("  groups       " + ", ".join(split["groups"]))
    return lines


def _recurring(why: str, splits: dict[str, dict[str, Any]]) -> list[str]:
    """What validation and test share with other splits; `why` is empty where nothing."""
    if not why:
        return ["leaks    none: no sentence stands in two splits"]
    lines = [f"leaks    {why}"]
    for name, n in splits.items():
        lines.append(
            f"  {name:12} {n['in_another_split']} of {n['sentences']} sentences stand in another "
            f"split: {n['share_of_letters']:.2%} of its letters, the longest {n['longest_letters']}"
        )
    return lines


def _lengths(data: Prepared, split: str, column: str) -> np.ndarray:
    return np.diff(data.ends(split, column), prepend=0)


def _samples(data: Prepared, split: str) -> list[str]:
    """Rows spread over the split, as text; control characters cannot reach a terminal."""
    rows = data.splits[split]["rows"]
    samples = []
    for i in np.linspace(0, rows - 1, min(SAMPLES, rows)).astype(int):
        for column in data.splits[split]["columns"]:
            shown = data.tokenizer.decode(data.row(split, int(i), column).tolist())
            plain = "".join(c if c.isprintable() or c == "\n" else "?" for c in shown)
            samples.append(f"[{i}] {column}: {plain[:SAMPLE_CHARACTERS].strip()}")
    return samples


def _pairs(cleaning: dict[str, dict[str, Any]]) -> str:
    return "; ".join(f"{reason} {case['count']}" for reason, case in cleaning.items())


def _hash(sha256: str | None) -> str:
    return f" sha256 {sha256}" if sha256 else ""
