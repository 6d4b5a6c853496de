"""`glot encode`: the texts of a file to a file of vectors, in their order, a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.file_formats.formats import name_parts
from glot_jax.files import whole_file
from glot_jax.inference.row_files import RowFile, Spread, Survey, Window, cut_windows
from glot_jax.inference.row_writers import survey_rows
from glot_jax.inference.vector_files import (
    ROW,
    VECTOR,
    VECTOR_FORMATS,
    added_columns,
    open_writer,
)

if TYPE_CHECKING:
    from glot_jax.inference.encoder import SentenceEncoder

_WINDOW = 8192  # texts encoded, and vectors held, at a time


def text_file(path: Path, column: str | None = None, encoding: str | None = None) -> RowFile:
    """A file of texts, compressed or not.

    A .txt file has a text in each line (an empty line is an empty text); any other format of
    `glot_jax.file_formats.formats` has them in a column.

    Args:
        path: the file.
        column: of the texts. Default: "text"; a .txt file has none.
        encoding: of text files without a byte-order mark; None: UTF-8.

    Raises:
        UsageError: a column of a .txt file.
    """
    if column is not None and name_parts(path.name)[1] == "txt":
        raise UsageError(
            rule="a .txt file has a text in each line, and no columns",
            got=f"--column {column}",
            fix="Leave out --column.",
        )
    return RowFile(path, (column or "text",), encoding, flag="--column", lines=True)


def check_files(file: RowFile, out: Path) -> Survey:
    """Look at every text of a file before anything is loaded for it.

    What its reader assumed or left out goes to stderr, a line each.

    Raises:
        UsageError: a file that is missing or damaged, a row without the column or whose text is not
            a string; an `out` of another format, or in a folder that does not exist; a column that
            would be overwritten.
    """
    suffix = out.suffix[1:]

    def added(survey: Survey) -> tuple[str, ...]:
        # A .npy file has the vectors alone.
        return () if suffix == "npy" else added_columns(suffix, survey)

    return survey_rows(file, out, VECTOR_FORMATS, added)


def encode_file(
    encoder: SentenceEncoder,
    file: RowFile,
    out: Path,
    survey: Survey,
    *,
    batch_size: int = 32,
    normalize: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write the vectors of a file of texts to OUT, which is absent or whole.

    OUT.npy holds float32 [rows, dim]; .csv, .jsonl and .parquet the columns of the file and
    `vector`: a list, in a .csv as JSON, in a .parquet of fixed size and float32. A .parquet has
    `row` as well, the number of the row.

    Args:
        encoder: makes the vectors.
        file: the texts.
        out: file to write; its suffix decides the format.
        survey: of the file, as `check_files` found it.
        batch_size: texts of one forward pass.
        normalize: scale vectors to unit length.
        progress: called with the number of rows that are done.

    Raises:
        UsageError: as check_files; texts that changed since; an OUT that cannot be written.
    """

    def here(
        windows: Iterator[Window],
        texts: Callable[[Window], Sequence[str]],
    ) -> Iterator[tuple[Window, np.ndarray]]:
        for window in windows:
            vectors = encoder.encode(
                texts(window),
                batch_size=batch_size,
                normalize=normalize,
            )
            yield window, vectors

    write_vectors(here, file, out, survey, progress)


def write_vectors(
    encode: Spread[np.ndarray],
    file: RowFile,
    out: Path,
    survey: Survey,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a file as `encode_file` does, with vectors that `encode` makes of its windows.

    Raises:
        UsageError: as for `encode_file`.
    """
    rows = file.rows(file.open(), survey)
    # Never all of it: the file may be larger than memory.
    windows = cut_windows(rows, _WINDOW)
    suffix = out.suffix[1:]
    names = added_columns(suffix, survey)
    with (
        whole_file(out) as temporary,
        closing(open_writer(temporary, suffix, survey)) as writer,
    ):
        done = 0
        for window, vectors in encode(windows, _first_texts):
            # Before it is written: a .npy file says at its head how many rows it has.
            # The file is read a second time, and may have grown since it was counted.
            if done + len(window) > survey.rows:
                raise _changed(f"more than {survey.rows:,} rows")
            numbers = np.arange(done, done + len(window), dtype=np.int64)
            columns = {ROW: numbers, VECTOR: vectors}
            added = {name: columns[name] for name in names}
            writer.write([values for _, values in window], added)
            done += len(window)
            if progress is not None:
                progress(done)
        if done != survey.rows:
            raise _changed(f"{done:,} rows, not {survey.rows:,}")


def _first_texts(window: Window) -> list[str]:
    """The one text of each row."""
    return [text for (text,), _ in window]


def _changed(got: str) -> UsageError:
    return UsageError(rule="FILE must stay as it is while it is read", got=got, fix="Run it again.")
