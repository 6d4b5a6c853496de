"""Heads in scikit-learn's way: `TextClassifier` and `TextRegressor`.

    classifier = TextClassifier(backbone="minilm").fit(texts, labels)
    classifier.predict(["a new text"])

They fit into Pipeline, cross_val_score and GridSearchCV. A run that train.py made is one too:
`TextClassifier.load("runs/cola")`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
from jaxtyping import Float, Shaped
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import listed, shown
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.fitting import as_rows, fit_head, task_of
from glot_jax.inference.text_estimator import TextEstimator
from glot_jax.plugins import load as load_plugins
from glot_jax.run_folders.run_files import read_task
from glot_jax.run_folders.run_folder import CheckpointName
from glot_jax.texts.label_lists import label_rows
from glot_jax.texts.tasks import TaskSpec


class TextClassifier(ClassifierMixin, TextEstimator):
    """A classifier of texts, or of pairs of texts: GLOT, or another pooler, on a frozen model.

        classifier = TextClassifier(backbone="minilm").fit(texts, labels)
        classifier.predict_proba(["a new text"])  # [1, classes]

    Of several labels a text, `y` is a list of labels for each, or an indicator matrix; `predict`
    gives an indicator [rows, classes], which scikit-learn's MultiLabelBinarizer, given `classes_`,
    turns into lists. Its scores, splits and searches want the matrix.

    Args:
        backbone: Hub name, folder, GGUF file, `minilm` or `smollm2`, as for extract.py.
        layer: whose states are pooled, 0 (embeddings) to L, negative from the end.
        max_length: tokens of a text. Default: 128, or what the model has positions for.
        prompt: template that each text is put into.
        pooler: glot, mean, adapool, mlp, pma ...
        gnn: layers of glot: gat, gcn, gin, gine, sage.
        graph: rule of the edges.
        tau: cosine above which two tokens are linked.
        hidden_dim: width of the Token-GNN.
        num_layers: its depth.
        jk: jumping knowledge: cat, max, mean, none.
        epochs: passes over the training rows.
        batch_size: rows of a training step.
        lr: learning rate.
        select_on: last: train on all rows, take the last epoch. holdout: set a tenth aside, take
            the epoch that is best there.
        class_weight: "balanced" weighs the loss of every class by how rare it is; or {class:
            weight}, those that are not named count 1. Regressors do not read it.
        settings: further flags of train.py by their names: {"token_norm": "rms"}.
        random_state: seed of the initial values and of the order of the rows.
        device: torch device of the backbone.
        cache: keep token states in a folder of the user's, so that no text goes through the
            backbone twice. States of private texts lie there; see `glot_jax.clear_cache`.

    Attributes:
        classes_: [classes] labels, sorted, of the type that `fit` was given.
        head_: settings and trained arrays.
    """

    classes_: np.ndarray

    def fit(self, X: object, y: object) -> Self:
        """Train on texts and their labels.

        Args:
            X: [rows] strings, or pairs of strings.
            y: [rows] labels of one type, or lists of them; or [rows, classes] of 0 and 1.

        Raises:
            UsageError: what is no text, a row without a label, labels of two types, one class only,
                a setting that breaks a rule, or a backbone that cannot be run.
        """
        rows = as_rows(X)
        several = label_rows(y, len(rows))
        if several is not None:
            names = [str(name) for name in several.classes.tolist()]
            task = task_of(len(rows[0]), "multilabel", classes=names)
            settings = self.train_settings()
            head = fit_head(rows, several.labels, task, self.frozen_model(), settings)
            self.classes_ = several.classes
            self.set_head(head)
            return self
        if y is not None:
            _require_no_gap(y)
        labels = _labels(y, len(rows))
        try:
            classes, indices = np.unique(labels, return_inverse=True)
        except TypeError as error:
            kinds = sorted({type(label).__name__ for label in labels.tolist()})
            raise UsageError(
                rule="labels must be of one type",
                got=listed(kinds),
                fix="Give strings, or give numbers.",
            ) from error
        check_classification_targets(labels)
        if len(classes) < 2:
            raise UsageError(
                rule="a classification needs two classes or more",
                got=f"only one class: {shown(classes.tolist())}",
                fix="Give rows of another class too.",
            )
        # A holdout takes a tenth: of the rest every class needs a row.
        held_out = max(1, len(rows) // 10) if self.select_on == "holdout" else 0
        if len(classes) > len(rows) - held_out:
            raise UsageError(
                rule="there must be as many training rows as classes, at least",
                got=f"{len(classes)} classes and {len(rows) - held_out} rows beside the holdout",
                fix='Give more rows of each class, or select_on="last".',
            )
        names = [str(name) for name in classes.tolist()]
        task = task_of(len(rows[0]), "classes", classes=names)
        settings = {**self.train_settings(), **self._weights(classes)}
        head = fit_head(rows, indices.tolist(), task, self.frozen_model(), settings)
        self.classes_ = classes
        self.set_head(head)
        return self

    def _weights(self, classes: np.ndarray) -> dict[str, Any]:
        """Settings of the loss where the parameter names weights of classes."""
        weights = self.class_weight
        if not isinstance(weights, Mapping):
            return {}
        # Python's own values, as people write them in a mapping.
        names = classes.tolist()
        unknown = [name for name in weights if name not in names]
        if unknown:
            raise UsageError(
                rule="class_weight must name classes of the labels",
                got=listed([repr(name) for name in unknown]),
                fix=f"They are {shown(names)}.",
            )
        values = tuple(float(weights.get(name, 1)) for name in names)
        return {"class_weight": "none", "class_weights": values}

    def saved_values(self) -> dict[str, Any]:
        """See TextEstimator; the classes with their type."""
        classes = self.classes_
        return {**super().saved_values(), "classes": classes.tolist(), "dtype": classes.dtype.str}

    def restore_values(self, saved: Mapping[str, Any]) -> None:
        """See TextEstimator."""
        kind = np.dtype(saved["dtype"])
        self.classes_ = np.array(saved["classes"], kind)

    def predict(self, X: object) -> Shaped[np.ndarray, "rows ..."]:
        """The class of each row; of several labels a text, [rows, classes] of 0 and 1.

        Raises:
            NotFittedError: `fit` was not called.
            UsageError: what is no text, or rows of another number of texts.
        """
        answers = self.answers(X)
        # Not names: rows of lists of different lengths are no array.
        if answers.values.ndim == 2:
            return answers.values.astype(np.int64)
        return self.classes_[answers.values]

    def predict_proba(self, X: object) -> Float[np.ndarray, "rows classes"]:
        """Probabilities of the classes, in the order of `classes_`; errors as for `predict`.

        A row adds up to 1, but of several labels a text, where each class has its own.
        """
        return self.answers(X).probabilities

    @classmethod
    def require_task(cls, task: TaskSpec, run: str | os.PathLike[str]) -> None:
        """See TextEstimator."""
        if task.label_kind not in ("classes", "multilabel"):
            raise UsageError(
                rule="a classifier needs a run that was trained on classes",
                got=f"{run}, with labels of kind {task.label_kind}",
                fix=_other_way(task),
            )

    def set_task(self, task: TaskSpec) -> None:
        """See TextEstimator."""
        self.classes_ = np.array(task.classes)


class TextRegressor(RegressorMixin, TextEstimator):
    """A regressor of texts, or of pairs of texts (then the cosine of their projected vectors).

    Parameters are those of `TextClassifier`.

    Attributes:
        head_: settings and trained arrays.
    """

    def fit(self, X: object, y: object) -> Self:
        """Train on texts and their scores.

        Args:
            X: [rows] strings, or pairs of strings.
            y: [rows] numbers.

        Raises:
            UsageError: as for `TextClassifier.fit`; scores that are no numbers, or all the same.
        """
        rows = as_rows(X)
        labels = _labels(y, len(rows))
        try:
            scores = labels.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError(
                rule="scores must be numbers",
                got=shown(labels.tolist()[:5]),
                fix="Use TextClassifier for classes.",
            ) from error
        if not np.isfinite(scores).all():
            raise UsageError(
                rule="scores must be finite",
                got="nan or inf",
                fix="Leave these rows out.",
            )
        # Heads learn scores between 0 and 1: these two bring them back.
        low, high = float(scores.min()), float(scores.max())
        if low >= high:
            raise UsageError(
                rule="regression needs scores that differ",
                got=f"{low:g} in every row" if len(rows) > 1 else "one sample",
                fix="Check the labels.",
            )
        task = task_of(len(rows[0]), "regression", label_range=(low, high))
        head = fit_head(rows, scores.tolist(), task, self.frozen_model(), self.train_settings())
        self.set_head(head)
        return self

    def predict(self, X: object) -> Float[np.ndarray, " rows"]:
        """The score of each row, on the scale of `fit`; errors as for the classifier."""
        return np.asarray(self.answers(X).values, np.float64)

    @classmethod
    def require_task(cls, task: TaskSpec, run: str | os.PathLike[str]) -> None:
        """See TextEstimator."""
        if task.label_kind != "regression":
            raise UsageError(
                rule="a regressor needs a run that was trained on scores",
                got=f"{run}, with labels of kind {task.label_kind}",
                fix=_other_way(task),
            )


ESTIMATORS: dict[str, type[TextClassifier] | type[TextRegressor]] = {
    "classes": TextClassifier,
    "multilabel": TextClassifier,
    "regression": TextRegressor,
}
"""Kind of a task's labels -> the estimator that answers for it."""


