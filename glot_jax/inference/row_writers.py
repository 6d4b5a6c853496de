"""Rows of a file written out again with further columns: .csv, .jsonl and .parquet."""

from __future__ import annotations

import base64
import csv
import json
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from glot_jax.errors import UsageError, lookup, missing_extra
from glot_jax.inference.row_files import RowFile, Survey

Added = Mapping[str, np.ndarray | Sequence[str | list[str]]]
"""Column -> its value in each row: strings, lists of them, numbers [rows], vectors [rows, dim]."""


class RowWriter(Protocol):
    """Writes rows in their order, with the columns that are added to them."""

    def write(self, rows: Sequence[Mapping[str, Any]], added: Added, /) -> None:
        """Append some rows: their own values, and those that are added."""

    def close(self) -> None:
        """End the file."""


class CsvWriter:
    """A header and a row a line, UTF-8; what has parts is written as JSON."""

    def __init__(self, path: Path, survey: Survey, added: Sequence[str]):
        self._names = tuple(survey.columns)
        self._file = path.open("w", encoding="utf-8", newline="")
        # By CRLF, so that a cell with a lone CR is quoted too: unquoted it would end the row.
        self._writer = csv.writer(_LineFeeds(self._file), lineterminator="\r\n")
        self._writer.writerow([*self._names, *added])

    def write(self, rows: Sequence[Mapping[str, Any]], added: Added, /) -> None:
        """See RowWriter."""
        columns = [_plain_column(values) for values in added.values()]
        for number, row in enumerate(rows):
            own = [_csv_value(row.get(name)) for name in self._names]
            self._writer.writerow([*own, *(_csv_value(column[number]) for column in columns)])

    def close(self) -> None:
        """See RowWriter."""
        self._file.close()


class _LineFeeds:
    """Where a csv writer puts rows that end in CRLF, and that are to end in LF."""

    def __init__(self, file: TextIO):
        self._file = file

    def write(self, row: str, /) -> int:
        """Write one whole row, as a csv writer hands it over."""
        fields = row.removesuffix("\r\n")
        return self._file.write(f"{fields}\n")


class JsonlWriter:
    """A JSON object a line, of the row's own columns and those that are added."""

    def __init__(self, path: Path, _survey: Survey, _added: Sequence[str]):
        self._file: TextIO = path.open("w", encoding="utf-8", newline="\n")

    @classmethod
    def on(cls, stream: TextIO) -> JsonlWriter:
        """A writer on a stream that somebody else closes."""
        writer = cls.__new__(cls)
        writer._file = stream
        return writer

    def write(self, rows: Sequence[Mapping[str, Any]], added: Added, /) -> None:
        """See RowWriter."""
        columns = {}
        for name, values in added.items():
            columns[name] = _plain_column(values)
        for number, row in enumerate(rows):
            line = {}
            for name, value in row.items():
                line[name] = _json_value(value)
            # Behind the row's own: a column of the same name was refused by the survey.
            for name, column in columns.items():
                line[name] = column[number]
            text = json.dumps(
                line,
                ensure_ascii=False,
                # JSON has no NaN, and readers refuse it.
                allow_nan=False,
            )
            self._file.write(f"{text}\n")

    def close(self) -> None:
        """See RowWriter."""
        self._file.close()


class ParquetWriter:
    """The types of the rows' own columns, strings, float64 or lists of float32 for those added.

    A column of mixed types, or of values that have parts, is written as strings of JSON.
    """

    def __init__(self, path: Path, survey: Survey, added: Sequence[str]):
        # Here and not at the top: the other formats need no pyarrow.
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError as error:
            raise missing_extra("extract", "a .parquet file", "pyarrow", error) from error
        self._pa: Any = pa
        self._pq: Any = pq
        self._path = path
        self._types: dict[str, tuple[Any, bool]] = {}
        for name in survey.columns:
            # A .parquet file keeps the types that it has.
            if name in survey.arrow_types:
                self._types[name] = (survey.arrow_types[name], False)
            else:
                self._types[name] = _arrow_type(pa, survey.kinds.get(name, set()))
        self._added = tuple(added)
        self._writer: Any = None

    def write(self, rows: Sequence[Mapping[str, Any]], added: Added, /) -> None:
        """See RowWriter."""
        pa = self._pa
        columns = {}
        for name, (kind, is_json) in self._types.items():
            values = [row.get(name) for row in rows]
            if is_json:
                values = [None if value is None else _as_json(value) for value in values]
            columns[name] = pa.array(values, kind)
        for name in self._added:
            columns[name] = _arrow_column(pa, added[name])
        table = pa.table(columns)
        if self._writer is None:
            self._writer = self._pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        """See RowWriter."""
        # None: it ended in an error before the first row, and nothing is kept of it.
        if self._writer is not None:
            self._writer.close()


