"""Files of vectors, written a window at a time: .npy and .parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from glot_jax.errors import missing_extra


class VectorWriter(Protocol):
    """Writes the rows of one file in their order."""

    def __init__(self, path: Path, rows: int, dim: int, /):
        """Open a file of `rows` vectors of width `dim`."""

    def write(self, vectors: np.ndarray, row: int, /) -> None:
        """Append float32 [some rows, dim], of which the first is number `row` of the file."""

    def close(self) -> None:
        """End the file."""


class NpyWriter:
    """float32 [rows, dim]."""

    def __init__(self, path: Path, rows: int, dim: int, /):
        # Through a file, not a memory map: its pages would count as memory of this process.
        self._file = path.open("wb")
        # The shape stands at the head, so the number of rows must be known before the first one.
        header = {
            "descr": "<f4",
            "fortran_order": False,
            "shape": (rows, dim),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

    # Rows come in their order, and their number is nowhere but in the header.
    def write(self, vectors: np.ndarray, _row: int, /) -> None:
        """See VectorWriter."""
        # Little-endian, as the header says, on every machine.
        plain = np.ascontiguousarray(vectors, "<f4")
        self._file.write(plain.tobytes())

    def close(self) -> None:
        """See VectorWriter."""
        self._file.close()


class ParquetWriter:
    """Columns row: int64 and vector: a list of `dim` float32."""

    # Parquet counts its rows at the end.
    def __init__(self, path: Path, _rows: int, dim: int, /):
        # Here and not at the top: a .npy file needs no pyarrow.
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise missing_extra("extract", "a .parquet file", "pyarrow", error) from error
        self._pa: Any = pa
        # With its length the list is of fixed size: no offsets are stored.
        vector = pa.list_(pa.float32(), dim)
        columns = [("row", pa.int64()), ("vector", vector)]
        self._schema = pa.schema(columns)
        self._dim = dim
        self._writer = pq.ParquetWriter(path, self._schema)

    def write(self, vectors: np.ndarray, row: int, /) -> None:
        """See VectorWriter."""
        pa = self._pa
        after = row + len(vectors)
        numbers = np.arange(row, after, dtype=np.int64)
        # Flat and then cut: pyarrow takes arrays of one axis only.
        flat = pa.array(vectors.reshape(-1), pa.float32())
        lists = pa.FixedSizeListArray.from_arrays(flat, self._dim)
        columns = [pa.array(numbers), lists]
        table = pa.table(columns, schema=self._schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """See VectorWriter."""
        self._writer.close()


VECTOR_WRITERS: dict[str, type[VectorWriter]] = {
    "npy": NpyWriter,
    "parquet": ParquetWriter,
}
"""Suffix of the file -> its writer."""
