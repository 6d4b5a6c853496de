"""Files of rows whose texts are answered: their texts, and every column that they have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, TypeVar

from glot_jax.errors import UsageError
from glot_jax.file_formats.formats import Reading, name_parts, open_file, open_text
from glot_jax.file_formats.glue_files import LAYOUTS, NO_LAYOUT, GlueLayout, renamed
from glot_jax.file_formats.quoting import encodes, listed, plain
from glot_jax.file_formats.records import (
    Record,
    Source,
    did_you_mean,
    extract_extra,
    require_text,
)
from glot_jax.file_formats.text_form import check_encoding

Result = TypeVar("Result", covariant=True)

Row = tuple[tuple[str, ...], Mapping[str, Any]]
"""The texts of a row, and all its columns."""

Window = list[Row]
"""Rows that are answered at a time."""


class Spread(Protocol[Result]):
    """What answers for windows of rows, here or in other processes."""

    def __call__(
        self,
        windows: Iterator[Window],
        texts: Callable[[Window], Sequence[Any]],
        /,
    ) -> Iterator[tuple[Window, Result]]:
        """Each window with what is answered for its texts, in their order."""
        ...


def cut_windows(rows: Iterator[Row], size: int) -> Iterator[Window]:
    """Yield rows, `size` at a time."""
    # The last one may be shorter; there is none without a row.
    while window := list(islice(rows, size)):
        yield window


@dataclasses.dataclass(frozen=True)
class RowFile:
    """A file of any format that extract.py reads, with one text or more a row.

    A .txt file whose first line names no columns has a text in each line.
    """

    path: Path
    text_columns: tuple[str, ...]
    """Columns of the texts, in the order of the task's roles."""
    encoding: str | None = None
    """Of text files without a byte-order mark; None: UTF-8."""
    layout: GlueLayout = NO_LAYOUT
    """What GLUE's own files call the columns."""
    flag: str = "--text-columns"
    """What names the columns, for messages."""
    lines: bool = False
    """Whether a .txt file has a text in each line whatever its first line says."""

    @classmethod
    def of_task(
        cls,
        path: Path,
        task: str,
        text_columns: tuple[str, ...],
        encoding: str | None = None,
    ) -> RowFile:
        """A file of a task's rows, which may be one as GLUE distributes it."""
        return cls(path, text_columns, encoding, LAYOUTS.get(task, NO_LAYOUT))

    def open(self) -> Source:
        """Look at the file's form; its rows can then be read any number of times.

        Raises:
            UsageError: no file, an unknown format or encoding, or a broken header.
        """
        check_encoding(self.encoding)
        # A link to nothing is told by what opens it.
        if not (self.path.is_file() or self.path.is_symlink()):
            raise UsageError(
                rule="FILE must hold texts",
                got=f"{self.path}, which is not a file",
                fix="Check the path.",
            )
        if self.lines and name_parts(self.path.name)[1] == "txt":
            return open_text(self.path, self.encoding, self.text_columns[0])
        reading = Reading(
            encoding=self.encoding,
            columns=self.text_columns,
            layout=self.layout,
            lines=len(self.text_columns) == 1,
        )
        # The label, if there is one, is a column like others: nothing is read into it.
        return renamed(open_file(self.path, reading), self.layout, None)

    def survey(self, source: Source, *, types: bool, kept: bool = True) -> Survey:
        """Look at every text, and find out which columns there are.

        Args:
            source: what `open` gave.
            types: also find out what kinds of values the columns have.
            kept: whether all columns will be written again.

        Raises:
            UsageError: a row without one of the columns, or whose text is not a string; half of a
                character in a column that is kept; no rows.
        """
        seen = Survey()
        known: tuple[str, ...] = ()
        for record in source.read(self.text_columns):
            # A table's rows all have one list of columns, a JSON file's most of the time.
            if record.columns is not known:
                known = tuple(record.columns)
                seen.columns.update(dict.fromkeys(known))
            self.texts(record)
            # Told while they are written, it would have cost hours of answers.
            if kept:
                _require_writable(record)
            seen.rows += 1
        if not seen.rows:
            raise UsageError(
                rule="FILE must have rows",
                got=f"{self.path}, which has none",
                fix="Check the file.",
            )
        if types and name_parts(self.path.name)[1] == "parquet":
            schema = extract_extra("pyarrow.parquet").read_schema(self.path)
            seen.arrow_types = dict(zip(schema.names, schema.types, strict=True))
        elif types:
            # Values of columns that nobody asked for may not have been read above.
            for record in source.read(tuple(seen.columns)):
                for name, value in record.values.items():
                    seen.kinds.setdefault(name, set()).add(kind_of(value))
        return seen

    def require_free(self, added: Sequence[str], survey: Survey) -> None:
        """Require that no column of the file would be overwritten.

        Raises:
            UsageError: a column of one of the names that are added.
        """
        taken = [name for name in added if name in survey.columns]
        if taken:
            raise UsageError(
                rule=f"FILE must not have the columns that are added to it: {listed(added)}",
                got=f"{self.path} with {listed(taken)}",
                fix="Rename them, or leave them out.",
            )

    def texts(self, record: Record) -> tuple[str, ...]:
        """The texts of a row.

        Raises:
            UsageError: with `file:line`, for a column that is not there, or no string in it.
        """
        missing = [column for column in self.text_columns if column not in record.columns]
        if missing:
            raise UsageError(
                rule=f"{self.flag} must name what is in FILE",
                got=f"{record.columns_location}: {listed(record.columns)}",
                fix=f"{did_you_mean(missing, record.columns)}There is no {listed(missing)}: give"
                f" {self.flag}.",
            )
        return tuple(
            require_text(record.values[column], column, record.location)
            for column in self.text_columns
        )

    def rows(
        self, source: Source, survey: Survey
    ) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
        """Yield the texts and all values of every row.

        Raises:
            UsageError: as in `survey`; the file may have changed since.
        """
        for record in source.read(tuple(survey.columns)):
            yield self.texts(record), record.values


@dataclasses.dataclass
class Survey:
    """What one pass over a file found."""

    rows: int = 0
    columns: dict[str, None] = dataclasses.field(default_factory=dict)
    """Names in the order in which they first came."""
    kinds: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    """Column -> kinds of its values, as `kind_of` names them; empty unless they were asked for."""
    arrow_types: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Column of a .parquet file -> its type there; empty unless kinds were asked for."""


def _require_writable(record: Record) -> None:
    """Raise UsageError for the first column that no file can hold, or its name."""
    for name, value in record.values.items():
        if not (encodes(name) and _holds_text(value)):
            raise UsageError(
                rule="every column must be encodable as UTF-8: it is written beside the answers",
                got=f"{record.location}: {plain(name)} holds half of a surrogate pair",
                fix="Correct the row.",
            )


def _holds_text(value: object) -> bool:
    """Whether all strings in a value, and in its parts, can be written."""
    if isinstance(value, str):
        return encodes(value)
    if isinstance(value, Mapping):
        return all(encodes(str(name)) and _holds_text(part) for name, part in value.items())
    if isinstance(value, list | tuple):
        return all(map(_holds_text, value))
    return True


def kind_of(value: object) -> str:
    """null, bool, int (of 64 bits), float, str, or other for what has parts or another type."""
    if value is None:
        return "null"
    # Before int, of which it is one in Python.
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "other"
    if isinstance(value, float):
        return "float"
    return "str" if isinstance(value, str) else "other"
