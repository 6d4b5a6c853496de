"""A linear SVM on the frozen vectors of a trained run: how separable its classes are (paper Table
8).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from glot_jax.errors import UsageError, require
from glot_jax.moved import renamed_keywords
from glot_jax.objectives import evaluate
from glot_jax.training.evaluation import open_run
from glot_jax.training.prepare import Run
from glot_jax.training.run_folder import CheckpointName
from glot_jax.training.steps import TrainState

C_VALUES = tuple(10.0**power for power in range(-4, 2))
_FOLDS = 5


@renamed_keywords(which="checkpoint")
def linear_probe(
    run: Path,
    *,
    store: Path | None = None,
    checkpoint: CheckpointName = "best",
    quiet: bool = False,
    residents: dict[tuple, Any] | None = None,
) -> dict[str, dict[str, float]]:
    """Metrics of the probe on every evaluation split, {split: {metric: value, "C": value}}.

    `sklearn.svm.LinearSVC` on the standardised features that the run's own head reads, fitted on
    the rows the run was trained on; C by 5-fold cross-validation there.

    Raises:
        UsageError: a task without classes, or a class of fewer than 5 training rows; otherwise as
            evaluate_run.
    """
    prepared, state = open_run(
        run, store=store, checkpoint=checkpoint, quiet=quiet, residents=residents
    )
    require(
        prepared.task.label_kind == "classes",
        "a linear probe separates classes",
        f"{run}, of task {prepared.task.name} with scores",
        "Leave out --linear-probe.",
    )
    features, labels = split_features(prepared, state, "train")
    _, counts = np.unique(labels, return_counts=True)
    if counts.min() < _FOLDS or len(counts) < 2:
        raise UsageError(
            f"a probe needs two classes or more, of {_FOLDS} training rows each",
            f"rows by class: {counts.tolist()}",
            "Use a larger store.",
        )
    C, probe = _fit(features, labels)
    found = {}
    for split in prepared.feeds:
        if split != "train":
            features, labels = split_features(prepared, state, split)
            decided = probe.decision_function(features)
            # As the head's outputs: a column per class.
            outputs = np.stack([-decided, decided], axis=1) if decided.ndim == 1 else decided
            found[split] = {**evaluate(outputs, labels, prepared.task), "C": C}
    return found


def _fit(features: np.ndarray, labels: np.ndarray) -> tuple[float, Pipeline]:
    """(C, the SVM fitted with it). C grows until the cross-validated accuracy falls: each ten times
    takes twice as long to fit, and what is past the best is past it for good."""
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    best, C = -1.0, C_VALUES[0]
    for value in C_VALUES:
        score = float(np.mean(cross_val_score(_svm(value), features, labels, cv=folds)))
        if score < best:
            break
        if score > best:
            best, C = score, value
    return C, _svm(C).fit(features, labels)


def _svm(C: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LinearSVC(C=C, dual="auto", random_state=0))


def split_features(run: Run, state: TrainState, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(features [rows, width] float32, labels [rows]) of a split, in the order of its plan."""
    feed = run.feeds[split]
    features, labels = [], []
    for step, batch in feed.batches(0, feed.plan.steps_per_epoch):
        result = jax.device_get(run.steps.features(state, batch))
        require(
            int(result["dropped_edges"]) == 0,
            "a sparse batch holds all its edges",
            f"{result['dropped_edges']} too many in {split}",
            "Use --backend dense.",
        )
        rows = feed.plan(step).rows
        features.append(result["features"][rows >= 0])
        labels.append(feed.labels[rows[rows >= 0]])
    return np.concatenate(features), np.concatenate(labels)
