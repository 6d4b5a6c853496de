"""Whether a file of tabs has quoted fields, counted over the whole of it.

GLUE's own .tsv files hold lone quotation marks, pandas and Excel quote a field of a .tsv that holds
one: the same bytes have two meanings. The answer is RFC 4180's quotes if all quotation marks follow
it and some field needs them, else none. A field needs quoting that holds a doubled quotation mark,
a tab or a line break.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from glot_jax.file_formats.dialects import Dialect
from glot_jax.file_formats.records import Seen
from glot_jax.file_formats.text_form import TextForm
from glot_jax.file_formats.text_lines import holds, read_lines

_LONGEST_RECORD = 1 << 20
"""Characters of a record in quotes: a lone quotation mark would join all lines up to the next
one.
"""
_SHORTEST_QUOTED = 5
"""Characters of a field that looks quoted: a shorter one may hold quotation marks alone."""


@dataclass
class Quotes:
    """What a pass over a table saw of its quotation marks.

    The counts are of rows, the header not among them.
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
        """Tell whether the file was written with quotes.

        UTF-16 by tabs is Excel's: a comma in quotes is enough there.
        """
        if self.lone.count:
            return False
        # Excel writes `Unicode Text` so, and quotes every field that holds a comma.
        is_excels = form.encoding.startswith("utf-16") and form.mark > 0
        is_needed = self.needed.count > 0 or (is_excels and self.comma.count > 0)
        return self.header or (is_needed and not self.bare.count)


def count_quotes(path: Path, form: TextForm, dialect: Dialect) -> Quotes:
    """Count the quotation marks in one pass, a quick one where the file holds none.

    Memory is bounded: a record in quotes of more than a megabyte is taken for a lone mark.
    """
    # A search in bytes takes a fraction of the time that lines take.
    if not holds(path, form, '"'):
        return Quotes()
    census = _Census(dialect.delimiter)
    record: list[tuple[str, str]] = []
    marks = 0
    length = 0
    for location, line in islice(read_lines(path, form), dialect.skip, None):
        # Most lines have no quotation mark, and are counted without looking at their fields.
        if not record and '"' not in line:
            # A blank line is not a row.
            census.quotes.rows += bool(line.strip("\r\n"))
            continue
        record.append((location, line))
        marks += line.count('"')
        length += len(line)
        # An even number of marks closes every quoted field: the record ends with this line.
        if marks % 2 == 0 or census.quotes.lone.count or length > _LONGEST_RECORD:
            census.add(record)
            record = []
            marks = 0
            length = 0
    if record:
        census.add(record)
    # The header was counted as a row.
    census.quotes.rows -= 1
    return census.quotes


class _Census:
    """Sorts the records of a table by what their quotation marks are for."""

    def __init__(self, delimiter: str):
        between = re.escape(delimiter)
        # Possessive: a megabyte of quotation marks is read once.
        self._field = re.compile(rf'(?:"((?:[^"]++|"")*+)"|[^"{between}]*+)({between}|\Z)')
        self._delimiter = delimiter
        self.quotes = Quotes()

    def add(self, lines: list[tuple[str, str]]) -> None:
        """Add one record of one line or more; lines on their own where that cannot be."""
        location = lines[0][0]
        text = _without_end("".join(line for _, line in lines))
        quoted_texts = self._fields(text)
        if quoted_texts is None:
            # The marks are characters, and each line is a row of its own.
            self.quotes.lone.add(location)
            for line_location, line in lines:
                self._add_line(line_location, line)
            return
        # Names are seldom in need of quotes: a header that has them shows that all are quoted.
        if self.quotes.rows == 0:
            self.quotes.header = None not in quoted_texts
        else:
            self._count(location, quoted_texts)
        self.quotes.rows += 1

    def _fields(self, text: str) -> list[str | None] | None:
        """What stands in quotes, None for a field without them.

        None in place of the list stands for a row in which a mark is where it must not be.
        """
        quoted_texts: list[str | None] = []
        start = 0
        while True:
            match = self._field.match(text, start)
            if match is None:
                return None
            quoted_texts.append(match[1])
            start = match.end()
            if not match[2]:
                return quoted_texts

    def _count(self, location: str, quoted_texts: Sequence[str | None]) -> None:
        """Count a row under what its quoted fields need their quotes for."""
        is_quoted = is_needed = is_bare = False
        for text in quoted_texts:
            if text is None:
                continue
            is_quoted = True
            if '"' in text or self._delimiter in text or "\n" in text or "\r" in text:
                is_needed = True
            elif text and "," not in text:
                is_bare = True
        if not is_quoted:
            return
        self.quotes.quoted.add(location)
        if is_needed:
            self.quotes.needed.add(location)
        elif not is_bare:
            self.quotes.comma.add(location)
        if is_bare:
            self.quotes.bare.add(location)

    def _add_line(self, location: str, line: str) -> None:
        """Count a row of a file that is not quoted, and whether a field looks as if it were."""
        self.quotes.rows += 1
        for text in _without_end(line).split(self._delimiter):
            is_quoted = text.startswith('"') and text.endswith('"')
            if len(text) < _SHORTEST_QUOTED or not is_quoted:
                continue
            # "a ""b""" is what quoting makes of a "b", and hardly anything else.
            inside = text[1:-1]
            if '""' in inside and '"' not in inside.replace('""', ""):
                self.quotes.needed.add(location)
                return


def _without_end(line: str) -> str:
    return line.removesuffix("\n").rstrip("\r")
