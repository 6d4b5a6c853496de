"""Which runs can answer for new texts, and together. Needs neither jax nor a model."""

from __future__ import annotations

from collections.abc import Sequence

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import shown
from glot_jax.texts.tasks import TaskSpec


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
    if task.label_kind not in ("classes", "regression"):
        raise UsageError(
            rule="a run must have been trained on classes or scores to predict them",
            got=f"one of task {task.name}, which has labels of kind {task.label_kind}",
            fix="Its vectors are written by glot encode.",
        )
    for other in tasks[1:]:
        for name in ("label_kind", "classes", "roles"):
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
