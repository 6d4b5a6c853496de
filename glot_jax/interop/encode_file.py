"""`glot encode`: the texts of a file to a file of vectors, in their order, a window at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glot_jax.config import UsageError, lookup, require
from glot_jax.texts.formats import FORMATS

if TYPE_CHECKING:
    from glot_jax.interop.encoder import SentenceEncoder

_WINDOW = 8192  # texts encoded, and vectors held, at a time


def check_files(source: Path, out: Path, column: str | None) -> int:
    """Rows of `source`, after a look at every text; so that nothing is loaded for a file that cannot be encoded.

    Raises:
        UsageError: a file that is missing or damaged, a row without the column or whose text is no string; an `out` of
            another kind, or in a folder that is not there.
    """
    lookup(_WRITERS, out.suffix[1:], "format of --out, its suffix")
    require(out.parent.is_dir(), "--out lies in a folder that exists", out, f"Create {out.parent} first.")
    require(source.is_file(), "FILE holds texts", f"{source}, which is no file", "Check the path.")
    require(column is None or source.suffix != ".txt", "a .txt file has a text in each line", f"--column {column}", "Leave out --column.")
    return sum(1 for _ in read_texts(source, column))


def read_texts(source: Path, column: str | None) -> Iterator[str]:
    """Texts of a .txt file, line by line (an empty line is an empty text), or of a column of .jsonl, .csv, .tsv, .parquet."""
    if source.suffix == ".txt":
        with source.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise UsageError("text files are UTF-8", f"{source}:{number}: {error.reason}", "Convert the file to UTF-8.") from error
        return
    read = lookup(FORMATS, source.suffix[1:], "format of FILE, its suffix (.txt, or of those with columns)")
    wanted = column or "text"
    for record in read(source, [wanted]):
        require(wanted in record.columns, "--column is a column of FILE", f"{record.place}: {', '.join(record.columns)}", f"Give one of these, not {wanted}.")
        text = record.values[wanted]
        require(isinstance(text, str), "a text is a string", f"{record.place}: {type(text).__name__}", "Correct the row, or write an empty string.")
        yield text


def encode_file(
    encoder: SentenceEncoder, source: Path, out: Path, rows: int, *, column: str | None = None, batch_size: int = 32, normalize: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> None:
    """Write the vectors of `source`, of which `check_files` counted `rows`, to OUT.npy (float32 [rows, dim]) or OUT.parquet
    (columns row: int64, vector: fixed-size list of float32). OUT is absent or whole.

    Raises:
        UsageError: as check_files; texts that changed since; an OUT that cannot be written.
    """
    texts = read_texts(source, column)
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        with _WRITERS[out.suffix[1:]](temporary, rows, encoder.dim) as writer:
            done = 0
            while window := list(islice(texts, _WINDOW)):
                require(done + len(window) <= rows, "FILE stays as it is while it is read", f"more than {rows:,} rows", "Run it again.")
                writer.write(encoder.encode(window, batch_size=batch_size, normalize=normalize), done)
                done += len(window)
                progress(done)
            require(done == rows, "FILE stays as it is while it is read", f"{done:,} rows, not {rows:,}", "Run it again.")
        temporary.replace(out)
    except OSError as error:
        raise UsageError("--out can be written to", out, str(error)) from error
    finally:
        temporary.unlink(missing_ok=True)


class _Npy:
    def __init__(self, path: Path, rows: int, dim: int):
        # Through a file, not a memory map: its pages would count as memory of this process.
        self._file = path.open("wb")
        np.lib.format.write_array_header_1_0(self._file, {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)})

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
            raise UsageError("a .parquet file needs pyarrow", str(error), "Run: pip install 'glot-jax[extract]', or write .npy.") from error
        self._pa: Any = pa
        self._schema = pa.schema([("row", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])
        self._dim = dim
        self._writer = pq.ParquetWriter(path, self._schema)

    def write(self, vectors: np.ndarray, row: int) -> None:
        numbers = self._pa.array(np.arange(row, row + len(vectors), dtype=np.int64))
        flat = self._pa.FixedSizeListArray.from_arrays(self._pa.array(vectors.reshape(-1), self._pa.float32()), self._dim)
        self._writer.write_table(self._pa.table([numbers, flat], schema=self._schema))

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


_WRITERS: dict[str, Any] = {"npy": _Npy, "parquet": _Parquet}