ROW_WRITERS: dict[str, type[CsvWriter] | type[JsonlWriter] | type[ParquetWriter]] = {
    "csv": CsvWriter,
    "jsonl": JsonlWriter,
    "parquet": ParquetWriter,
}
"""Suffix of the file -> its writer."""


def survey_rows(
    file: RowFile,
    out: Path,
    formats: Collection[str],
    added: Callable[[Survey], Sequence[str]],
) -> Survey:
    """Look at every text of a file before anything is loaded for it.

    What its reader assumed or left out goes to stderr, a line each.

    Args:
        file: the rows.
        out: file that will be written.
        formats: suffixes that it may have.
        added: the columns that the rows are given.

    Raises:
        UsageError: a file that is missing or damaged, a row without a text; an `out` of another
            format or in a folder that does not exist; a column that would be overwritten.
    """
    # OUT first: reading a large file takes longer than looking at a suffix.
    require_out(out, dict.fromkeys(formats))
    source = file.open()
    # A .npy file has the vectors alone.
    kept = out.suffix != ".npy"
    survey = file.survey(source, types=out.suffix == ".parquet", kept=kept)
    file.require_free(added(survey), survey)
    for line in source.remarks.values():
        print(line, file=sys.stderr)
    return survey


def require_out(out: Path, writers: Mapping[str, object], flag: str = "--out") -> None:
    """Require that OUT can be written: a known format, in a folder that exists.

    Args:
        out: the file.
        writers: suffix -> what writes it.
        flag: what named it, for messages.

    Raises:
        UsageError: another suffix, or no such folder.
    """
    lookup(writers, out.suffix[1:], f"format of {flag}, its suffix")
    if not out.parent.is_dir():
        raise UsageError(
            rule=f"{flag} must lie in a folder that exists",
            got=out,
            fix=f"Create {out.parent} first.",
        )


def _plain_column(values: np.ndarray | Sequence[str | list[str]]) -> list[Any]:
    """Values of Python's own types: NumPy's are no JSON."""
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _csv_value(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return repr(value)
    return _as_json(value)


def _as_json(value: object) -> str:
    return json.dumps(_json_value(value), ensure_ascii=False, allow_nan=False)


def _json_value(value: Any) -> Any:  # noqa: ANN401 - a JSON value, or whatever Parquet holds
    """The value in JSON's own types: no NaN, bytes as base64, times as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _json_value(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_json_value(inner) for inner in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value)


def _arrow_type(pa: Any, kinds: set[str]) -> tuple[Any, bool]:  # noqa: ANN401 - a module
    """The type of a column, and whether its values are written as JSON."""
    present = kinds - {"null"}
    if not present or present == {"str"}:
        return pa.string(), False
    if present == {"bool"}:
        return pa.bool_(), False
    if present == {"int"}:
        return pa.int64(), False
    if present <= {"int", "float"}:
        return pa.float64(), False
    return pa.string(), True


def _arrow_column(pa: Any, values: np.ndarray | Sequence[str | list[str]]) -> Any:  # noqa: ANN401
    if isinstance(values, np.ndarray) and values.ndim == 2:
        # Flat and then cut: pyarrow takes arrays of one axis only.
        flat = pa.array(values.reshape(-1), pa.float32())
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    if isinstance(values, np.ndarray):
        return pa.array(values)
    strings = pa.string()
    # A window has rows, and the values of a column are all lists or none is.
    if isinstance(values[0], list):
        strings = pa.list_(strings)
    return pa.array(list(values), strings)
