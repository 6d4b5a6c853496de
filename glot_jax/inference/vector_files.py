"""Vectors written a window at a time: beside the rows they belong to, or alone as a .npy file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.inference.row_files import Survey
from glot_jax.inference.row_writers import ROW_WRITERS, Added, RowWriter

VECTOR = "vector"
ROW = "row"
"""Column of a .parquet file: the number of the row, from 0."""


class NpyWriter:
    """float32 [rows, dim]: the vectors alone, in the order of the rows."""

    def __init__(self, path: Path, rows: int):
        # Through a file, not a memory map: its pages would count as memory of this process.
        self._file = path.open("wb")
        self._rows = rows
        self._has_header = False

    def write(self, _rows: Sequence[Mapping[str, Any]], added: Added, /) -> None:
        """See RowWriter."""
        # Little-endian, as the header says, on every machine.
        vectors = np.ascontiguousarray(added[VECTOR], "<f4")
        if not self._has_header:
            # The shape stands at the head: the number of rows must be known before the first one.
            header = {
                "descr": "<f4",
                "fortran_order": False,
                "shape": (self._rows, vectors.shape[1]),
            }
            np.lib.format.write_array_header_1_0(self._file, header)
            self._has_header = True
        self._file.write(vectors.tobytes())

    def close(self) -> None:
        """See RowWriter."""
        self._file.close()


VECTOR_FORMATS = ("npy", *ROW_WRITERS)
"""Suffixes of files that vectors are written to."""


def added_columns(suffix: str, survey: Survey) -> tuple[str, ...]:
    """Columns that are added to the rows of a file, for a format of VECTOR_FORMATS."""
    # Tables that earlier versions wrote had these two columns alone.
    if suffix == "parquet" and ROW not in survey.columns:
        return (ROW, VECTOR)
    return (VECTOR,)


def open_writer(path: Path, suffix: str, survey: Survey) -> RowWriter:
    """Open a file of vectors; `suffix` says of which format, whatever `path` is called."""
    if suffix == "npy":
        return NpyWriter(path, survey.rows)
    return ROW_WRITERS[suffix](path, survey, added_columns(suffix, survey))
