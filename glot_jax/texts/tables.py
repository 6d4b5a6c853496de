"""Tables as text, .csv, .tsv, .tab and .txt: a header, then a row a line or in quotes over several.

What is mended, each with a line for the user that has its count and first place: separators other
than the suffix's, quoted fields in a .tsv, unnamed columns that are empty in every row, empty
fields after a row's last column, labels with a decimal comma where semicolons separate. In the
files as GLUE distributes them also rows that are too short, which are left out, and further fields,
which are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glot_jax.errors import UsageError
from glot_jax.texts.dialects import (
    DELIMITERS,
    Dialect,
    Row,
    count_quotes,
    find_delimiter,
    read_rows,
)
from glot_jax.texts.glue_files import GlueLayout
from glot_jax.texts.quoting import listed, shown
from glot_jax.texts.records import Record, Seen, Source, require_unique
from glot_jax.texts.text_lines import TextForm

_OWN_DELIMITER = {"csv": ","}
"""Suffix -> separator; all others have tabs."""

_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]+,[0-9]+\s*")


@dataclass(frozen=True)
class _Plan:
    """A table that has been looked through."""

    dialect: Dialect
    header: Sequence[str]
    location: str
    """`file:line` of the header; empty where the file has none."""
    keep: Sequence[int] | None
    """Fields that are read; None: all of them."""
    headerless: bool
    glue: bool


def open_table(
    path: Path,
    suffix: str,
    form: TextForm,
    wanted: Sequence[str],
    layout: GlueLayout,
    label: str | None = None,
) -> Source:
    """A source of the table's rows. `wanted` are the columns by which its header is recognised, as
    `layout` names them.

    `label` is the column that may hold numbers with a decimal comma. UsageError with `file:line`.
    """
    remarks: dict[str, str] = {}
    plan = _look_through(path, suffix, form, wanted, layout, remarks)

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        records = _records(path, form, plan, remarks)
        if label is None or plan.dialect.delimiter != ";" or label not in plan.header:
            return records
        return _with_points(path, records, label, remarks)

    return Source(str(path), False, read, remarks)


def _look_through(
    path: Path,
    suffix: str,
    form: TextForm,
    wanted: Sequence[str],
    layout: GlueLayout,
    remarks: dict[str, str],
) -> _Plan:
    default = _OWN_DELIMITER.get(suffix, "\t")
    delimiter, skip = find_delimiter(
        path, form, default, lambda header: layout.fits(header, wanted)
    )
    if delimiter != default:
        name = DELIMITERS.get(delimiter, repr(delimiter))
        remarks["delimiter"] = (
            f"{path}: its columns are separated by {name}, as the whole file shows"
        )
    dialect = Dialect(delimiter, skip=skip)
    plain = Dialect(delimiter, quoted=False, skip=skip)
    _, first = next(read_rows(path, form, plain), ("", []))
    glue = layout.is_own(first)
    if delimiter == "\t" and suffix != "csv":
        dialect = _quoting(path, form, dialect, plain, glue, remarks)
    place, header = next(read_rows(path, form, dialect), (str(path), []))
    headerless = layout.is_headerless(header)
    if headerless:
        remarks["header"] = (
            f"{path}: has no header; its columns are {', '.join(layout.headerless)}, as GLUE's"
        )
        return _Plan(dialect, layout.headerless, "", None, True, glue)
    keep = _named(path, form, dialect, header, place, remarks)
    names = header if keep is None else [header[index] for index in keep]
    require_unique(names, place)
    return _Plan(dialect, names, place, keep, False, glue)


def _quoting(
    path: Path, form: TextForm, quoted: Dialect, plain: Dialect, glue: bool, remarks: dict[str, str]
) -> Dialect:
    """The dialect of a file of tabs, and what to say about it."""
    found = count_quotes(path, form, quoted)
    if found.is_quoted(form) and not glue:
        seen = found.quoted
        where = (
            f"{seen.count} of {found.rows} rows, first {seen.place}"
            if seen.count
            else "the header alone"
        )
        remarks["quotes"] = (
            f"{path}: fields in quotation marks are read as pandas and Excel write them: {where}"
        )
        return quoted
    if found.needed.count:
        why = (
            "the file is GLUE's own"
            if glue
            else f"{found.lone.place or found.bare.place} follows no rule of quoting"
        )
        remarks["quotes"] = (
            f"{path}: quotation marks are kept as they are written, since {why}; "
            f"rows that look quoted: {found.needed.count} of {found.rows}, "
            f"first {found.needed.place}"
        )
    return plain


def _named(
    path: Path,
    form: TextForm,
    dialect: Dialect,
    header: Sequence[str],
    place: str,
    remarks: dict[str, str],
) -> list[int] | None:
    """Columns without the unnamed ones, if there are several of those and no row has anything in
    them.
    """
    unnamed = [index for index, name in enumerate(header) if not name.strip()]
    named = [index for index, name in enumerate(header) if name.strip()]
    if len(unnamed) < 2 or not named:
        return None
    for at, fields in _after_header(read_rows(path, form, dialect)):
        for index in unnamed:
            if index < len(fields) and fields[index]:
                cell = f"{at} has {shown(fields[index])} in column {index + 1}"
                got = f"{place}: '' more than once, and {cell}"
                raise UsageError(
                    "column names are unique", got, "Name the columns, or clear what has no name."
                )
    remarks["unnamed"] = (
        f"{path}: columns without a name are left out, {len(unnamed)} of {len(header)}; "
        "they are empty in every row"
    )
    return named


def _after_header(rows: Iterator[Row]) -> Iterator[Row]:
    next(rows, None)
    return rows


def _records(path: Path, form: TextForm, plan: _Plan, remarks: dict[str, str]) -> Iterator[Record]:
    rows = read_rows(path, form, plan.dialect)
    if not plan.headerless:
        next(rows, None)
    # Without quotes a blank line of a table of one column is an empty text.
    blank: list[list[str]] = [[]] if plan.dialect.quoted or len(plan.header) == 1 else [[], [""]]
    short, longer, empty = Seen(), Seen(), Seen()
    total = 0
    width = len(plan.header) if plan.keep is None else plan.keep[-1] + 1
    for place, fields in rows:
        if fields in blank:
            continue
        total += 1
        if len(fields) > width and not any(fields[width:]):
            # The header's own unnamed columns were left out with a line of their own.
            if plan.keep is None:
                empty.add(place)
            fields = fields[:width]
        if len(fields) != width:
            if not plan.glue:
                raise _uneven(place, fields, plan.header)
            if len(fields) < width:
                short.add(place)
                continue
            longer.add(place)
            fields = fields[:width]
        if plan.keep is not None:
            fields = [fields[index] for index in plan.keep]
        values = dict(zip(plan.header, fields, strict=True))
        yield Record(place, values, plan.header, plan.location)
    lines = {
        "short": (short, "have too few fields and are left out"),
        "longer": (longer, "have further fields after the last column, which are ignored"),
        "empty": (empty, "have empty fields after the last column, which are ignored"),
    }
    for subject, (seen, what) in lines.items():
        if seen.count:
            remarks[subject] = (
                f"{path}: rows that {what}: {seen.count} of {total}, first {seen.place}"
            )


def _with_points(
    path: Path, records: Iterator[Record], label: str, remarks: dict[str, str]
) -> Iterator[Record]:
    """Labels as 3.5 that are written 3,5, as Excel does in the countries where it separates by
    semicolons.
    """
    seen = Seen()
    for record in records:
        text = record.values[label]
        if _DECIMAL_COMMA.fullmatch(text):
            seen.add(record.place)
            record = record._replace(values={**record.values, label: text.replace(",", ".")})
        yield record
    if seen.count:
        remarks["decimals"] = (
            f"{path}: labels with a decimal comma are read as numbers: {seen.count}, "
            f"first {seen.place}"
        )


def _uneven(place: str, fields: Sequence[str], header: Sequence[str]) -> UsageError:
    got = f"{place}: {len(fields)} fields, the header has {len(header)} ({listed(header)})"
    return UsageError(
        "a row has one field for each column",
        got,
        "Correct the row; look for stray separators and quotes.",
    )
