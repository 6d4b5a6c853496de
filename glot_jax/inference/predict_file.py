"""`glot predict`: the rows of a file with what trained runs say of them, a window at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TextIO

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.files import whole_file
from glot_jax.inference.answering import Answering, Answers
from glot_jax.inference.row_files import RowFile, Spread, Survey, Window, cut_windows
from glot_jax.inference.row_writers import ROW_WRITERS, Added, JsonlWriter, survey_rows
from glot_jax.texts.tasks import TaskSpec

_WINDOW = 4096
"""Rows predicted, and held, at a time."""

PREDICTION = "prediction"
PROBABILITY = "probability"


def added_columns(task: TaskSpec) -> tuple[str, ...]:
    """Names of the columns that predictions add to a row of a task."""
    # Named by class: their order is the run's own affair.
    by_class = tuple(f"{PROBABILITY}.{name}" for name in task.classes)
    # Of several classes a row there is no predicted one, whose probability could stand alone.
    if task.label_kind == "classes":
        return (PREDICTION, PROBABILITY, *by_class)
    return (PREDICTION, *by_class)


def check_rows(file: RowFile, out: Path, task: TaskSpec) -> Survey:
    """Look at every text of a file before anything is loaded for it.

    What its reader assumed or left out goes to stderr, a line each.

    Args:
        file: the rows.
        out: file that will be written.
        task: of the run.

    Raises:
        UsageError: a file that is missing or damaged, a row without a text; an `out` of another
            format or in a folder that does not exist; a column that a prediction would overwrite.
    """
    return survey_rows(
        file,
        out,
        ROW_WRITERS,
        lambda _survey: added_columns(task),
    )


def predict_file(
    predictor: Answering,
    file: RowFile,
    out: Path,
    survey: Survey,
    *,
    batch_size: int = 32,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the rows of a file with their predictions to OUT, which is absent or whole.

    Beside the file's own columns stand `prediction`, the name of the class or the score, and for
    classes `probability`, that of the predicted one, and `probability.CLASS` of each. Of several
    classes a row `prediction` is the list of their names, or the string in which training had them.

    Args:
        predictor: answers.
        file: the rows.
        out: .csv, .jsonl or .parquet.
        survey: of the file, as `check_rows` found it.
        batch_size: texts of one forward pass.
        progress: called with the number of rows that are done.

    Raises:
        UsageError: as check_rows; a file that changed since; an OUT that cannot be written.
    """

    def here(
        windows: Iterator[Window],
        texts: Callable[[Window], Sequence[Sequence[str]]],
    ) -> Iterator[tuple[Window, Answers]]:
        for window in windows:
            yield window, predictor.predict(texts(window), batch_size)

    write_answers(
        here,
        predictor.task,
        file,
        out,
        survey,
        progress,
    )


def write_answers(
    answer: Spread[Answers],
    task: TaskSpec,
    file: RowFile,
    out: Path,
    survey: Survey,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a file as `predict_file` does, with what `answer` says of its windows.

    Raises:
        UsageError: as for `predict_file`.
    """
    rows = file.rows(file.open(), survey)
    # Never all of it: the file may be larger than memory.
    windows = cut_windows(rows, _WINDOW)
    names = added_columns(task)
    open_writer = ROW_WRITERS[out.suffix[1:]]
    done = 0
    with (
        whole_file(out) as temporary,
        closing(open_writer(temporary, survey, names)) as writer,
    ):
        for window, answers in answer(windows, _all_texts):
            added = answer_columns(task, answers)
            writer.write([values for _, values in window], added)
            done += len(window)
            if progress is not None:
                progress(done)
        # The file is read a second time, and may have changed since it was counted.
        if done != survey.rows:
            raise UsageError(
                rule="FILE must stay as it is while it is read",
                got=f"{done:,} rows, not {survey.rows:,}",
                fix="Run it again.",
            )


def _all_texts(window: Window) -> list[tuple[str, ...]]:
    """The texts of each row."""
    return [texts for texts, _ in window]


def predict_lines(
    predictor: Answering, lines: Iterator[list[str]], out: TextIO, *, batch_size: int = 32
) -> None:
    """Write a JSON object for every line: its text, and what is predicted.

    Args:
        predictor: answers for rows of one text.
        lines: texts, as many at a time as have come.
        out: flushed after each of these.
        batch_size: texts of one forward pass.

    Raises:
        UsageError: rows of the run's task have more than one text.
    """
    if len(predictor.task.roles) != 1:
        raise UsageError(
            rule="a line is one text",
            got=f"a run whose rows have {', '.join(predictor.task.text_columns)}",
            fix="Give a file with these columns.",
        )
    writer = JsonlWriter.on(out)
    for texts in lines:
        answers = predictor.predict([(text,) for text in texts], batch_size)
        added = answer_columns(predictor.task, answers)
        writer.write([{"text": text} for text in texts], added)
        out.flush()


def arriving_lines(descriptor: int, encoding: str = "utf-8") -> Iterator[list[str]]:
    """Yield the whole lines that have come in, as soon as there are some.

    Args:
        descriptor: of the stream.
        encoding: of its text.

    Raises:
        UsageError: bytes that are no text.
    """
    rest = b""
    while True:
        # Returns what is there, and waits for something only where nothing is.
        chunk = os.read(descriptor, 1 << 16)
        *whole, rest = (rest + chunk).split(b"\n")
        if not chunk and rest:
            # The last line may end without a line break.
            whole, rest = [rest], b""
        if whole:
            yield [_decoded(line, encoding) for line in whole]
        if not chunk:
            return


def _decoded(line: bytes, encoding: str) -> str:
    try:
        return line.removesuffix(b"\r").decode(encoding)
    except UnicodeDecodeError as error:
        raise UsageError(
            rule=f"stdin must be text in {encoding}",
            got=f"a line with the byte {line[error.start]:#04x}",
            fix="Name its encoding: --encoding.",
        ) from error


def answer_columns(task: TaskSpec, answers: Answers) -> Added:
    """The columns of `added_columns` for some rows."""
    # A score has no classes to share it.
    if answers.shares is None:
        return {PREDICTION: np.asarray(answers.values, np.float64)}
    columns: dict[str, np.ndarray | Sequence[str | list[str]]] = {}
    if task.label_kind == "multilabel":
        columns[PREDICTION] = label_names(task, answers.values)
    else:
        chosen = answers.values
        columns[PREDICTION] = [task.classes[index] for index in chosen]
        columns[PROBABILITY] = answers.shares[np.arange(len(chosen)), chosen]
    for index, name in enumerate(task.classes):
        columns[f"{PROBABILITY}.{name}"] = answers.shares[:, index]
    return columns


def label_names(task: TaskSpec, indicator: np.ndarray) -> list[str | list[str]]:
    """The classes of rows that may have several, as training had them.

    Args:
        task: of several classes a row.
        indicator: [rows, classes], true for every class of a row.

    Returns:
        A list of names for each row, or the names with the task's separator between them.
    """
    names: list[str | list[str]] = []
    for row in indicator:
        of_row = [task.classes[index] for index in np.flatnonzero(row)]
        if task.label_separator is None:
            names.append(of_row)
        else:
            names.append(task.label_separator.join(of_row))
    return names
