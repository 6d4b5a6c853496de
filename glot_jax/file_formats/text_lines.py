"""From bytes to lines of text, as a stream, and every line's `file:line`.

How the bytes are text is the business of `text_form`. A line of more than `LONGEST_LINE` bytes is
an error, so that no file takes the memory.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import AnyStr

from glot_jax.errors import UsageError
from glot_jax.file_formats.byte_streams import disk_errors, read_chunks
from glot_jax.file_formats.encoding_guess import proposed_encoding
from glot_jax.file_formats.quoting import because
from glot_jax.file_formats.text_form import TextForm
from glot_jax.moved import moved_name

LONGEST_LINE = 1 << 28
"""Bytes, or characters where an encoding has no bytes for a line end: 256 MiB."""


def read_lines(path: Path, form: TextForm) -> Iterator[tuple[str, str]]:
    """Yield location and text of every line, its end included.

    Raises:
        UsageError: with `file:line`, for bytes that are not text, for a line without an end in
            sight, for a disk that fails.
    """
    number = 0
    with disk_errors(path, lambda: f"line {number}"):
        if not form.is_split_as_bytes:
            lines = _split(path, read_text(path, form), form.end, "".join)
            for number, line in enumerate(lines, 1):
                yield f"{path}:{number}", line
            return
        # Cut as bytes and decoded one by one, so that a byte that is not text has a line number.
        encoding = form.encoding
        raw_lines = _split(path, _unmarked(path, form), form.end.encode(), b"".join)
        for number, raw in enumerate(raw_lines, 1):
            try:
                line = raw.decode(encoding)
            except UnicodeError as error:
                raise _not_text(path, form, number, _line_reason(error)) from error
            yield f"{path}:{number}", line


def read_text(path: Path, form: TextForm) -> Iterator[str]:
    """Yield the file's text in pieces, as they are decoded.

    This is for what has no lines, or none that bytes tell.

    Raises:
        UsageError: with `file:line`, for bytes that are not text and for a disk that fails.
    """
    # Incremental: a character may be cut by the end of a chunk.
    decoder = codecs.getincrementaldecoder(form.encoding)()
    number = 1
    # A function of the moment: the line that was reached when the error came.
    with disk_errors(path, lambda: f"line {number}"):
        try:
            for chunk in _unmarked(path, form):
                text = decoder.decode(chunk)
                yield text
                number += text.count(form.end)
            yield decoder.decode(b"", final=True)
        except UnicodeError as error:
            before = ""
            if isinstance(error, UnicodeDecodeError):
                # The piece is not counted yet: its lines before the wrong byte are.
                before = error.object[: error.start].decode(form.encoding, "replace")
            number += before.count(form.end)
            raise _not_text(path, form, number, _reason(error)) from error


def holds(path: Path, form: TextForm, character: str) -> bool:
    """Tell whether the file has that ASCII character, faster than by lines.

    The answer is True where bytes do not tell.
    """
    if not form.is_split_as_bytes:
        return True
    mark = character.encode(form.encoding)
    with disk_errors(path, lambda: "line 0"):
        return any(mark in chunk for chunk in read_chunks(path))


def _unmarked(path: Path, form: TextForm) -> Iterator[bytes]:
    """The file's bytes after its mark, which an archive may give in pieces."""
    skip = form.mark
    for chunk in read_chunks(path):
        if skip < len(chunk):
            # No copy of the chunk where there is no mark, which is nearly always.
            yield chunk[skip:] if skip else chunk
        skip = max(0, skip - len(chunk))


def _split(
    path: Path,
    pieces: Iterator[AnyStr],
    end: AnyStr,
    join: Callable[[list[AnyStr]], AnyStr],
) -> Iterator[AnyStr]:
    """Lines of str or bytes with their ends.

    The last one has no end if the file does not end in one.
    """
    # A line that spans many pieces is joined once: added up piece by piece, a line of 256 MiB
    # would be copied a thousand times.
    open_line: list[AnyStr] = []
    length = 0
    number = 0
    for piece in pieces:
        first, *lines = piece.split(end)
        open_line.append(first)
        length += len(first)
        if length > LONGEST_LINE:
            raise UsageError(
                rule="a line must be at most 256 MiB",
                got=f"{path}:{number + 1}: more than {LONGEST_LINE:,} bytes without a line end",
                fix="Look at what the file holds.",
            )
        # No line end in this piece: the line goes on in the next one.
        if not lines:
            continue
        yield join(open_line) + end
        for line in lines[:-1]:
            yield line + end
        number += len(lines)
        open_line = [lines[-1]]
        length = len(lines[-1])
    last = join(open_line)
    # What ends in CRLF, though its lines end in CR, has no further line.
    is_rest_of_crlf = end in ("\r", b"\r") and last in ("\n", b"\n")
    if length and not is_rest_of_crlf:
        yield last


def _reason(error: UnicodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return error.reason
    # Some codecs raise the bare class.
    return because(error)


def _line_reason(error: UnicodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"{error.reason} at byte {error.start} of the line"
    return because(error)


def _not_text(
    path: Path,
    form: TextForm,
    number: int,
    reason: str,
) -> UsageError:
    rule = f"the text of this file must be {form.encoding}"
    if form.encoding == "utf-8":
        rule = "text files must be UTF-8"
    # The file is read once more, which only a file that is refused costs.
    name = proposed_encoding(lambda: read_chunks(path), form.encoding)
    fix = f"It decodes as {name}: check the text. Convert it to UTF-8, or give --encoding {name}."
    if name == "utf-8":
        fix = "It can be read as UTF-8: leave out --encoding."
    return UsageError(
        rule=rule,
        got=f"{path}:{number}: {reason}",
        fix=fix,
    )


_MOVED = {
    "check_encoding": "file_formats.text_form",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)
