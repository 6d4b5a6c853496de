"""From the logits of a head to probabilities, on the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from glot_jax.texts.tasks import TaskSpec

Link: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Logits [rows, classes] -> probabilities, float64 [rows, classes]."""


def softmax(logits: np.ndarray) -> Float[np.ndarray, "rows classes"]:
    """Probabilities of the classes, float64, from logits [rows, classes]."""
    # In float64: probabilities of rare classes are small numbers.
    shifted = logits.astype(np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def sigmoid(logits: np.ndarray) -> Float[np.ndarray, "rows classes"]:
    """Probability of each class by itself, float64, from logits [rows, classes]."""
    from scipy import special

    return special.expit(logits.astype(np.float64))


THRESHOLD = 0.5
"""Probability above which a row of a task with several classes a row has a class."""

LINKS: Mapping[str, Link] = {"classes": softmax, "multilabel": sigmoid}
"""Kind of the labels -> what makes probabilities of logits; other kinds have none."""


def probabilities(
    logits: np.ndarray, task: TaskSpec, temperature: float | None = None
) -> Float[np.ndarray, "rows classes"]:
    """Probabilities of a task's classes.

    Args:
        logits: [rows, classes], of the head.
        task: with classes.
        temperature: that the logits are divided by, of a run that was calibrated.
    """
    link = LINKS[task.label_kind]
    # Not by 1: the bits of a run without a temperature stay what they were.
    if temperature is None:
        return link(logits)
    return link(logits.astype(np.float64) / temperature)


def nll(
    logits: np.ndarray, labels: np.ndarray, task: TaskSpec, temperature: float | None = None
) -> float:
    """Mean negative log-likelihood of the labels; of several classes a row, their sum in the row.

    Args:
        logits: [rows, classes].
        labels: [rows] class indices, or [rows, classes] of 0 and 1.
        task: with classes.
        temperature: as in `probabilities`.
    """
    shares = probabilities(logits, task, temperature)
    if task.label_kind == "multilabel":
        likelihood = np.where(labels > 0, shares, 1 - shares)
    else:
        likelihood = shares[np.arange(len(labels)), labels]
    # A share may round to 0, whose logarithm is infinite.
    losses = -np.log(np.maximum(likelihood, np.finfo(np.float64).tiny))
    return float(losses.sum() / len(labels))


def predicted(shares: np.ndarray, task: TaskSpec) -> np.ndarray:
    """What is predicted at these probabilities.

    Args:
        shares: [rows, classes].
        task: with classes.

    Returns:
        int64 [rows], the likeliest class, the first of equal ones; of several classes a row bool
        [rows, classes], those above `THRESHOLD`.
    """
    if task.label_kind == "multilabel":
        return shares > THRESHOLD
    return shares.argmax(axis=1)
