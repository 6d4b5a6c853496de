"""Logistic regression on mean vectors: what a head must beat to be worth its training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.experiments.linear_probe import as_outputs, split_features
from glot_jax.files import read_json, write_json
from glot_jax.health import below_linear
from glot_jax.objectives import evaluate
from glot_jax.run_folders.run_folder import SUMMARY, RunFolder, Summary
from glot_jax.run_folders.run_log import Display, resume_hint
from glot_jax.texts.tasks import require_one_class, selection_metric
from glot_jax.training.prepare import prepare
from glot_jax.training.workspace import Workspace

C_VALUES = (0.01, 0.1, 1.0, 10.0)
_FOLDS = 5


def add_mean_probe(run: Path, workspace: Workspace | None = None) -> list[str]:
    """Compare a finished run with logistic regression on mean vectors, in its summary.json.

    Args:
        run: its folder; `linear_probe` and, where the head is the worse one, a finding are added.
        workspace: see `glot_jax.training.train`.

    Returns:
        The lines of what was found.
    """
    folder = RunFolder.open(run)
    scores = mean_probe(folder.config, workspace)
    values = read_json(run / SUMMARY)
    summary = Summary.from_json(values)
    metric = selection_metric(folder.model.task, folder.config.objective.metric)
    # What chose the head is where the two are compared; the first split where nothing chose.
    split = next(name for name in summary.splits if name in scores)
    if summary.selected_on in scores:
        split = str(summary.selected_on)
    reached = summary.splits[split].best[metric]
    findings = below_linear(metric, reached, scores[split][metric], split)
    # Of an earlier probe nothing is left: this one is of the same run.
    others = [entry for entry in values.get("health", []) if entry["name"] != "below-linear"]
    values["linear_probe"] = scores
    values["health"] = [*others, *(finding.to_json() for finding in findings)]
    write_json(run / SUMMARY, values, again=resume_hint(run))
    return [finding.text for finding in findings]


def mean_probe(
    config: TrainConfig, workspace: Workspace | None = None
) -> dict[str, dict[str, float]]:
    """Fit a logistic regression to the mean vectors of the training rows, and judge it.

    The vectors are those of the run's layer and tokens, of pairs side by side, standardised; C by
    5-fold cross-validation on the training rows (1 where a class has fewer than 5).

    Args:
        config: of a run with classes.
        workspace: see `glot_jax.training.train`.

    Returns:
        Evaluation split -> metric -> value, with C among the metrics.

    Raises:
        UsageError: a task without classes.
    """
    # Of the same tokens, made as long as the run has them; nothing else of the pooler is a mean's.
    pooler = PoolerConfig(pooler="mean", token_norm=config.pooler.token_norm)
    means = dataclasses.replace(config, pooler=pooler)
    # `begun`: its decisions were printed when the run itself was prepared.
    run = prepare(means, Display(quiet=True), workspace, begun=True)
    require_one_class(run.task, "--linear-probe")
    features, labels = split_features(run, run.state, "train")
    C, fitted = _fit(features, labels)
    scores = {}
    # The holdout among them, on which the head's epoch was chosen.
    for split in run.evaluation_splits:
        features, truth = split_features(run, run.state, split)
        decided = as_outputs(fitted.decision_function(features))
        # A class without training rows has no column: it is never the answer.
        outputs = np.full((len(truth), len(run.task.classes)), -np.inf)
        outputs[:, fitted.classes_.astype(int)] = decided
        scores[split] = {**evaluate(outputs, truth, run.task), "C": C}
    return scores


def _fit(features: np.ndarray, labels: np.ndarray) -> tuple[float, Pipeline]:
    """(C, the regression fitted with it)."""
    _, counts = np.unique(labels, return_counts=True)
    # Standardised: the penalty depends on the scale of each feature.
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    if counts.min() < _FOLDS:
        return 1.0, pipeline.fit(features, labels)
    # Shuffled with a fixed seed: the probe of a run is the same whenever it is fitted.
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    search = GridSearchCV(pipeline, {"logisticregression__C": C_VALUES}, cv=folds)
    search.fit(features, labels)
    return float(search.best_params_["logisticregression__C"]), search.best_estimator_
