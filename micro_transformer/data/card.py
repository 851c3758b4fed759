"""The data card of a prepared set (content, source, biases), and a figure of row lengths."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from micro_transformer.data.prepared_dataset import Prepared  # noqa: E402
from micro_transformer.wording import _, plural, translated  # noqa: E402

SAMPLES = 3
SAMPLE_CHARACTERS = 300


def text(data: Prepared) -> str:
    """The card as text lines."""
    m = data.manifest
    knobs = ", ".join(f"{k}={v}" for k, v in m["knobs"].items())
    lines = [f"# {m['corpus']} ({knobs})", "", translated(m["about"]), ""]
    kind, size = m["tokenizer"]["kind"], data.tokenizer.vocab_size
    rows = [
        (_("tier"), m["tier"]),
        *((_("source"), s["place"] + _hash(s["sha256"])) for s in m["sources"]),
        (_("licence"), translated(m["licence"])),
        (_("biases"), translated(m["biases"])),
        (_("digest"), m["digest"]),
        (_("tokens"), _("{kind}, vocabulary {size}", kind=kind, size=size)),
    ]
    lines += [f"{name:<8} {value}" for name, value in rows] + [""]
    for name, split in m["splits"].items():
        lines += _split(data, name, split)
    lines += ["", f"{_('cleaning')} {_pairs(m['cleaning']) or _('nothing changed or dropped')}"]
    lines += _recurring(**m["recurring"])
    if m["facts"]:
        lines += [f"{_('facts'):<8} " + "; ".join(f"{k} {v}" for k, v in m["facts"].items())]
    for name in m["splits"]:
        lines += ["", "## " + _("samples of {split}", split=name), *_samples(data, name)]
    return "\n".join(lines)


def figure(data: Prepared) -> Path:
    """Path of a written PNG next to the data: histogram of row lengths in tokens, per split."""
    columns = [(s, c) for s, counts in data.splits.items() for c in counts["columns"]]
    fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for split, column in columns:
        lengths = _lengths(data, split, column)
        bins = list(np.geomspace(1, max(2, lengths.max() + 1), 40))
        ax.hist(lengths, bins=bins, histtype="step", density=True, label=f"{split}, {column}")
    ax.set(
        xscale="log",
        xlabel=_("tokens per {row}", row=translated(data.manifest["row"])),
        ylabel=_("density"),
    )
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_title(f"{data.manifest['corpus']}, {_('tier')} {data.manifest['tier']}")
    ax.legend()
    path = data.folder.parent / f"{data.folder.name}.lengths.png"
    fig.savefig(path, dpi=150)
    plt.close(fig)
    return path


def _split(data: Prepared, name: str, split: dict[str, Any]) -> list[str]:
    rows = plural(
        split["rows"],
        "{n} row ({what})",
        "{n} rows ({what})",
        what=translated(data.manifest["row"]),
    )
    lines = [f"{name:8} {rows}"]
    for column, counts in split["columns"].items():
        lengths = _lengths(data, name, column)
        spread = _(
            "tokens per row: min {least}, median {median}, max {most}",
            least=lengths.min(),
            median=f"{np.median(lengths):g}",
            most=lengths.max(),
        )
        sizes = ", ".join(f"{value} {translated(key)}" for key, value in counts.items())
        lines.append(f"  {column:12} {sizes}; {spread}")
    if split["groups"]:
        lines.append(f"  {_('groups'):<12} " + ", ".join(split["groups"]))
    return lines


def _recurring(why: str, splits: dict[str, dict[str, Any]]) -> list[str]:
    """The sentences that validation and test share with other splits; `why` is empty if none."""
    if not why:
        return [f"{_('leaks'):<8} {_('none: no sentence is in two splits')}"]
    lines = [f"{_('leaks'):<8} {translated(why)}"]
    for name, n in splits.items():
        said = _(
            "{n} of {all} sentences are also in another split: {share} of its characters, the "
            "longest has {longest}",
            n=n["in_another_split"],
            all=n["sentences"],
            share=f"{n['share_of_letters']:.2%}",
            longest=n["longest_letters"],
        )
        lines.append(f"  {name:12} {said}")
    return lines


def _lengths(data: Prepared, split: str, column: str) -> np.ndarray:
    return np.diff(data.ends(split, column), prepend=0)


def _samples(data: Prepared, split: str) -> list[str]:
    """Evenly spaced rows of the split as text, without control characters."""
    rows = data.splits[split]["rows"]
    samples = []
    for i in np.linspace(0, rows - 1, min(SAMPLES, rows)).astype(int):
        for column in data.splits[split]["columns"]:
            shown = data.tokenizer.decode(data.row(split, int(i), column).tolist())
            plain = "".join(c if c.isprintable() or c == "\n" else "?" for c in shown)
            samples.append(f"[{i}] {column}: {plain[:SAMPLE_CHARACTERS].strip()}")
    return samples


def _pairs(cleaning: dict[str, dict[str, Any]]) -> str:
    return "; ".join(f"{translated(reason)} {case['count']}" for reason, case in cleaning.items())


def _hash(sha256: str | None) -> str:
    return f" sha256 {sha256}" if sha256 else ""
