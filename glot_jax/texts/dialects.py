"""The dialect of a table, found from the whole file: its separator, and whether it has quotes.

| question          | answer                                                                       |
|-------------------|------------------------------------------------------------------------------|
| the separator     | the suffix's own (.csv a comma, else a tab) where the header so read has the |
|                   | wanted columns; else a comma, semicolon, tab or bar by which all rows have   |
|                   | as many fields as the header                                                 |
| quotes, by tabs   | RFC 4180's if all quotation marks follow it and some need it, else none      |
| ... by the others | RFC 4180's                                                                   |

GLUE's own .tsv files hold lone quotation marks, pandas and Excel quote a field of a .tsv that holds
one: the same bytes have two meanings. A field needs quoting that holds a doubled quotation mark, a
tab or a line break.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from glot_jax.errors import UsageError
from glot_jax.texts import text_lines
from glot_jax.texts.records import Seen
from glot_jax.texts.text_lines import TextForm, holds, read_lines

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*')
"""What Excel takes as an instruction in the first line."""
_LONGEST_RECORD = 1 << 20
"""Characters of a record in quotes: a lone quotation mark would join all lines up to the next
one.
"""

Row = tuple[str, list[str]]


@dataclass(frozen=True)
class Dialect:
    """How the lines of a table are cut into fields."""

    delimiter: str
    quoted: bool = True
    """By RFC 4180; otherwise quotation marks are characters like any other."""
    skip: int = 0
    """Lines before the header."""


def read_rows(path: Path, form: TextForm, dialect: Dialect) -> Iterator[Row]:
    """Place and fields of every row, the header first; a blank line is [] where fields are quoted,
    else [""].
    """
    lines = islice(read_lines(path, form), dialect.skip, None)
    if not dialect.quoted:
        for place, line in lines:
            yield place, line.removesuffix("\n").rstrip("\r").split(dialect.delimiter)
        return
    # The default of 128 KiB is shorter than some texts; without any, a lone quotation mark at the
    # beginning would take the whole file for one field.
    csv.field_size_limit(text_lines.LONGEST_LINE)
    rows = csv.reader((line for _, line in lines), delimiter=dialect.delimiter, strict=True)
    while True:
        # Where the row begins: a quoted field may span lines.
        place = f"{path}:{dialect.skip + rows.line_num + 1}"
        try:
            yield place, next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            fix = "Put a field with quotes or line breaks in quotes, and double the quotes inside."
            # "... - do you need to open the file with newline=''?" is advice for programmers.
            got = f"{place}: {str(error).partition(' - ')[0]}"
            raise UsageError("a .csv file follows RFC 4180", got, fix) from error


def find_delimiter(
    path: Path, form: TextForm, default: str, fits: Callable[[Sequence[str]], bool]
) -> tuple[str, int]:
    """The separator, and the lines before the header. `fits` tells whether a header has the wanted
    columns.
    """
    first = next(read_lines(path, form), ("", ""))[1]
    said = _SEPARATOR_LINE.fullmatch(first)
    if said:
        return said[1], 1
    if fits(_header(path, form, default)):
        return default, 0
    there = [delimiter for delimiter in DELIMITERS if delimiter in first and delimiter != default]
    fitting = [delimiter for delimiter in there if fits(_header(path, form, delimiter))]
    whole = [delimiter for delimiter in fitting or there if _is_regular(path, form, delimiter)]
    chosen = whole or fitting
    # Without a fitting header the widest table is the likeliest; it is what a message will show.
    chosen.sort(key=first.count, reverse=True)
    if not fitting and default in first and _is_regular(path, form, default):
        return default, 0
    return (chosen[0] if chosen else default), 0


def _header(path: Path, form: TextForm, delimiter: str) -> list[str]:
    try:
        return next(read_rows(path, form, Dialect(delimiter)), ("", []))[1]
    except UsageError:
        return next(read_rows(path, form, Dialect(delimiter, quoted=False)), ("", []))[1]


def _is_regular(path: Path, form: TextForm, delimiter: str) -> bool:
    """Whether every row has the header's number of fields, two or more."""
    width = 0
    try:
        for _, fields in read_rows(path, form, Dialect(delimiter)):
            width = width or len(fields)
            if fields and len(fields) != width:
                return False
    except UsageError:
        return False
    return width > 1


