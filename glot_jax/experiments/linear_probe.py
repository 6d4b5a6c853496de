"""A linear SVM on the frozen vectors of a trained run.

It says how separable the classes are (paper Table 8).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from glot_jax.config.location import Location
from glot_jax.errors import UsageError
from glot_jax.moved import renamed_keywords
from glot_jax.objectives import evaluate
from glot_jax.run_folders.run_folder import CheckpointName
from glot_jax.training.evaluation import open_run
from glot_jax.training.forward import run_over
from glot_jax.training.prepare import Run
from glot_jax.training.step_functions import TrainState
from glot_jax.training.workspace import Workspace

# From 0.0001 to 10, each ten times the one before.
C_VALUES = tuple(10.0**power for power in range(-4, 2))
_FOLDS = 5


@renamed_keywords(which="checkpoint", residents="workspace")
def linear_probe(
    run: Path,
    *,
    store: Location | None = None,
    checkpoint: CheckpointName = "best",
    quiet: bool = False,
    workspace: Workspace | None = None,
) -> dict[str, dict[str, float]]:
    """Fit a linear SVM to the features that the run's own head reads, and judge it.

    `sklearn.svm.LinearSVC` on standardised features, fitted on the rows the run was trained on; C
    by 5-fold cross-validation there (paper Table 8).

    Args:
        run: run folder.
        store: of the states. Default: the run's own.
        checkpoint: "best" or "last".
        quiet: print nothing.
        workspace: see `glot_jax.training.train`.

    Returns:
        Evaluation split -> metric -> value, with the probe's C among the metrics.

    Raises:
        UsageError: a task without classes, or a class of fewer than 5 training rows; otherwise as
            evaluate_run.
    """
    prepared, state = open_run(
        run,
        store=store,
        checkpoint=checkpoint,
        quiet=quiet,
        workspace=workspace,
    )
    if prepared.task.label_kind != "classes":
        raise UsageError(
            rule="a linear probe needs classes to separate",
            got=f"{run}, with labels of kind {prepared.task.label_kind}",
            fix="Leave out --linear-probe.",
        )
    # In the order of the plan, by bucket of length: `_fit` shuffles them.
    features, labels = split_features(prepared, state, "train")
    # Each fold must hold every class.
    _, counts = np.unique(labels, return_counts=True)
    if counts.min() < _FOLDS or len(counts) < 2:
        raise UsageError(
            rule=f"a probe needs two classes or more, of {_FOLDS} training rows each",
            got=f"rows by class: {counts.tolist()}",
            fix="Use a larger store.",
        )
    C, probe = _fit(features, labels)
    scores = {}
    for split in prepared.evaluation_splits:
        features, labels = split_features(prepared, state, split)
        outputs = as_outputs(probe.decision_function(features))
        # Judged as a head's outputs are, by the same function.
        metrics = evaluate(outputs, labels, prepared.task)
        scores[split] = {**metrics, "C": C}
    return scores


def as_outputs(decided: np.ndarray) -> np.ndarray:
    """Decisions as a head's outputs: a column per class."""
    # Of two classes scikit-learn gives one column, positive for the second.
    if decided.ndim == 1:
        return np.stack([-decided, decided], axis=1)
    return decided


def _fit(features: np.ndarray, labels: np.ndarray) -> tuple[float, Pipeline]:
    """(C, the SVM fitted with it).

    C grows until the cross-validated accuracy falls: each ten times takes twice as long to fit, and
    what is past the best is past it for good.
    """
    # Shuffled with a fixed seed: the probe of a run is the same whenever it is fitted.
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    best = -1.0
    best_C = C_VALUES[0]
    for C in C_VALUES:
        # The scaler is of the pipeline, so each fold is scaled by its own training rows alone.
        by_fold = cross_val_score(_svm(C), features, labels, cv=folds)
        score = float(np.mean(by_fold))
        if score < best:
            break
        # Of equal scores the smaller C, which is the simpler machine.
        if score > best:
            best = score
            best_C = C
    return best_C, _svm(best_C).fit(features, labels)


def _svm(C: float) -> Pipeline:
    # Standardised: the margin of an SVM depends on the scale of each feature.
    return make_pipeline(
        StandardScaler(),
        LinearSVC(
            C=C,
            # The form that suits the shape: dual where there are fewer rows than features.
            dual="auto",
            # liblinear draws rows in the dual form only; a probe is always the same.
            random_state=0,
        ),
    )


def split_features(
    run: Run,
    state: TrainState,
    split: str,
) -> tuple[np.ndarray, np.ndarray]:
    """(features [rows, width] float32, labels [rows]) of a split, in the order of its plan."""
    outputs = run_over(run, state, split, "vectors")
    return outputs.values, run.feeds[split].labels[outputs.rows]
