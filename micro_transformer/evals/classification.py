"""The class of every sentence of a split, against its label."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from micro_transformer.config.knobs import Size
from micro_transformer.disk import write_file
from micro_transformer.evals.base import EvalContext, Measure
from micro_transformer.records.run_record import CLASSIFICATION_SCORES, SAMPLE_MARK, SAMPLES
from micro_transformer.stats import classification as stats
from micro_transformer.wording import _

PREDICTIONS, CONFUSION = "predictions.{split}.tsv", "confusion.{split}.tsv"


class Classification(Measure):
    """Scores over a whole split, and those of always predicting the majority class.

    predictions.<split>.tsv: sentence, label, prediction, probability of each class.
    confusion.<split>.tsv: counts, a row per label and a column per prediction.
    classification_scores.<split>.json: label, prediction and whether it is right, per sentence, of
    which a report has the interval over sentences. samples.txt: `shown` sentences, spread evenly
    over the split; 0: none is written.
    """

    needs = ("labels",)

    def __init__(self, *, split: Literal["val", "test"] = "val", shown: Size):
        self.split, self.shown = split, shown

    def run(self, subject: EvalContext) -> Iterator[tuple[str, float | None]]:
        """Yields <split>/loss, accuracy, f1_macro, ece, majority (accuracy of the most frequent
        class of the training split) and n, the number of sentences."""
        task: Any = subject.task
        labels, found = task.labels(self.split), task.probabilities(subject.model, self.split)
        texts = task.sentences(self.split, range(len(labels)))
        predicted = found.argmax(1)
        table = stats.confusion(labels, predicted, len(task.classes))
        figures = {
            **stats.scores(labels, found),
            "majority": stats.majority(task.labels("train"), labels),
            "n": len(labels),
        }
        pages = {
            PREDICTIONS: _predictions(texts, labels, found, task.classes),
            CONFUSION: _confusion(table, task.classes),
            CLASSIFICATION_SCORES: json.dumps(
                {
                    "split": self.split,
                    "classes": task.classes,
                    "scores": figures,
                    "labels": labels.tolist(),
                    "predicted": predicted.tolist(),
                    "right": (labels == predicted).astype(int).tolist(),
                }
            ),
        }
        for name, page in pages.items():
            write_file(subject.folder / name.format(split=self.split), page.encode())
        if self.shown:
            rows = np.linspace(0, len(labels) - 1, min(self.shown, len(labels))).astype(int)
            shown = [_read_as(texts[i], labels[i], found[i], task.classes) for i in rows]
            head = f"{SAMPLE_MARK} 1, {self.split}"
            write_file(subject.folder / SAMPLES, "\n".join([head, *shown, ""]).encode())
        for name, value in figures.items():
            yield f"{self.split}/{name}", value


def _read_as(text: str, label: int, probabilities: np.ndarray, classes: Sequence[str]) -> str:
    """A sentence with its label, the prediction and its probability, in one line."""
    predicted = int(probabilities.argmax())
    mark = " " if predicted == label else "x"
    return _(
        "{mark} {label}, read as {predicted} ({sure:.0%}): {text}",
        mark=mark,
        label=classes[label],
        predicted=classes[predicted],
        sure=probabilities[predicted],
        text=plain(text),
    )


def plain(text: str) -> str:
    """The text in one line, without control characters."""
    return " ".join("".join(c for c in text if c.isprintable() or c.isspace()).split())


def _predictions(
    texts: Sequence[str], labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]
) -> str:
    head = ["sentence", "label", "prediction", *(f"p({name})" for name in classes)]
    lines = [
        [plain(text), classes[label], classes[row.argmax()], *(f"{p:.6f}" for p in row)]
        for text, label, row in zip(texts, labels, probabilities, strict=True)
    ]
    return _tsv([head, *lines])


def _confusion(table: np.ndarray, classes: Sequence[str]) -> str:
    rows = ([name, *map(str, row)] for name, row in zip(classes, table.tolist(), strict=True))
    return _tsv([["label", *(f"read as {name}" for name in classes)], *rows])


def _tsv(lines: Sequence[Sequence[str]]) -> str:
    return "".join("\t".join(line) + "\n" for line in lines)
