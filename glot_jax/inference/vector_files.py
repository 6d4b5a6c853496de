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
        header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def write(self, vectors: np.ndarray, _row: int, /) -> None:
        """See VectorWriter."""
        self._file.write(np.ascontiguousarray(vectors, "<f4").tobytes())

    def close(self) -> None:
        """See VectorWriter."""
        self._file.close()


class ParquetWriter:
    """Columns row: int64 and vector: a list of `dim` float32."""

    def __init__(self, path: Path, _rows: int, dim: int, /):
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise missing_extra("extract", "a .parquet file", "pyarrow", error) from error
        self._pa: Any = pa
        self._schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])
        self._dim = dim
        self._writer = pq.ParquetWriter(path, self._schema)

    def write(self, vectors: np.ndarray, row: int, /) -> None:
        """See VectorWriter."""
        pa = self._pa
        numbers = pa.array(np.arange(row, row + len(vectors), dtype=np.int64))
        flat = pa.array(vectors.reshape(-1), pa.float32())
        lists = pa.FixedSizeListArray.from_arrays(flat, self._dim)
        self._writer.write_table(pa.table([numbers, lists], schema=self._schema))

    def close(self) -> None:
        """See VectorWriter."""
        self._writer.close()


VECTOR_WRITERS: dict[str, type[VectorWriter]] = {"npy": NpyWriter, "parquet": ParquetWriter}
"""Suffix of the file -> its writer."""
