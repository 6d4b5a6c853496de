"""What every format gives: a stream of records that know where they stand, and the checks that all
of them share.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from glot_jax.errors import UsageError, require
from glot_jax.texts.quoting import encodes, listed, plain, shown

BATCH_ROWS = 256
"""Rows of a Parquet file or a Hub data set that are held at once."""


class Record(NamedTuple):
    """One row as it is written."""

    place: str
    """`file:line`, for messages."""
    values: Mapping[str, Any]
    columns: Sequence[str]
    """Names of the columns there are, also of those that were not read."""
    header: str = ""
    """`file:line` of these names, where they stand in a line of their own."""

    @property
    def columns_location(self) -> str:
        """Where a missing column would stand: in the header, else in the row itself."""
        return self.header or self.place


@dataclass(frozen=True)
class Source:
    """A split that can be read any number of times.

    `name` is the file or data set, for messages; `typed` tells whether a label has a type or only a
    spelling; `read(wanted)` yields the records, with those of the `wanted` columns that there are.
    """

    name: str
    typed: bool
    read: Callable[[Sequence[str]], Iterator[Record]]
    remarks: dict[str, str] = field(default_factory=dict, compare=False)
    """Subject -> a line for the user: what was assumed or left out. Every pass writes the same ones
    anew.
    """


@dataclass
class Seen:
    """How often something occurred, and `file:line` of the first time."""

    count: int = 0
    place: str = ""

    def add(self, place: str) -> None:
        self.place = self.place or place
        self.count += 1


def chained(sources: Sequence[Source], name: str) -> Source:
    """The records of several sources, one after the other, and the remarks of all."""
    if len(sources) == 1:
        return sources[0]
    remarks: dict[str, str] = {}

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        first: Record | None = None
        for source in sources:
            for number, record in enumerate(source.read(wanted)):
                # A header holds for all rows of its file, so one look at each file is enough.
                if number == 0 and record.header:
                    first = first or record
                    _require_same_columns(first, record, wanted)
                yield record
            remarks.update(
                {f"{source.name} {subject}": line for subject, line in source.remarks.items()}
            )

    for source in sources:
        remarks.update(
            {f"{source.name} {subject}": line for subject, line in source.remarks.items()}
        )
    return Source(name, sources[0].typed, read, remarks)


def _require_same_columns(first: Record, record: Record, wanted: Sequence[str]) -> None:
    """UsageError for a part of a split that lacks a column which the first one has, or has more."""
    columns = {name for name in wanted if name in first.columns}
    own_columns = {name for name in wanted if name in record.columns}
    different = sorted(columns ^ own_columns)
    if different:
        raise UsageError(
            rule="the parts of a split must have the same columns",
            got=f"{record.columns_location}: {listed(record.columns)}; "
            f"{first.columns_location}: {listed(first.columns)}",
            fix=f"Give both the column {', '.join(map(shown, different))}.",
        )


def require_columns(wanted: Iterable[str], there: Sequence[str], place: str, fix: str = "") -> None:
    """UsageError that names the missing columns, those that may be meant, what else may help, and
    those there are.
    """
    missing = [column for column in wanted if column not in there]
    if missing:
        found = listed(there) or "none"
        fix = f"{did_you_mean(missing, there)}{fix}Columns there: {found}."
        raise UsageError(f"column {', '.join(map(repr, missing))} is missing", place, fix)


def did_you_mean(missing: Iterable[str], there: Sequence[str]) -> str:
    """A question that ends in a blank, or nothing where no column resembles a missing one.

    >>> did_you_mean(["text"], ["Text", "label"]), did_you_mean(["text"], ["sentence"])
    ("Did you mean 'Text'? ", '')
    """
    nearest = [near for name in missing for near in _nearest(name, there[:1000])]
    return f"Did you mean {' and '.join(shown(name) for name in nearest)}? " if nearest else ""


def _nearest(name: str, there: Sequence[str]) -> list[str]:
    folded = {column.strip().casefold(): column for column in there if len(column) < 100}
    near = difflib.get_close_matches(name.strip().casefold(), folded, 1, 0.7)
    return [folded[found] for found in near]


def require_text(text: Any, column: str, place: str) -> None:
    """UsageError for what is no string, or none that can be stored. An empty text is one."""
    if not isinstance(text, str):
        got = f"{place}: {plain(column)} = {shown(text)}"
        raise UsageError("a text is a string", got, 'Correct or drop the row; an empty text is "".')
    if not encodes(text):
        got = f"{place}: {plain(column)} holds half of a surrogate pair"
        raise UsageError("a text can be written as UTF-8", got, "Correct the row.")


def require_unique(names: Sequence[str], place: str) -> None:
    """UsageError with the names that stand more than once."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    got = f"{place}: {listed(twice, spell=shown)} more than once"
    require(not twice, "column names are unique", got, "Rename the columns.")


def extract_extra(module: str) -> Any:
    """A module of the extra `extract`, imported when it is needed."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        rule = f"this needs the package {module.partition('.')[0]}"
        raise UsageError(rule, str(error), "Run: pip install 'glot-jax[extract]'.") from error
