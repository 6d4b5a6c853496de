"""Rows that a run was judged on, written with their labels and what was predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.files import whole_file
from glot_jax.inference.answering import Answers, softmax
from glot_jax.inference.predict_file import added_columns, answer_columns
from glot_jax.inference.row_files import RowFile, Survey
from glot_jax.inference.row_writers import ROW_WRITERS
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
            rows_of_file.require_free(added_columns(task.classes), survey)
            values = (row for _, row in rows_of_file.rows(source, survey))
            _write(out, survey, values, judged, task)
            return
    label = "str" if task.classes else "float"
    kinds = {"split": {"str"}, "row": {"int"}, "label": {label}}
    survey = Survey(count, dict.fromkeys(kinds), kinds)
    _write(out, survey, _numbered(judged, task), judged, task)


def _numbered(judged: Mapping[str, JudgedSplit], task: TaskSpec) -> Iterator[dict[str, Any]]:
    for split, result in judged.items():
        labels = result.predictions.labels
        for row, label in zip(result.predictions.rows.tolist(), labels.tolist(), strict=True):
            name = task.classes[int(label)] if task.classes else float(label)
            yield {"split": split, "row": row, "label": name}


def _write(
    out: Path,
    survey: Survey,
    rows: Iterator[Mapping[str, Any]],
    judged: Mapping[str, JudgedSplit],
    task: TaskSpec,
) -> None:
    names = added_columns(task.classes)
    values = np.concatenate([result.predictions.predictions for result in judged.values()])
    outputs = np.concatenate([result.outputs for result in judged.values()])
    with (
        whole_file(out) as temporary,
        closing(ROW_WRITERS[out.suffix[1:]](temporary, survey, names)) as writer,
    ):
        done = 0
        while window := list(islice(rows, _WINDOW)):
            span = slice(done, done + len(window))
            shares = softmax(outputs[span]) if task.classes else None
            answers = Answers(values[span], shares)
            writer.write(window, answer_columns(task.classes, answers))
            done += len(window)
