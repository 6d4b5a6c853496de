"""Scores by class are those that one counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from glot_jax.objectives.class_scores import ClassScores

NAMES = ("a", "b", "never", "c")


def test_scores_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 3])
    predictions = np.array([0, 0, 1, 1, 3, 3])
    scores = ClassScores.of_rows(labels, predictions, NAMES)
    a, b, never, c = scores.classes
    assert (a.precision, a.recall, a.support) == (1, pytest.approx(2 / 3), 3)
    assert a.f1 == pytest.approx(0.8)
    assert (b.precision, b.recall, b.support) == (0.5, 0.5, 2)
    # A class without rows that nobody predicts: zeros, and no warning.
    assert (never.precision, never.recall, never.f1, never.support) == (0, 0, 0, 0)
    assert (c.precision, c.recall) == (0.5, 1)
    assert scores.confusion == ((2, 1, 0, 0), (0, 1, 0, 1), (0, 0, 0, 0), (0, 0, 0, 1))


def test_json_has_a_class_by_its_name():
    scores = ClassScores.of_rows(np.array([0, 1]), np.array([0, 1]), ("no", "yes"))
    values = scores.to_json()
    assert values["classes"]["yes"] == {"precision": 1, "recall": 1, "f1": 1, "support": 1}
    assert values["confusion"] == [[1, 0], [0, 1]]
