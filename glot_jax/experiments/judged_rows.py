"""Rows that a run was judged on, written with their labels and what was predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.files import whole_file
from glot_jax.inference.answering import Answers
from glot_jax.inference.predict_file import added_columns, answer_columns, label_names
from glot_jax.inference.row_files import RowFile, Survey
from glot_jax.inference.row_writers import ROW_WRITERS
from glot_jax.objectives.probabilities import LINKS, predicted, probabilities
from glot_jax.texts.tasks import TaskSpec
from glot_jax.training.evaluation import JudgedSplit

_WINDOW = 4096
"""Rows written at a time."""


def write_judged_rows(
    out: Path,
    task: TaskSpec,
    judged: Mapping[str, JudgedSplit],
    *,
    file: Path | None = None,
    encoding: str | None = None,
) -> None:
    """Write rows with the columns of `glot predict`.

    Args:
        out: .csv, .jsonl or .parquet, absent or whole.
        task: of the run.
        judged: splits with what is predicted.
        file: the file that they were read from: its columns are kept. Without one, and where rows
            of it were left out, a row has the columns split, row (its number) and label.
        encoding: of the file.

    Raises:
        UsageError: a column that would be overwritten, or a disk that refuses.
    """
    count = sum(len(result.predictions.rows) for result in judged.values())
    if file is not None:
        rows_of_file = RowFile.of_task(file, task.name, task.text_columns, encoding)
        source = rows_of_file.open()
        survey = rows_of_file.survey(source, types=out.suffix == ".parquet")
        # Fewer were judged where rows without a label were left out.
        if survey.rows == count:
            rows_of_file.require_free(added_columns(task), survey)
            values = (row for _, row in rows_of_file.rows(source, survey))
            _write(out, survey, values, judged, task)
            return
    label = "str" if task.classes else "float"
    if task.label_kind == "multilabel" and task.label_separator is None:
        # As a list; .parquet has it as JSON.
        label = "other"
    kinds = {"split": {"str"}, "row": {"int"}, "label": {label}}
    survey = Survey(count, dict.fromkeys(kinds), kinds)
    _write(out, survey, _numbered(judged, task), judged, task)


def _numbered(judged: Mapping[str, JudgedSplit], task: TaskSpec) -> Iterator[dict[str, Any]]:
    for split, result in judged.items():
        labels = _label_values(task, result.predictions.labels)
        for row, label in zip(result.predictions.rows.tolist(), labels, strict=True):
            yield {"split": split, "row": row, "label": label}


def _label_values(task: TaskSpec, labels: np.ndarray) -> Sequence[Any]:
    """What stands in a file for the labels of some rows."""
    if task.label_kind == "multilabel":
        return label_names(task, labels)
    if task.classes:
        return [task.classes[int(label)] for label in labels.tolist()]
    return [float(label) for label in labels.tolist()]


def _write(
    out: Path,
    survey: Survey,
    rows: Iterator[Mapping[str, Any]],
    judged: Mapping[str, JudgedSplit],
    task: TaskSpec,
) -> None:
    names = added_columns(task)
    answers = _answers(task, judged)
    with (
        whole_file(out) as temporary,
        closing(ROW_WRITERS[out.suffix[1:]](temporary, survey, names)) as writer,
    ):
        done = 0
        while window := list(islice(rows, _WINDOW)):
            span = slice(done, done + len(window))
            shares = None if answers.shares is None else answers.shares[span]
            of_window = Answers(answers.values[span], shares)
            writer.write(window, answer_columns(task, of_window))
            done += len(window)


def _answers(task: TaskSpec, judged: Mapping[str, JudgedSplit]) -> Answers:
    """What is predicted for the rows of all splits, one after the other."""
    values = np.concatenate([result.predictions.predictions for result in judged.values()])
    if task.label_kind not in LINKS:
        return Answers(values, None)
    by_split = [
        probabilities(result.outputs, task, result.temperature) for result in judged.values()
    ]
    shares = np.concatenate(by_split)
    # Of several classes a row the judged values are logits.
    if task.label_kind == "multilabel":
        values = predicted(shares, task)
    return Answers(values, shares)
