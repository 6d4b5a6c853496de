"""What runs answer for new texts, and which of them can. Needs neither jax nor a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Shaped

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import encodes, shown
from glot_jax.texts.tasks import TaskSpec

Rows = Sequence[str | Sequence[str]]
"""A text a row, or the texts of each row in the order of the task's columns."""


@dataclasses.dataclass(frozen=True)
class Answers:
    """What is predicted for some rows."""

    values: Shaped[np.ndarray, "rows ..."]
    """int64 index into the task's classes; or float scores, on the task's own scale. Of several
    classes a row bool [rows, classes].
    """
    shares: Float[np.ndarray, "rows classes"] | None
    """Probabilities of the classes; None for scores."""

    @property
    def probabilities(self) -> Float[np.ndarray, "rows classes"]:
        """float64, each row adds up to 1; of several classes a row each class has its own.

        Raises:
            UsageError: the runs predict scores.
        """
        if self.shares is None:
            raise UsageError(
                rule="a run must have been trained on classes to give probabilities",
                got="one that predicts scores",
                fix="Read the scores: values.",
            )
        return self.shares


class Answering(Protocol):
    """What answers for rows of texts: a `Predictor`."""

    task: TaskSpec

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the probabilities; empty for scores."""
        ...

    def predict(self, rows: Rows, batch_size: int = 32) -> Answers:
        """Answers for some rows, in their order."""
        ...


def require_list(texts: object) -> None:
    """Require texts that are no single string, of which every character would be one.

    Raises:
        UsageError: a string, or bytes.
    """
    if isinstance(texts, str | bytes):
        raise UsageError(
            rule="texts must be a list of strings, or of pairs of strings",
            got=f"one string: {shown(texts)}",
            fix=f"Give [{shown(texts, 20)}].",
        )


def rows_in(texts: Any) -> Any:  # noqa: ANN401 - whatever holds texts
    """What iterates over rows: pandas goes over the names of a frame's columns, NumPy over rows."""
    return texts.to_numpy() if hasattr(texts, "to_numpy") else texts


def require_whole(text: str, row: int) -> None:
    """Require a text that a tokenizer can read and a file can hold.

    Raises:
        UsageError: half of a surrogate pair in it.
    """
    if not encodes(text):
        raise UsageError(
            rule="a text must be encodable as UTF-8",
            got=f"half of a surrogate pair in row {row}",
            fix="Correct the row.",
        )


def require_answers(tasks: Sequence[TaskSpec]) -> TaskSpec:
    """The task that some runs answer for together.

    Raises:
        UsageError: none, tasks that differ in what their rows are, or a task that ranks texts.
    """
    if not tasks:
        raise UsageError(
            rule="predictions need a run", got="none", fix="Name a run folder: --run RUN."
        )
    task = tasks[0]
    if task.label_kind not in ("classes", "multilabel", "regression"):
        raise UsageError(
            rule="a run must have been trained on classes or scores to predict them",
            got=f"one of task {task.name}, which has labels of kind {task.label_kind}",
            fix="Its vectors are written by glot encode.",
        )
    for other in tasks[1:]:
        for name in ("label_kind", "classes", "roles", "label_separator"):
            first = getattr(task, name)
            second = getattr(other, name)
            if first != second:
                raise UsageError(
                    rule="runs that answer together must have been trained on the same kind of"
                    " rows",
                    got=f"{name} {shown(first)} of one and {shown(second)} of another",
                    fix="Ask them one by one.",
                )
    return task


def require_scores(task: TaskSpec) -> None:
    """Require a task that a row is answered for: with a class, or with a score.

    Raises:
        UsageError: texts are ranked, or were stored without labels.
    """
    if task.label_kind in ("classes", "multilabel", "regression"):
        return
    raise UsageError(
        rule="--with-head needs a run that was trained on classes or scores",
        got=f"one of task {task.name}, which has labels of kind {task.label_kind}",
        fix="Leave --with-head out: its vectors are what it was trained for.",
    )