@dataclass
class Quotes:
    """What a pass over a table found about its quotation marks; the counts are of rows, but for the
    header's.
    """

    rows: int = 0
    quoted: Seen = field(default_factory=Seen)
    """A field stands in quotation marks."""
    needed: Seen = field(default_factory=Seen)
    """... and holds what only quoting explains."""
    comma: Seen = field(default_factory=Seen)
    """... and holds a comma, for which Excel quotes in a file of tabs too, or nothing."""
    bare: Seen = field(default_factory=Seen)
    """... without any need."""
    lone: Seen = field(default_factory=Seen)
    """A quotation mark follows no rule of quoting."""
    header: bool = False
    """Every name in the header is quoted."""

    def is_quoted(self, form: TextForm) -> bool:
        """Whether the file was written with quotes. UTF-16 by tabs is Excel's: a comma in quotes is
        enough there.
        """
        if self.lone.count:
            return False
        excel = form.encoding.startswith("utf-16") and form.mark > 0
        needed = self.needed.count > 0 or (excel and self.comma.count > 0)
        return self.header or (needed and not self.bare.count)


def count_quotes(path: Path, form: TextForm, dialect: Dialect) -> Quotes:
    """One pass over the file, a quick one where it holds no quotation mark.

    Bounded: a record in quotes of more than a megabyte is taken for a lone mark.
    """
    if not holds(path, form, '"'):
        return Quotes()
    census = _Census(dialect.delimiter)
    begun: list[tuple[str, str]] = []
    marks = length = 0
    for place, line in islice(read_lines(path, form), dialect.skip, None):
        if not begun and '"' not in line:
            # A blank line is no row.
            census.found.rows += bool(line.strip("\r\n"))
            continue
        begun.append((place, line))
        marks += line.count('"')
        length += len(line)
        if marks % 2 == 0 or census.found.lone.count or length > _LONGEST_RECORD:
            census.add(begun)
            begun = []
            marks = length = 0
    if begun:
        census.add(begun)
    census.found.rows -= 1
    return census.found


class _Census:
    def __init__(self, delimiter: str):
        between = re.escape(delimiter)
        # Possessive: a megabyte of quotation marks is read once.
        self._field = re.compile(rf'(?:"((?:[^"]++|"")*+)"|[^"{between}]*+)({between}|\Z)')
        self._delimiter = delimiter
        self.found = Quotes()

    def add(self, lines: list[tuple[str, str]]) -> None:
        """One record of one line or more; lines on their own where that cannot be."""
        place = lines[0][0]
        text = "".join(line for _, line in lines).removesuffix("\n").rstrip("\r")
        inside = self._fields(text)
        if inside is None:
            self.found.lone.add(place)
            for place, line in lines:
                self._add_line(place, line)
            return
        if self.found.rows == 0:
            self.found.header = None not in inside
        else:
            self._count(place, inside)
        self.found.rows += 1

    def _fields(self, text: str) -> list[str | None] | None:
        """What stands in quotes, None for a field without them; None for the row if a mark is out
        of place.
        """
        inside: list[str | None] = []
        start = 0
        while True:
            match = self._field.match(text, start)
            if match is None:
                return None
            inside.append(match[1])
            start = match.end()
            if not match[2]:
                return inside

    def _count(self, place: str, inside: Sequence[str | None]) -> None:
        quoted = [text for text in inside if text is not None]
        if not quoted:
            return
        self.found.quoted.add(place)
        needed = [
            text
            for text in quoted
            if '"' in text or self._delimiter in text or "\n" in text or "\r" in text
        ]
        bare = [text for text in quoted if text and text not in needed and "," not in text]
        if needed:
            self.found.needed.add(place)
        elif not bare:
            self.found.comma.add(place)
        if bare:
            self.found.bare.add(place)

    def _add_line(self, place: str, line: str) -> None:
        """A row of a file that is not quoted: does a field look as if it were?"""
        self.found.rows += 1
        fields = line.removesuffix("\n").rstrip("\r").split(self._delimiter)
        inside = [text[1:-1] for text in fields if len(text) > 4 and text[0] == text[-1] == '"']
        if any('""' in text and '"' not in text.replace('""', "") for text in inside):
            self.found.needed.add(place)
