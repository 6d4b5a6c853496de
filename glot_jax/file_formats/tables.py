"""Tables as text, .csv, .tsv, .tab and .txt: a header, then a row a line or in quotes over several.

What is mended, each with a line for the user that has its count and its first `file:line`:
separators other than the suffix's, quoted fields in a .tsv, unnamed columns that are empty in every
row, empty fields after a row's last column, labels with a decimal comma where semicolons separate.
In the files as GLUE distributes them also rows that are too short, which are left out, and further
fields, which are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from glot_jax.errors import UsageError
from glot_jax.file_formats.dialects import DELIMITERS, Dialect, Row, find_delimiter, read_rows
from glot_jax.file_formats.glue_files import GlueLayout
from glot_jax.file_formats.quote_census import Quotes, count_quotes
from glot_jax.file_formats.quoting import listed, shown
from glot_jax.file_formats.records import Columns, Record, Records, Seen, Source, require_unique
from glot_jax.file_formats.text_form import TextForm

_OWN_DELIMITER = {"csv": ","}
"""Suffix -> separator; all others have tabs."""

_DECIMAL_COMMA = re.compile(r"\s*[+-]?[0-9]+,[0-9]+\s*")


@dataclass(frozen=True)
class _Plan:
    """How a table that has been looked through is read."""

    dialect: Dialect
    names: Columns
    """Names of the columns that are read."""
    location: str
    """`file:line` of the header; empty where the file has none."""
    keep: Sequence[int] | None
    """Indices of the fields that are read; None: all of them."""
    is_glues: bool
    """The file is as GLUE distributes it: rows may be too short or too long."""

    @property
    def width(self) -> int:
        """Fields of a row, up to the last one that is read."""
        if self.keep is None:
            return len(self.names)
        # Unnamed columns behind the last one may be missing in some rows.
        return self.keep[-1] + 1


def open_table(
    path: Path,
    suffix: str,
    form: TextForm,
    columns: Columns,
    layout: GlueLayout,
    label: str | None = None,
) -> Source:
    """Look through a table, and make a source of its rows.

    Args:
        path: the file.
        suffix: its format, without a dot: csv, tsv, tab or txt.
        form: how its bytes are text.
        columns: names by which its header is recognised.
        layout: what GLUE's files call these columns.
        label: the column that may hold numbers with a decimal comma.

    Raises:
        UsageError: with `file:line`, for names that are not unique and for broken rows.
    """
    table = _Table(path, suffix, form)
    plan = table.look_through(columns, layout)
    # By commas or tabs, 3,5 is a text or two fields, and no number.
    has_label = label is not None and label in plan.names
    may_have_commas = has_label and plan.dialect.delimiter == ";"

    def read(_: Columns) -> Records:
        # All fields of a line are cut anyway, so a record has them whatever is asked for.
        records = table.records(plan)
        if label is not None and may_have_commas:
            return table.with_decimal_points(records, label)
        return records

    return Source(
        name=str(path),
        typed=False,
        read=read,
        remarks=table.remarks,
    )


@dataclass
class _Table:
    """A table's file, and what there is to say about it."""

    path: Path
    suffix: str
    form: TextForm
    remarks: dict[str, str] = field(default_factory=dict)

    def look_through(self, columns: Columns, layout: GlueLayout) -> _Plan:
        """Find dialect and header from the whole file."""
        path = self.path
        dialect = self._dialect(columns, layout)
        # Without quotes, a header is cut the same way whatever stands behind it.
        _, first = self._first_row(_unquoted(dialect))
        is_glues = layout.is_own(first)
        if dialect.delimiter == "\t" and self.suffix != "csv":
            dialect = self._choose_quoting(dialect, is_glues)
        # Read again: with quotes the header may be another one, over several lines.
        location, header = self._first_row(dialect)
        if layout.is_headerless(header):
            names = ", ".join(layout.headerless)
            self.remarks["header"] = f"{path}: has no header; its columns are {names}, as GLUE's"
            return _Plan(
                dialect=dialect,
                names=layout.headerless,
                location="",
                keep=None,
                is_glues=is_glues,
            )
        # Before names are compared: several empty ones would be refused as one name.
        keep = self._named_columns(dialect, header, location)
        names = header if keep is None else [header[index] for index in keep]
        require_unique(names, location)
        return _Plan(
            dialect=dialect,
            names=names,
            location=location,
            keep=keep,
            is_glues=is_glues,
        )

    def _dialect(self, columns: Columns, layout: GlueLayout) -> Dialect:
        def fits(header: Columns) -> bool:
            return layout.fits(header, columns)

        # What the suffix promises is tried first, and only then looked for.
        default = _OWN_DELIMITER.get(self.suffix, "\t")
        delimiter, skip = find_delimiter(self.path, self.form, default, fits)
        if delimiter != default:
            name = DELIMITERS.get(delimiter, repr(delimiter))
            self.remarks["delimiter"] = (
                f"{self.path}: its columns are separated by {name}, as the whole file shows"
            )
        return Dialect(delimiter, skip=skip)

    def _first_row(self, dialect: Dialect) -> Row:
        rows = read_rows(self.path, self.form, dialect)
        return next(rows, (str(self.path), []))

    def _choose_quoting(self, quoted: Dialect, is_glues: bool) -> Dialect:
        """The dialect of a file of tabs, with quotes or without."""
        quotes = count_quotes(self.path, self.form, quoted)
        # GLUE's authors never quote: their marks are characters of the texts, even those in pairs.
        if quotes.is_quoted(self.form) and not is_glues:
            where = "the header alone"
            if quotes.quoted.count:
                where = f"{quotes.quoted.count} of {quotes.rows} rows, first "
                where += quotes.quoted.location
            self.remarks["quotes"] = (
                f"{self.path}: fields in quotation marks are read as pandas and Excel write them: "
                f"{where}"
            )
            return quoted
        if quotes.needed.count:
            self.remarks["quotes"] = self._kept_quotes(quotes, is_glues)
        return _unquoted(quoted)

    def _kept_quotes(self, quotes: Quotes, is_glues: bool) -> str:
        reason = f"{quotes.lone.location or quotes.bare.location} follows no rule of quoting"
        if is_glues:
            reason = "the file is GLUE's own"
        return (
            f"{self.path}: quotation marks are kept as they are written, since {reason}; "
            f"rows that look quoted: {quotes.needed.count} of {quotes.rows}, "
            f"first {quotes.needed.location}"
        )

    def _named_columns(
        self,
        dialect: Dialect,
        header: Columns,
        location: str,
    ) -> list[int] | None:
        """Indices of the columns with a name; None where all columns are read.

        One unnamed column is a column, as pandas writes for its index. Several are left out if no
        row has anything in them, as a spreadsheet writes where a cell far right was once used.
        """
        named: list[int] = []
        unnamed: list[int] = []
        for index, name in enumerate(header):
            if name.strip():
                named.append(index)
            else:
                unnamed.append(index)
        if len(unnamed) < 2 or not named:
            return None
        rows = read_rows(self.path, self.form, dialect)
        next(rows, None)
        # The whole file: one cell in the last row would be lost without a word.
        for row_location, fields in rows:
            for index in unnamed:
                if index < len(fields) and fields[index]:
                    cell = f"{shown(fields[index])} in column {index + 1}"
                    raise UsageError(
                        rule="column names must be unique",
                        got=f"{location}: '' more than once, and {row_location} has {cell}",
                        fix="Name the columns, or clear what has no name.",
                    )
        self.remarks["unnamed"] = (
            f"{self.path}: columns without a name are left out, {len(unnamed)} of {len(header)}; "
            "they are empty in every row"
        )
        return named

    def records(self, plan: _Plan) -> Records:
        """Yield the rows; what was mended is said after the last one."""
        rows = read_rows(self.path, self.form, plan.dialect)
        if plan.location:
            next(rows, None)
        blank: list[list[str]] = [[]]
        # Without quotes a blank line of a table of one column is an empty text.
        if not plan.dialect.quoted and len(plan.names) > 1:
            blank.append([""])
        # Counted while reading: whoever stops early is told nothing wrong.
        short = Seen()
        longer = Seen()
        empty = Seen()
        total = 0
        width = plan.width
        for location, fields in rows:
            # No row: editors leave blank lines at the end, and they are not counted.
            if fields in blank:
                continue
            total += 1
            if len(fields) > width and not any(fields[width:]):
                # The header's own unnamed columns were left out with a line of their own.
                if plan.keep is None:
                    empty.add(location)
                fields = fields[:width]
            if len(fields) != width:
                # A stray separator or quotation mark: the fields are not what their names say.
                if not plan.is_glues:
                    raise _uneven(location, fields, plan.names)
                if len(fields) < width:
                    short.add(location)
                    continue
                longer.add(location)
                fields = fields[:width]
            if plan.keep is not None:
                fields = [fields[index] for index in plan.keep]
            values = dict(zip(plan.names, fields, strict=True))
            yield Record(location, values, plan.names, plan.location)
        self._remark_rows("short", short, total, "have too few fields and are left out")
        ignored = "after the last column, which are ignored"
        self._remark_rows("longer", longer, total, f"have further fields {ignored}")
        self._remark_rows("empty", empty, total, f"have empty fields {ignored}")

    def _remark_rows(
        self,
        subject: str,
        seen: Seen,
        total: int,
        what: str,
    ) -> None:
        if seen.count:
            counts = f"{seen.count} of {total}, first {seen.location}"
            self.remarks[subject] = f"{self.path}: rows that {what}: {counts}"

    def with_decimal_points(self, records: Records, label: str) -> Records:
        """Labels as 3.5 that are written 3,5.

        Excel writes them so in the countries where it separates by semicolons.
        """
        seen = Seen()
        for record in records:
            # Texts keep their commas; only the label is a number.
            text = record.values[label]
            if _DECIMAL_COMMA.fullmatch(text):
                seen.add(record.location)
                values = {**record.values, label: text.replace(",", ".")}
                record = record._replace(values=values)
            yield record
        if seen.count:
            self.remarks["decimals"] = (
                f"{self.path}: labels with a decimal comma are read as numbers: {seen.count}, "
                f"first {seen.location}"
            )


def _unquoted(dialect: Dialect) -> Dialect:
    return Dialect(dialect.delimiter, quoted=False, skip=dialect.skip)


def _uneven(
    location: str,
    fields: Sequence[str],
    names: Columns,
) -> UsageError:
    return UsageError(
        rule="a row must have one field for each column",
        got=f"{location}: {len(fields)} fields, the header has {len(names)} ({listed(names)})",
        fix="Correct the row; look for stray separators and quotes.",
    )
