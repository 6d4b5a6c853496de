"""From logits to probabilities, in any order of the classes; temperatures change no prediction."""

from __future__ import annotations

import numpy as np
import pytest
from support.synthetic_stores import CLASSES, LABELS

from glot_jax.objectives.probabilities import nll, predicted, probabilities

TASKS = {"classes": CLASSES, "multilabel": LABELS}


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32) * 5


@pytest.mark.parametrize("kind", TASKS)
def test_permuting_classes_permutes_probabilities(kind, logits):
    order = [2, 0, 1]
    for temperature in (None, 2.5):
        shares = probabilities(logits, TASKS[kind], temperature)
        moved = probabilities(logits[:, order], TASKS[kind], temperature)
        np.testing.assert_allclose(moved, shares[:, order], rtol=1e-12)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 3.0, 20.0])
def test_a_temperature_changes_no_prediction(kind, temperature, logits):
    task = TASKS[kind]
    before = predicted(probabilities(logits, task), task)
    after = predicted(probabilities(logits, task, temperature), task)
    np.testing.assert_array_equal(after, before)
    expected = logits > 0 if kind == "multilabel" else logits.argmax(axis=1)
    np.testing.assert_array_equal(after, expected)


def test_probabilities_are_shares_or_stand_alone(logits):
    np.testing.assert_allclose(probabilities(logits, CLASSES).sum(axis=1), 1)
    alone = probabilities(logits[:, :1], LABELS)
    np.testing.assert_array_equal(probabilities(logits, LABELS)[:, :1], alone)
    # Two classes of a softmax are one sigmoid of their difference.
    pair = probabilities(logits[:, :2], CLASSES)[:, :1]
    np.testing.assert_allclose(
        pair, probabilities(logits[:, :1] - logits[:, 1:2], LABELS), rtol=1e-5
    )


def test_likelihoods_by_hand():
    shares = np.array([[0.25, 0.75], [0.5, 0.5]])
    assert nll(np.log(shares), np.array([1, 0]), CLASSES) == pytest.approx(
        -(np.log(0.75) + np.log(0.5)) / 2
    )
    odds = np.log(shares / (1 - shares))
    assert nll(odds, np.array([[0, 1], [1, 1]]), LABELS) == pytest.approx(
        -(2 * np.log(0.75) + 2 * np.log(0.5)) / 2
    )
    # A certain answer that is wrong is bad, and not infinitely so.
    assert np.isfinite(nll(np.array([[1e4, -1e4]]), np.array([1]), CLASSES))
