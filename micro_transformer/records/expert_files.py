"""The file of a run that says what its experts do: checked when read, since anyone may have
written it."""

from dataclasses import dataclass
from typing import Any

from micro_transformer.disk import read_json
from micro_transformer.records.rows import Board, Row
from micro_transformer.records.run_record import EXPERTS, RunRecord, is_number

BINS = 20  # of histograms over [0, 1]
MOST_LAYERS, MOST_EXPERTS = 512, 4096


@dataclass(frozen=True)
class TopToken:
    """A token of an expert: its share of the expert's tokens, and that over its share of all."""

    text: str
    share: float
    lift: float


@dataclass(frozen=True)
class Layer:
    """What one router of a run chose over the validation split."""

    name: str
    shares: list[float]  # of all choices, by expert
    histograms: dict[str, list[float]]  # shares of probabilities and gates in even bins over [0, 1]
    first_choices: list[int]
    text: str  # hash of the tokens of the first choices
    top_tokens: list[list[TopToken]]  # by expert


@dataclass(frozen=True)
class RoutedRow:
    """A configuration with experts: the layers of each of its runs, the same in all."""

    row: Row
    runs: list[list[Layer]]

    @property
    def names(self) -> list[str]:
        """Of the layers."""
        return [layer.name for layer in self.runs[0]]


def routed_rows(board: Board) -> list[RoutedRow]:
    """The rows of which a run says what its experts do."""
    found = []
    for row in board.rows:
        runs = [layers for record in row.ok if (layers := expert_layers(record))]
        alike = [layers for layers in runs if _shape(layers) == _shape(runs[0])]
        found += [RoutedRow(row, alike)] if alike else []
    return found


def expert_layers(record: RunRecord) -> list[Layer]:
    """The layers of a run with a mixture of experts, in order; none without a file, or with one
    that is damaged."""
    if record.path is None:
        return []
    try:
        layers = read_json(record.path.parent / EXPERTS)["layers"]
        return [_layer(name, content) for name, content in list(layers.items())[:MOST_LAYERS]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _shape(layers: list[Layer]) -> list[tuple[str, int]]:
    return [(layer.name, len(layer.shares)) for layer in layers]


def _layer(name: str, content: dict[str, Any]) -> Layer:
    shares = _numbers(content["shares"])
    histograms = {key: _numbers(content["histograms"][key]) for key in ("probabilities", "gates")}
    first = _numbers(content["first_choices"])
    top = [
        [TopToken(str(t["token"]), *_numbers([t["share"], t["lift"]])) for t in tokens]
        for tokens in content["top_tokens"]
    ]
    is_whole = len(top) == len(shares) and all(expert in range(len(shares)) for expert in first)
    is_whole = is_whole and all(len(bins) == BINS for bins in histograms.values())
    if not 0 < len(shares) <= MOST_EXPERTS or not is_whole:
        raise ValueError(name)
    return Layer(name, shares, histograms, [int(i) for i in first], str(content["text"]), top)


def _numbers(values: Any) -> list[float]:
    if not isinstance(values, list) or not values or not all(map(is_number, values)):
        raise ValueError
    return values
