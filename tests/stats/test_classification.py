"""Scores of classifiers: those of scikit-learn, and the calibration error by hand."""

import numpy as np
import pytest
from sklearn import metrics

from micro_transformer.stats import classification as stats

CASES = [(seed, classes) for seed in range(4) for classes in (2, 3, 5)]


def drawn(seed, classes, num=200):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, num)
    logits = draw.normal(size=(num, classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return labels, probabilities


@pytest.mark.parametrize("seed, classes", CASES)
def test_scores_are_those_of_scikit_learn(seed, classes):
    labels, found = drawn(seed, classes)
    predicted, names = found.argmax(1), list(range(classes))
    scores = stats.scores(labels, found)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(labels, predicted))
    f1 = metrics.f1_score(labels, predicted, average="macro", labels=names)
    assert scores["f1_macro"] == pytest.approx(f1)
    assert scores["loss"] == pytest.approx(metrics.log_loss(labels, found, labels=names))
    table = stats.confusion(labels, predicted, classes)
    assert (table == metrics.confusion_matrix(labels, predicted, labels=names)).all()


def test_a_constant_answer_has_half_the_f1():
    labels = np.array([1, 1, 1, 0])
    table = stats.confusion(labels, np.ones(4, int), 2)
    assert stats.f1_macro(table) == pytest.approx(
        metrics.f1_score(labels, np.ones(4, int), average="macro", zero_division=0)
    )
    assert stats.f1_macro(stats.confusion(np.array([1]), np.array([1]), 2)) == 0.5


def test_the_calibration_error_by_hand():
    """Bins (0.5, 0.6]: 2 rows, 1 right, mean 0.575; (0.9, 1]: 2 rows, 2 right, mean 0.95."""
    sure = np.array([0.55, 0.6, 0.92, 0.98])
    found = np.stack([sure, 1 - sure], 1)
    expected = (2 * abs(0.5 - 0.575) + 2 * abs(1 - 0.95)) / 4
    assert stats.calibration_error(np.array([0, 1, 0, 0]), found) == pytest.approx(expected)


def test_a_calibrated_model_has_next_to_no_error_and_an_overconfident_one_has():
    draw = np.random.default_rng(0)
    sure = draw.uniform(0.5, 1, 100_000)
    labels = (draw.random(100_000) > sure).astype(int)
    found = np.stack([sure, 1 - sure], 1)
    assert stats.calibration_error(labels, found) < 0.01
    bold = np.clip(found * [[1.3, 1.0]], 0, 1)
    bold /= bold.sum(1, keepdims=True)
    assert stats.calibration_error(labels, bold) > 0.03


def test_the_majority_is_that_of_the_training_split():
    assert stats.majority(np.array([1, 1, 0]), np.array([0, 0, 0, 1])) == 0.25


def test_a_label_of_probability_zero_has_a_finite_loss():
    assert np.isfinite(stats.scores(np.array([0, 1]), np.array([[0.0, 1], [0, 1]]))["loss"])
