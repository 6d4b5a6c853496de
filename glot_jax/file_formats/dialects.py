"""The dialect of a table: how its lines are cut into fields, and by which character.

The separator is found from the whole file:

1. It is the suffix's own (.csv a comma, else a tab) where the header so read has the wanted
   columns.
2. Else it is a comma, semicolon, tab or bar by which all rows have as many fields as the header.

Quotes follow RFC 4180. Of a file of tabs `quote_census` tells whether it has any.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from glot_jax.errors import UsageError
from glot_jax.file_formats import text_lines
from glot_jax.file_formats.records import Columns
from glot_jax.file_formats.text_form import TextForm
from glot_jax.file_formats.text_lines import read_lines
from glot_jax.moved import moved_name

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""What may separate columns -> what messages call it."""

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*')
"""What Excel takes as an instruction in the first line."""

Row = tuple[str, list[str]]
"""`file:line` and the fields of a row."""


@dataclass(frozen=True)
class Dialect:
    """How the lines of a table are cut into fields."""

    delimiter: str
    quoted: bool = True
    """By RFC 4180; otherwise quotation marks are characters like any other."""
    skip: int = 0
    """Lines before the header."""


def read_rows(
    path: Path,
    form: TextForm,
    dialect: Dialect,
) -> Iterator[Row]:
    """Yield location and fields of every row, the header first.

    A blank line is [] where fields are quoted, else [""].

    Raises:
        UsageError: with `file:line`, for quotes that do not follow RFC 4180.
    """
    lines = islice(read_lines(path, form), dialect.skip, None)
    if not dialect.quoted:
        for location, line in lines:
            # Every CR: CRCRLF ends in two of them, as Windows makes of CRLF.
            text = line.removesuffix("\n").rstrip("\r")
            yield location, text.split(dialect.delimiter)
        return
    # The default of 128 KiB is shorter than some texts; without any, a lone quotation mark at the
    # beginning would take the whole file for one field.
    csv.field_size_limit(text_lines.LONGEST_LINE)
    texts = (line for _, line in lines)
    rows = csv.reader(texts, delimiter=dialect.delimiter, strict=True)
    while True:
        # Where the row begins: a quoted field may span lines.
        location = f"{path}:{dialect.skip + rows.line_num + 1}"
        try:
            yield location, next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            # "... - do you need to open the file with newline=''?" is advice for programmers.
            reason = str(error).partition(" - ")[0]
            raise UsageError(
                rule="a .csv file must follow RFC 4180",
                got=f"{location}: {reason}",
                fix="Put a field with quotes or line breaks in quotes, and double the quotes "
                "inside.",
            ) from error


def find_delimiter(
    path: Path,
    form: TextForm,
    default: str,
    fits: Callable[[Columns], bool],
) -> tuple[str, int]:
    """Find the separator of a table.

    Args:
        path: the file.
        form: how its bytes are text.
        default: the separator of its suffix.
        fits: tells whether a header has the wanted columns.

    Returns:
        The separator, and how many lines stand before the header.
    """
    first_line = next(read_lines(path, form), ("", ""))[1]
    # It is no row in any dialect, so that it is believed without a look at the rest.
    instruction = _SEPARATOR_LINE.fullmatch(first_line)
    if instruction:
        return instruction[1], 1
    # Commas may stand in the texts of a .tsv: what fits is not looked at further.
    if fits(_header(path, form, default)):
        return default, 0
    present: list[str] = []
    for delimiter in DELIMITERS:
        if delimiter in first_line and delimiter != default:
            present.append(delimiter)
    fitting: list[str] = []
    for delimiter in present:
        if fits(_header(path, form, delimiter)):
            fitting.append(delimiter)
    # A fitting header counts more than regular rows: a broken row is then told as one.
    regular = [delimiter for delimiter in fitting or present if _is_regular(path, form, delimiter)]
    candidates = regular or fitting
    # Without a fitting header the widest table is the likeliest; it is what a message will show.
    candidates.sort(key=first_line.count, reverse=True)
    is_default_regular = default in first_line and not fitting and _is_regular(path, form, default)
    if is_default_regular or not candidates:
        return default, 0
    return candidates[0], 0


def _header(
    path: Path,
    form: TextForm,
    delimiter: str,
) -> list[str]:
    try:
        return _first_row(path, form, Dialect(delimiter))
    except UsageError:
        # A stray quotation mark; the names beside it may still tell the separator.
        return _first_row(path, form, Dialect(delimiter, quoted=False))


def _first_row(
    path: Path,
    form: TextForm,
    dialect: Dialect,
) -> list[str]:
    _, fields = next(read_rows(path, form, dialect), ("", []))
    return fields


def _is_regular(path: Path, form: TextForm, delimiter: str) -> bool:
    """Tell whether every row has the header's number of fields, two or more."""
    width = 0
    try:
        for _, fields in read_rows(path, form, Dialect(delimiter)):
            width = width or len(fields)
            # A blank line is no row.
            if fields and len(fields) != width:
                return False
    # Quotes that are wrong under this separator may be right under another.
    except UsageError:
        return False
    return width > 1


_MOVED = {
    "Quotes": "file_formats.quote_census",
    "count_quotes": "file_formats.quote_census",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)
