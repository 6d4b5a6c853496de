"""What scores without reading a token: the commonest class, and the number of tokens."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glot_jax.objectives.metrics import METRICS
from glot_jax.texts.tasks import TaskSpec


def majority(train_labels: np.ndarray, labels: np.ndarray, spec: TaskSpec) -> dict[str, float]:
    """What the commonest training class scores (for scores: their mean, so every correlation
    is 0).
    """
    if spec.label_kind == "classes":
        constant = np.bincount(train_labels.astype(int), minlength=len(spec.classes)).argmax()
    else:
        constant = train_labels.mean()
    predictions = np.full(len(labels), constant)
    return {name: METRICS[name](predictions, labels) for name in spec.metrics}


def length_baseline(
    train_lengths: np.ndarray,
    train_labels: np.ndarray,
    lengths: np.ndarray,
    labels: np.ndarray,
    spec: TaskSpec,
) -> dict[str, float]:
    """What the number of tokens alone scores: a logistic (classes) or linear regression on the log
    lengths of a row's texts, and of two texts on how far these are apart.

    Args:
        train_lengths, lengths: [rows, texts of a row] tokens.
        train_labels, labels: [rows].
    """
    if len(np.unique(train_labels)) < 2:
        return majority(train_labels, labels, spec)
    model = (
        LogisticRegression(max_iter=1000) if spec.label_kind == "classes" else LinearRegression()
    )
    predictions = (
        make_pipeline(StandardScaler(), model)
        .fit(_length_features(train_lengths), train_labels)
        .predict(_length_features(lengths))
    )
    return {name: METRICS[name](predictions, labels) for name in spec.metrics}


def _length_features(lengths: np.ndarray) -> np.ndarray:
    logs = np.log1p(lengths.astype(np.float64))
    return np.concatenate([logs, np.abs(np.diff(logs, axis=1))], axis=1)
