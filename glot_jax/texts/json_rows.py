"""Rows of JSON: an object a line, or one array of objects, which is read as a stream too.

| a file begins with    | it holds                                                               |
|-----------------------|------------------------------------------------------------------------|
| `[{`                  | one array of objects                                                   |
| `[[`, in a .json      | one array of arrays                                                    |
| anything else         | one object a line; in a .json also objects that span lines             |

A row may be an array where the task takes its columns by position: they are called `ARRAY_COLUMNS`,
"#0", "#1" and so on. A name stands for one column only: a second one of the same name is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glot_jax.errors import UsageError, require
from glot_jax.texts.quoting import because
from glot_jax.texts.records import Record, require_unique
from glot_jax.texts.text_lines import LONGEST_LINE, TextForm, read_lines, read_text

_RULE = "a .jsonl file holds one JSON object a line"
_FIX = "Correct the line."
_MARGIN = 16
"""An error so near to what has been read may come from what has not: half a number, half an
escape.
"""


class _Repeated(dict[str, Any]):
    """A JSON object in which a name stands more than once."""

    names: Sequence[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of several values and says nothing.
    values = dict(pairs)
    if len(values) < len(pairs):
        values = _Repeated(values)
        values.names = [name for name, _ in pairs]
    return values


# Raw control characters, NUL among them, are text too.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)


def json_records(path: Path, suffix: str, form: TextForm, *, arrays: bool) -> Iterator[Record]:
    """The file's rows; `arrays` says that a row may be an array. UsageError with `file:line`."""
    begin = _beginning(path, form)
    if begin == "[{" or (suffix == "json" and begin == "[["):
        yield from _values(path, form, arrays=arrays, inside_array=True)
    elif suffix == "json" and begin.startswith("{") and not _is_by_line(path, form):
        yield from _values(path, form, arrays=arrays, inside_array=False)
    else:
        yield from _by_line(path, form, arrays=arrays)


def _beginning(path: Path, form: TextForm) -> str:
    """The first two characters that are not blank; nothing where they are no text, which reading
    will say.
    """
    found = ""
    try:
        for text in read_text(path, form):
            found += "".join(text[:4096].split())[:2]
            if len(found) >= 2 or len(text) > 4096:
                break
    except UsageError:
        return ""
    return found[:2]


def _is_by_line(path: Path, form: TextForm) -> bool:
    """Whether the first line that is not blank is a JSON value of its own."""
    # The file may be one line of gigabytes, if it is an object that holds everything.
    line = next((line for _, line in read_lines(path, form) if line.strip()), "")
    try:
        _DECODER.decode(line)
    except (ValueError, RecursionError) as error:
        return not (isinstance(error, json.JSONDecodeError) and error.pos >= len(line.rstrip()))
    return True


def _by_line(path: Path, form: TextForm, *, arrays: bool) -> Iterator[Record]:
    for place, line in read_lines(path, form):
        if not line.strip():
            continue
        try:
            values = _DECODER.decode(line)
        except json.JSONDecodeError as error:  # its own line number is always 1 or 2
            got = f"{place}: {error.msg} at character {error.pos + 1} of the line"
            raise UsageError(_RULE, got, _FIX) from error
        except (
            ValueError,
            RecursionError,
        ) as error:  # an integer of thousands of digits; brackets in thousands
            raise UsageError(_RULE, f"{place}: {because(error)}", _FIX) from error
        yield _record(values, place, arrays)


def _record(values: Any, place: str, arrays: bool) -> Record:
    if arrays and isinstance(values, list):
        values = {f"#{index}": value for index, value in enumerate(values)}
    require(isinstance(values, dict), _RULE, f"{place}: {type(values).__name__}", _FIX)
    if isinstance(values, _Repeated):
        require_unique(values.names, place)
    return Record(place, values, list(values))


class _Buffer:
    """Text that has been read and not yet taken, and the line it begins in."""

    def __init__(self, path: Path, form: TextForm):
        self._pieces = read_text(path, form)
        self._end = form.end
        self._path = path
        self.text = ""
        self.at = 0
        self.line = 1
        self.is_complete = False

    @property
    def place(self) -> str:
        return f"{self._path}:{self.line}"

    def move(self, to: int) -> None:
        """Everything before `to` has been taken."""
        self.line += self.text.count(self._end, self.at, to)
        self.at = to

    def grow(self) -> None:
        """Read on, as much again as there is, so that a long value is not looked at too often."""
        kept = self.text[self.at :]
        pieces = [kept]
        length, wanted = len(kept), 2 * len(kept) + 1
        while length < wanted and not self.is_complete:
            piece = next(self._pieces, None)
            self.is_complete = piece is None
            pieces.append(piece or "")
            length += len(piece or "")
        self.text = "".join(pieces)
        self.at = 0
        rule = "a row of a .json file is at most 256 MiB"
        require(
            len(kept) <= LONGEST_LINE,
            rule,
            f"{self.place}: more than {len(kept):,} characters",
            "Look at what the file holds.",
        )

    def skip(self, characters: str) -> str:
        """Pass over blanks and these characters, and give the next one; "" at the file's end."""
        while True:
            to = self.at
            while to < len(self.text) and (self.text[to].isspace() or self.text[to] in characters):
                to += 1
            self.move(to)
            if to < len(self.text):
                return self.text[to]
            if self.is_complete:
                return ""
            self.grow()


def _values(path: Path, form: TextForm, *, arrays: bool, inside_array: bool) -> Iterator[Record]:
    """Rows one after the other, in an array or not, wherever the lines end."""
    buffer = _Buffer(path, form)
    if inside_array:
        buffer.skip("")
        buffer.move(buffer.at + 1)
    while True:
        found = buffer.skip("," if inside_array else "")
        if not found:
            rule = "a .json file is complete"
            require(
                not inside_array,
                rule,
                f"{buffer.place}: the array has no end",
                "Fetch or write it again.",
            )
            return
        if inside_array and found == "]":
            buffer.move(buffer.at + 1)
            after = buffer.skip("")
            require(
                not after,
                "a .json file holds one array",
                f"{buffer.place}: more after its end",
                "Remove it.",
            )
            return
        place = buffer.place
        yield _record(_next_value(buffer), place, arrays)


def _next_value(buffer: _Buffer) -> Any:
    rule = "a .json file holds JSON"
    while True:
        try:
            value, end = _DECODER.raw_decode(buffer.text, buffer.at)
        except json.JSONDecodeError as error:
            open_string = error.msg.startswith("Unterminated string")
            near = open_string or error.pos >= len(buffer.text) - _MARGIN
            if near and not buffer.is_complete:
                buffer.grow()
                continue
            buffer.move(max(buffer.at, min(error.pos, len(buffer.text))))
            raise UsageError(rule, f"{buffer.place}: {error.msg}", "Correct the file.") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(
                rule, f"{buffer.place}: {because(error)}", "Correct the file."
            ) from error
        if end < len(buffer.text) or buffer.is_complete or isinstance(value, dict | list):
            buffer.move(end)
            return value
        buffer.grow()