def load(
    run: str | os.PathLike[str],
    *,
    backbone: str | None = None,
    device: str = "auto",
    checkpoint: CheckpointName = "best",
    plugins: Iterable[str | ModuleType] = (),
) -> TextClassifier | TextRegressor | SentenceEncoder:
    """What a run folder can do: a classifier, a regressor, or an encoder where it ranks texts.

    Arguments and errors are those of `TextClassifier.load`.
    """
    # Read twice: here, and by whoever loads the run.
    plugins = list(plugins)
    load_plugins(plugins)
    kind = ESTIMATORS.get(read_task(Path(run)).label_kind, SentenceEncoder)
    return kind.load(run, backbone=backbone, device=device, checkpoint=checkpoint, plugins=plugins)


def _other_way(task: TaskSpec) -> str:
    """What loads the runs of a task."""
    if task.label_kind in ("classes", "multilabel"):
        return "Use TextClassifier.load."
    if task.label_kind == "regression":
        return "Use TextRegressor.load."
    return "Use SentenceEncoder.load."


def _require_no_gap(y: object) -> None:
    """Require a class in every row; NumPy would make the class "nan" of nan beside names.

    Raises:
        UsageError: None, nan or pandas' NA, with its row.
    """
    # A list is looked at as it is: in an array of names nan is a name already.
    labels = y if isinstance(y, list | tuple) else np.asarray(y, object).ravel()
    for row, label in enumerate(labels):
        is_nan = isinstance(label, float | np.floating) and np.isnan(label)
        # By its name: pandas need not be installed.
        if is_nan or label is None or type(label).__name__ == "NAType":
            raise UsageError(
                rule="every text must have a label",
                got=f"{label} in row {row}",
                fix="Leave the rows without one out.",
            )


def _labels(y: object, rows: int) -> np.ndarray:
    if y is None:
        raise UsageError(
            rule="fit requires y to be passed, but the target y is None",
            got="None",
            fix="Give a label for every text.",
        )
    labels = np.asarray(y)
    if labels.ndim == 2 and labels.shape[1] == 1:
        # With scikit-learn's warning: a list of lists may be a mistake.
        labels = column_or_1d(labels, warn=True)
    if labels.shape != (rows,) or rows == 0:
        raise UsageError(
            rule="there must be a label for every text, at least one",
            got=f"{rows} texts and labels of the shape {labels.shape}",
            fix="Give as many labels as texts.",
        )
    return labels
