"""Scores of a classifier: what is right, by class, and whether its probabilities can be believed.

labels (N,) are class numbers, probabilities (N, C) sum to 1 in each row; the prediction is the most
likely class, of equals the first.
"""

import numpy as np

BINS = 10  # of the calibration error


def scores(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """loss (mean -log p of the label, nats), accuracy, f1_macro and ece."""
    given = probabilities[np.arange(len(labels)), labels]
    nll = -np.log(np.maximum(given, np.finfo(float).tiny))
    table = confusion(labels, probabilities.argmax(1), probabilities.shape[1])
    return {
        "loss": float(nll.mean()),
        "accuracy": float(table.trace() / table.sum()),
        "f1_macro": f1_macro(table),
        "ece": calibration_error(labels, probabilities),
    }


def confusion(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C) counts; row: the label, column: the prediction."""
    table = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(table, (labels, predicted), 1)
    return table


def f1_macro(table: np.ndarray) -> float:
    """Unweighted mean over classes of F1 = 2 TP / (2 TP + FP + FN); of a class that is neither
    there nor predicted it is 0, as in scikit-learn."""
    found = 2 * table.diagonal()
    either = table.sum(0) + table.sum(1)
    return float(np.mean(found / np.maximum(either, 1)))


def calibration_error(labels: np.ndarray, probabilities: np.ndarray, num_bins: int = BINS) -> float:
    """Expected calibration error (Guo et al., 2017, eq. 5): over `num_bins` equal intervals of the
    prediction's probability, the mean distance of accuracy and mean probability, weighted by the
    number of rows."""
    sure = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    bins = np.ceil(sure * num_bins).astype(int).clip(1, num_bins) - 1  # (a, b] as in the paper
    gaps = np.bincount(bins, right - sure, num_bins)
    return float(np.abs(gaps).sum() / len(labels))


def majority(train: np.ndarray, labels: np.ndarray) -> float:
    """Accuracy on `labels` of the most frequent class of `train`."""
    return float(np.mean(labels == np.bincount(train).argmax()))
