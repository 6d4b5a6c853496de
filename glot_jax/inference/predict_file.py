"""`glot predict`: the rows of a file with what trained runs say of them, a window at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.files import whole_file
from glot_jax.inference.answering import Answering, Answers
from glot_jax.inference.row_files import RowFile, Survey
from glot_jax.inference.row_writers import ROW_WRITERS, Added, JsonlWriter, survey_rows

_WINDOW = 4096
"""Rows predicted, and held, at a time."""

PREDICTION = "prediction"
PROBABILITY = "probability"


def added_columns(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the columns that predictions add to a row; `classes` is empty for scores."""
    if not classes:
        return (PREDICTION,)
    return (PREDICTION, PROBABILITY, *(f"{PROBABILITY}.{name}" for name in classes))


def check_rows(file: RowFile, out: Path, classes: tuple[str, ...]) -> Survey:
    """Look at every text of a file before anything is loaded for it.

    What its reader assumed or left out goes to stderr, a line each.

    Args:
        file: the rows.
        out: file that will be written.
        classes: of the task; empty for scores.

    Raises:
        UsageError: a file that is missing or damaged, a row without a text; an `out` of another
            format or in a folder that does not exist; a column that a prediction would overwrite.
    """
    return survey_rows(file, out, ROW_WRITERS, lambda _survey: added_columns(classes))


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
    classes `probability`, that of the predicted one, and `probability.CLASS` of each.

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
    rows = file.rows(file.open(), survey)
    names = added_columns(predictor.classes)
    open_writer = ROW_WRITERS[out.suffix[1:]]
    done = 0
    with (
        whole_file(out) as temporary,
        closing(open_writer(temporary, survey, names)) as writer,
    ):
        while window := list(islice(rows, _WINDOW)):
            texts = [row_texts for row_texts, _ in window]
            answers = predictor.predict(texts, batch_size)
            added = answer_columns(predictor.classes, answers)
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
        added = answer_columns(predictor.classes, answers)
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


def answer_columns(classes: tuple[str, ...], answers: Answers) -> Added:
    """The columns of `added_columns` for some rows; `classes` is empty for scores."""
    if answers.shares is None:
        return {PREDICTION: np.asarray(answers.values, np.float64)}
    chosen = answers.values
    columns: dict[str, np.ndarray | list[str]] = {
        PREDICTION: [classes[index] for index in chosen],
        PROBABILITY: answers.shares[np.arange(len(chosen)), chosen],
    }
    for index, name in enumerate(classes):
        columns[f"{PROBABILITY}.{name}"] = answers.shares[:, index]
    return columns
