"""What every format gives: a stream of records that know where they stand.

The checks that all formats share stand here too: columns that must be there, and texts that a store
can hold.
"""

from __future__ import annotations

import difflib
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, NamedTuple

from glot_jax.errors import UsageError, missing_extra
from glot_jax.file_formats.quoting import encodes, listed, plain, shown

Columns = Sequence[str]
"""Names of columns, in the order of the file or of the task."""

BATCH_ROWS = 256
"""Rows of a Parquet file or a Hub data set that are held at once."""

_SIMILAR = 0.7
"""How alike two names must be, from 0 to 1, for one to be proposed for the other."""
_COMPARED_NAMES = 1000
_COMPARED_CHARACTERS = 100


# A tuple and no dataclass: one is made for every row of every pass.
class Record(NamedTuple):
    """One row as it is written."""

    location: str
    """`file:line`, for messages."""
    values: Mapping[str, Any]
    """Column -> value, for at least the columns that were asked for and exist."""
    columns: Columns
    """Names of the columns there are, also of those that were not read."""
    header: str = ""
    """`file:line` of these names, where they stand in a line of their own."""

    @property
    def columns_location(self) -> str:
        """Where a missing column would stand: in the header, else in the row itself."""
        return self.header or self.location


Records = Iterator[Record]
"""The rows of a file, one at a time."""


@dataclass(frozen=True)
class Source:
    """A split that can be read any number of times."""

    name: str
    """The file or the data set, for messages."""
    typed: bool
    """Whether a label has a type, as in JSON, or only a spelling, as in a .csv file."""
    read: Callable[[Columns], Records]
    """Columns -> records, with the values of those columns that exist."""
    remarks: dict[str, str] = field(default_factory=dict, compare=False)
    """Subject -> a line for the user: what was assumed or left out.

    Every pass over the source writes the same lines anew.
    """


Sources = Mapping[str, Source]
"""Split -> its rows, in the task's order of the splits."""


@dataclass
class Seen:
    """How often something occurred, and `file:line` of the first time."""

    count: int = 0
    location: str = ""

    def add(self, location: str) -> None:
        """Count one more occurrence."""
        # Only the first: a message that listed a million rows would not help.
        self.location = self.location or location
        self.count += 1


def chained(sources: Sequence[Source], name: str) -> Source:
    """The records of several sources, one after the other, and the remarks of all.

    Reading raises UsageError where the headers of two sources differ in a column that is read.
    """
    # Nearly every split is one file: its messages then have no prefix.
    if len(sources) == 1:
        return sources[0]
    remarks: dict[str, str] = {}

    def collect_remarks(source: Source) -> None:
        for subject, line in source.remarks.items():
            remarks[f"{source.name} {subject}"] = line

    def read(columns: Columns) -> Records:
        # A generator: the first file is not opened before its first row is wanted.
        first: Record | None = None
        for source in sources:
            for number, record in enumerate(source.read(columns)):
                # A header holds for all rows of its file, so one look at each file is enough.
                if number == 0 and record.header:
                    first = first or record
                    _require_same_columns(first, record, columns)
                yield record
            collect_remarks(source)

    # Opening a file has remarks too, and they are asked for before anything is read.
    for source in sources:
        collect_remarks(source)
    return Source(
        name=name,
        typed=sources[0].typed,
        read=read,
        remarks=remarks,
    )


def _require_same_columns(first: Record, record: Record, columns: Columns) -> None:
    """Raise UsageError for a part of a split whose columns are not those of the first part."""
    # Columns that nobody reads may come and go.
    read = set(columns)
    first_columns = read.intersection(first.columns)
    own_columns = read.intersection(record.columns)
    different = sorted(first_columns ^ own_columns)
    if different:
        raise UsageError(
            rule="the parts of a split must have the same columns",
            got=f"{record.columns_location}: {listed(record.columns)}; "
            f"{first.columns_location}: {listed(first.columns)}",
            fix=f"Give both the column {', '.join(map(shown, different))}.",
        )


def require_columns(
    needed: Iterable[str],
    columns: Columns,
    location: str,
    fix: str = "",
) -> None:
    """Check that the columns that a reader needs are among those of a file.

    Args:
        needed: names of the columns that are read.
        columns: names that the file has.
        location: `file:line` of these names.
        fix: a sentence that goes before the list of the file's columns.

    Raises:
        UsageError: it names the missing columns, those that may be meant, and those there are.
    """
    missing = [column for column in needed if column not in columns]
    if missing:
        question = did_you_mean(missing, columns)
        raise UsageError(
            rule=f"column {', '.join(map(repr, missing))} must be in the data",
            got=f"{location} without it",
            fix=f"{question}{fix}Columns there: {listed(columns) or 'none'}.",
        )


def did_you_mean(missing: Iterable[str], columns: Columns) -> str:
    """A question that ends in a blank, or nothing where no column resembles a missing one.

    >>> did_you_mean(["text"], ["Text", "label"]), did_you_mean(["text"], ["sentence"])
    ("Did you mean 'Text'? ", '')
    """
    # A table that is cut wrongly may have a column for every word of its first row.
    candidates = columns[:_COMPARED_NAMES]
    # One for each: two missing columns are often two spellings of one mistake.
    nearest: list[str] = []
    for name in missing:
        nearest += _nearest(name, candidates)
    if not nearest:
        return ""
    return f"Did you mean {' and '.join(map(shown, nearest))}? "


def _nearest(name: str, columns: Columns) -> list[str]:
    """The one column that is most like the name in letters, or none."""
    folded: dict[str, str] = {}
    for column in columns:
        # The comparison takes the square of the length, and a header may be a megabyte of garbage.
        if len(column) < _COMPARED_CHARACTERS:
            folded[column.strip().casefold()] = column
    folded_name = name.strip().casefold()
    similar = difflib.get_close_matches(folded_name, folded, 1, _SIMILAR)
    return [folded[match] for match in similar]


def require_text(text: object, column: str, location: str) -> str:
    """The value, if it is a text that can be stored; an empty one can.

    Raises:
        UsageError: a value that is not a string, or half of a surrogate pair in it.
    """
    if not isinstance(text, str):
        raise UsageError(
            rule="a text must be a string",
            got=f"{location}: {plain(column)} = {shown(text)}",
            fix='Correct or drop the row; an empty text is "".',
        )
    if not encodes(text):
        raise UsageError(
            rule="a text must be encodable as UTF-8",
            got=f"{location}: {plain(column)} holds half of a surrogate pair",
            fix="Correct the row.",
        )
    return text


def require_unique(names: Columns, location: str) -> None:
    """Raise UsageError with the names that occur more than once."""
    # A dict of values would keep the last column of a name and lose the others.
    counts = Counter(names)
    repeated = sorted(name for name in counts if counts[name] > 1)
    if repeated:
        raise UsageError(
            rule="column names must be unique",
            got=f"{location}: {listed(repeated, spell=shown)} more than once",
            fix="Rename the columns.",
        )


def extract_extra(module: str) -> ModuleType:
    """Import a module of the extra `extract`, when it is needed and not before.

    Raises:
        UsageError: the package is not installed.
    """
    # The readers of .csv and .jsonl must work where none of its packages is installed.
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise missing_extra("extract", "this", package, error) from error
