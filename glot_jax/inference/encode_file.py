"""`glot encode`: the texts of a file to a file of vectors, in their order, a window at a time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glot_jax.errors import lookup, missing_extra, require
from glot_jax.files import whole_file
from glot_jax.texts.formats import Reading, name_parts, open_file, open_text
from glot_jax.texts.quoting import listed
from glot_jax.texts.records import Source, did_you_mean, require_text

if TYPE_CHECKING:
    from glot_jax.inference.encoder import SentenceEncoder

_WINDOW = 8192  # texts encoded, and vectors held, at a time


def check_files(source: Path, out: Path, column: str | None, encoding: str | None = None) -> int:
    """Rows of `source`, after a look at every text; so that nothing is loaded for a file that
    cannot be encoded.

    What its reader assumed or left out goes to stderr, a line each.

    Raises:
        UsageError: a file that is missing or damaged, a row without the column or whose text is no
            string; an `out` of another kind, or in a folder that is not there.
    """
    lookup(_WRITERS, out.suffix[1:], "format of --out, its suffix")
    require(
        out.parent.is_dir(),
        "--out lies in a folder that exists",
        out,
        f"Create {out.parent} first.",
    )
    # A link to nothing is told by what opens it.
    there = source.is_file() or source.is_symlink()
    require(there, "FILE holds texts", f"{source}, which is no file", "Check the path.")
    rule = "a .txt file has a text in each line"
    require(
        column is None or not _has_lines(source), rule, f"--column {column}", "Leave out --column."
    )
    opened = _open(source, column, encoding)
    rows = sum(1 for _ in _texts(opened, column))
    for line in opened.remarks.values():
        print(line, file=sys.stderr)
    return rows


def read_texts(source: Path, column: str | None, encoding: str | None = None) -> Iterator[str]:
    """Texts of a .txt file, line by line (an empty line is an empty text), or of a column ("text")
    of any other format of `glot_jax.texts.formats`, compressed or not."""
    return _texts(_open(source, column, encoding), column)


def _has_lines(source: Path) -> bool:
    return name_parts(source.name)[1] == "txt"


def _open(source: Path, column: str | None, encoding: str | None) -> Source:
    if _has_lines(source):
        return open_text(source, encoding)
    return open_file(source, Reading(encoding=encoding, columns=(column or "text",)))


def _texts(opened: Source, column: str | None) -> Iterator[str]:
    wanted = column or "text"
    for record in opened.read([wanted]):
        fix = f"{did_you_mean([wanted], record.columns)}Give one of these, not {wanted}."
        got = f"{record.columns_location}: {listed(record.columns)}"
        require(wanted in record.columns, "--column is a column of FILE", got, fix)
        text = record.values[wanted]
        require_text(text, wanted, record.location)
        yield text


def encode_file(
    encoder: SentenceEncoder,
    source: Path,
    out: Path,
    rows: int,
    *,
    column: str | None = None,
    encoding: str | None = None,
    batch_size: int = 32,
    normalize: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> None:
    """Write the vectors of `source`, of which `check_files` counted `rows`, to OUT.npy (float32
    [rows, dim]) or OUT.parquet (columns row: int64, vector: fixed-size list of float32). OUT is
    absent or whole.

    Raises:
        UsageError: as check_files; texts that changed since; an OUT that cannot be written.
    """
    texts = read_texts(source, column, encoding)
    open_writer = _WRITERS[out.suffix[1:]]
    with whole_file(out) as temporary, open_writer(temporary, rows, encoder.dim) as writer:
        done = 0
        while window := list(islice(texts, _WINDOW)):
            require(
                done + len(window) <= rows,
                "FILE stays as it is while it is read",
                f"more than {rows:,} rows",
                "Run it again.",
            )
            writer.write(encoder.encode(window, batch_size=batch_size, normalize=normalize), done)
            done += len(window)
            progress(done)
        require(
            done == rows,
            "FILE stays as it is while it is read",
            f"{done:,} rows, not {rows:,}",
            "Run it again.",
        )


class _Npy:
    def __init__(self, path: Path, rows: int, dim: int):
        # Through a file, not a memory map: its pages would count as memory of this process.
        self._file = path.open("wb")
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
        )

    def write(self, vectors: np.ndarray, row: int) -> None:
        self._file.write(np.ascontiguousarray(vectors, "<f4").tobytes())

    def __enter__(self) -> _Npy:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path, rows: int, dim: int):
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise missing_extra("extract", "a .parquet file", "pyarrow", error) from error
        self._pa: Any = pa
        self._schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])
        self._dim = dim
        self._writer = pq.ParquetWriter(path, self._schema)

    def write(self, vectors: np.ndarray, row: int) -> None:
        numbers = self._pa.array(np.arange(row, row + len(vectors), dtype=np.int64))
        flat = self._pa.FixedSizeListArray.from_arrays(
            self._pa.array(vectors.reshape(-1), self._pa.float32()), self._dim
        )
        self._writer.write_table(self._pa.table([numbers, flat], schema=self._schema))

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


_WRITERS: dict[str, Any] = {"npy": _Npy, "parquet": _Parquet}
