"""JSON values one after the other, wherever the lines of their file end.

Only the value that is being read is in memory, and a little of what follows it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from glot_jax.config.json import Json
from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import because
from glot_jax.file_formats.records import Columns
from glot_jax.file_formats.text_form import TextForm
from glot_jax.file_formats.text_lines import LONGEST_LINE, read_text

_MARGIN = 16
"""Characters before the end of what has been read.

An error so near to it may come from what has not been read: half a number, half an escape.
"""


class RepeatedNames(dict[str, Any]):
    """A JSON object in which a name stands more than once."""

    names: Columns
    """All names, in the order of the file."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # json keeps the last of several values and says nothing.
    values = dict(pairs)
    if len(values) < len(pairs):
        values = RepeatedNames(values)
        values.names = [name for name, _ in pairs]
    return values


# Raw control characters, NUL among them, are text too.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)
decode_line = _DECODER.decode
"""Text -> the one JSON value that it is; objects may be `RepeatedNames`."""


class JsonValues:
    """The values of a file with their `file:line`: those of its one array, or any that follow."""

    def __init__(self, path: Path, form: TextForm, *, inside_array: bool):
        self._buffer = _Buffer(path, form)
        self._inside_array = inside_array

    def __iter__(self) -> Iterator[tuple[str, Json]]:
        """Yield location and value.

        Raises:
            UsageError: with `file:line`, for what is not JSON and for an array without an end.
        """
        buffer = self._buffer
        separators = ""
        if self._inside_array:
            separators = ","
            # The bracket: whoever asked for an array has seen it.
            buffer.skip("")
            buffer.move(buffer.start + 1)
        while character := buffer.skip(separators):
            if self._inside_array and character == "]":
                self._finish()
                return
            # Taken before the value is: the place of its beginning.
            location = buffer.location
            yield location, self._next_value()
        if self._inside_array:
            raise UsageError(
                rule="a .json file must be complete",
                got=f"{buffer.location}: the array has no end",
                fix="Fetch or write it again.",
            )

    def _finish(self) -> None:
        """Take the closing bracket; nothing may follow it."""
        buffer = self._buffer
        buffer.move(buffer.start + 1)
        if buffer.skip(""):
            raise UsageError(
                rule="a .json file must hold one array",
                got=f"{buffer.location}: more after its end",
                fix="Remove it.",
            )

    def _next_value(self) -> Json:
        buffer = self._buffer
        while True:
            try:
                # From the middle of the text: slicing it would copy what follows, once a row.
                value, end = _DECODER.raw_decode(buffer.text, buffer.start)
            except json.JSONDecodeError as error:
                is_open_string = error.msg.startswith("Unterminated string")
                is_near_end = error.pos >= len(buffer.text) - _MARGIN
                if (is_open_string or is_near_end) and not buffer.is_complete:
                    buffer.grow()
                    continue
                # The line of the error, which may be far behind the beginning of the value.
                index = min(error.pos, len(buffer.text))
                buffer.move(max(buffer.start, index))
                raise self._not_json(error.msg) from error
            except (ValueError, RecursionError) as error:
                raise self._not_json(because(error)) from error
            # A number that ends where the text does may go on: 12 of 123.
            is_whole = end < len(buffer.text) or isinstance(value, dict | list)
            # Objects and arrays end with a bracket of their own.
            if is_whole or buffer.is_complete:
                buffer.move(end)
                return value
            buffer.grow()

    def _not_json(self, reason: str) -> UsageError:
        return UsageError(
            rule="a .json file must hold JSON",
            got=f"{self._buffer.location}: {reason}",
            fix="Correct the file.",
        )


class _Buffer:
    """Text that has been read and not yet taken, and the line it begins in."""

    def __init__(self, path: Path, form: TextForm):
        self._pieces = read_text(path, form)
        self._end = form.end
        self._path = path
        self._line = 1
        self.text = ""
        self.start = 0
        """Index of the first character that has not been taken."""
        self.is_complete = False

    @property
    def location(self) -> str:
        """`file:line` of the first character that has not been taken."""
        return f"{self._path}:{self._line}"

    def move(self, index: int) -> None:
        """Take everything before `index`."""
        self._line += self.text.count(self._end, self.start, index)
        self.start = index

    def grow(self) -> None:
        """Read on, as much again as there is, so that a long value is not looked at too often."""
        kept = self.text[self.start :]
        pieces = [kept]
        length = len(kept)
        # Doubling: a value of n characters is decoded anew log n times, not n / chunk times.
        while length < 2 * len(kept) + 1 and not self.is_complete:
            piece = next(self._pieces, None)
            if piece is None:
                self.is_complete = True
                break
            pieces.append(piece)
            length += len(piece)
        self.text = "".join(pieces)
        self.start = 0
        if len(kept) > LONGEST_LINE:
            raise UsageError(
                rule="a row of a .json file must be at most 256 MiB",
                got=f"{self.location}: more than {len(kept):,} characters",
                fix="Look at what the file holds.",
            )

    def skip(self, characters: str) -> str:
        """Pass over blanks and these characters, and give the next one; "" at the file's end."""
        while True:
            index = self.start
            while index < len(self.text):
                character = self.text[index]
                if not character.isspace() and character not in characters:
                    break
                index += 1
            self.move(index)
            if index < len(self.text):
                return self.text[index]
            if self.is_complete:
                return ""
            self.grow()
