"""Classes are judged by the largest logit."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from support.synthetic_stores import CLASSES, PAIRS

from glot_jax.config.train import ObjectiveConfig
from glot_jax.objectives.classes import Classes, PairClasses
from glot_jax.objectives.metrics import Outputs


def test_predictions_come_in_the_order_of_the_store():
    logits = np.array([[2, 1], [0, 3], [5, 4], [1, 9]], np.float32)
    outputs = Outputs(logits, np.array([3, 0, 2, 1]), np.array([1, 2, 3, 6], np.float32))
    feed = SimpleNamespace(labels=np.array([1, 1, 1, 0]))
    scores, predictions = Classes(CLASSES, ObjectiveConfig()).judge(feed, outputs)
    assert predictions.rows.tolist() == [0, 1, 2, 3]
    assert predictions.predictions.tolist() == [1, 1, 0, 0]
    assert predictions.labels.tolist() == [1, 1, 1, 0]
    assert scores["accuracy"] == 0.75
    assert scores["loss"] == 3
    assert list(scores) == ["accuracy", "f1", "loss"]


def test_pairs_read_how_their_vectors_are_combined():
    assert "pair_features" in PairClasses.reads
    assert Classes.reads == {"class_weight", "class_weights"}
    assert PairClasses(PAIRS, ObjectiveConfig()).texts_per_row == 2
