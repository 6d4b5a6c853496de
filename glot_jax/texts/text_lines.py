"""From bytes to text, as a stream: encoding, byte-order mark, line ends, and every line's place.

| the file                        | its encoding                                     |
|---------------------------------|--------------------------------------------------|
| begins with a byte-order mark   | UTF-8, UTF-16 or UTF-32, as the mark says        |
| else, with `--encoding NAME`    | NAME                                             |
| else                            | UTF-8                                            |

Lines end at LF, CRLF and CRCRLF included: a text may hold any other separator. Where the first one
ends at CR, and the others mostly do, all of them do, as old Macs wrote them. A line of more than
`LONGEST_LINE` bytes is an error.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from itertools import chain
from pathlib import Path
from typing import Any

from glot_jax.errors import UsageError, require
from glot_jax.texts.byte_streams import read_chunks, require_data_file
from glot_jax.texts.encoding_guess import proposed_encoding, wide_encoding
from glot_jax.texts.quoting import because

LONGEST_LINE = 1 << 28
"""Bytes, or characters where an encoding has no bytes for a line end: 256 MiB."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""UTF-32's mark begins with UTF-16's, so it comes first."""
_UNMARKED = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}
"""What Python calls an encoding with a mark -> the same without one."""
_NO_FILES = ("punycode", "idna", "undefined")
"""Codecs of Python for text that no file has."""
_ENDS = re.compile(r'"|\r+\n|\r|\n')
_ENDS_OF_BYTES = re.compile(_ENDS.pattern.encode())


@dataclass(frozen=True)
class TextForm:
    """How a file's bytes are text."""

    encoding: str = "utf-8"
    mark: int = 0
    """Bytes of the byte-order mark."""
    end: str = "\n"
    """What ends a line: LF, or CR."""

    @property
    def is_split_as_bytes(self) -> bool:
        """Whether a line end is the byte that ASCII has for it."""
        return self.end.encode(self.encoding) == self.end.encode("ascii")


def check_encoding(name: str | None) -> None:
    """UsageError for what is no text encoding of Python's, with the one that may be meant."""
    if name is None:
        return
    try:
        known = codecs.lookup(name).name
        if known in _NO_FILES:
            raise LookupError(known)
        "a".encode(name)
    except (LookupError, ValueError, TypeError) as error:
        near = difflib.get_close_matches(
            name.lower().replace("-", "_"), {*aliases, *aliases.values()}, 1
        )
        hint = f"Did you mean {near[0]}? " if near and near[0] != name else ""
        fix = f"{hint}Give for example cp1252, latin-1, utf-16, gb18030 or shift_jis."
        raise UsageError("--encoding is the name of a text encoding", repr(name), fix) from error


def text_form(path: Path, encoding: str | None = None) -> TextForm:
    """How the file is text: its mark, and the line ends found from the whole of it. UsageError as
    `read_chunks`.
    """
    with _reading(path, lambda: 0):
        require_data_file(path)
        stream = read_chunks(path)
        head = b""
        while len(head) < 4096 and (chunk := next(stream, b"")):
            head += chunk
        name, mark = _encoding(path, head, encoding)
        form = TextForm(name, mark)
        ends = _line_end(form, chain([head[mark:]], stream))
        return TextForm(name, mark, ends)


def read_lines(path: Path, form: TextForm) -> Iterator[tuple[str, str]]:
    """Place and text of every line, its end included.

    UsageError with `file:line` for bytes that are no text, for a line without an end in sight, for
    a disk that fails.
    """
    number = 0
    with _reading(path, lambda: number):
        if not form.is_split_as_bytes:
            for number, line in enumerate(_split(path, read_text(path, form), form.end), 1):
                yield f"{path}:{number}", line
            return
        name = form.encoding
        for number, raw in enumerate(_split(path, _unmarked(path, form), form.end.encode()), 1):
            try:
                line = raw.decode(name)
            except UnicodeError as error:
                reason = f"{_why(error)}{_where(error)}"
                raise _no_text(path, form, number, reason) from error
            yield f"{path}:{number}", line


def read_text(path: Path, form: TextForm) -> Iterator[str]:
    """The file's text in pieces, as they are decoded; for what has no lines, or none that bytes
    tell.
    """
    decoder = codecs.getincrementaldecoder(form.encoding)()
    number = 1
    with _reading(path, lambda: number):
        try:
            for chunk in _unmarked(path, form):
                text = decoder.decode(chunk)
                yield text
                number += text.count(form.end)
            yield decoder.decode(b"", final=True)
        except UnicodeError as error:
            before = ""
            if isinstance(error, UnicodeDecodeError):
                before = error.object[: error.start].decode(form.encoding, "replace")
            raise _no_text(path, form, number + before.count(form.end), _why(error)) from error


def holds(path: Path, form: TextForm, character: str) -> bool:
    """Whether the file has that ASCII character, found faster than by lines; True where bytes do
    not tell.
    """
    if not form.is_split_as_bytes:
        return True
    mark = character.encode(form.encoding)
    with _reading(path, lambda: 0):
        return any(mark in chunk for chunk in read_chunks(path))


class _reading:
    """The disk's errors as a UsageError with the line that was reached."""

    def __init__(self, path: Path, line: Callable[[], int]):
        self._path = path
        self._line = line

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            got = f"{self._path}, after line {self._line()}: {because(error)}"
            fix = "Check the disk and the file's permissions."
            raise UsageError("the files of --data can be read", got, fix) from error


def _encoding(path: Path, head: bytes, given: str | None) -> tuple[str, int]:
    for mark, name in _MARKS:
        if head.startswith(mark):
            # A file that was marked again has two.
            twice = head.startswith(mark * 2)
            return name, len(mark) * (1 + twice)
    if given is None:
        wide = wide_encoding(head)
        every = "three of four bytes are" if "32" in (wide or "") else "every second byte is"
        got = f"{path}:1: {every} 0, as in {(wide or '')[:6].upper()}"
        require(wide is None, "text files are UTF-8", got, f"Give --encoding {wide}.")
        return "utf-8", 0
    name = codecs.lookup(given).name
    return _UNMARKED.get(name, name), 0


def _line_end(form: TextForm, pieces: Iterable[bytes]) -> str:
    """CR where the first line ends in it and twice as many others do as in LF, quotes aside."""
    in_quotes = _Ends(form)
    first = ""
    for kind in in_quotes.read(pieces):
        first = first or kind
        if first == "\n":
            return "\n"
    if first:
        return "\r" if in_quotes.outside["\r"] >= 2 * in_quotes.outside["\n"] else "\n"
    # No quotation mark closes before an end: they are characters.
    inside = in_quotes.inside
    return "\r" if inside["\r"] and not inside["\n"] else "\n"


class _Ends:
    """The ends of lines as they come, outside of quotation marks; and how many of each there
    are.
    """

    def __init__(self, form: TextForm):
        self._form = form
        self.outside = {"\r": 0, "\n": 0}
        self.inside = {"\r": 0, "\n": 0}

    def read(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """CR or LF for every end."""
        quoted = False
        for token in self._tokens(pieces):
            if token in ('"', b'"'):
                quoted = not quoted
                continue
            kind = "\n" if token[-1:] in ("\n", b"\n") else "\r"
            (self.inside if quoted else self.outside)[kind] += 1
            if not quoted:
                yield kind

    def _tokens(self, pieces: Iterable[bytes]) -> Iterator[Any]:
        bytewise = self._form.is_split_as_bytes
        decoder = codecs.getincrementaldecoder(self._form.encoding)(errors="replace")
        pattern: Any = _ENDS_OF_BYTES if bytewise else _ENDS
        carriage: Any = b"\r" if bytewise else "\r"
        kept: Any = carriage[:0]
        for piece in pieces:
            text: Any = kept + (piece if bytewise else decoder.decode(piece))
            # The LF that belongs to it may follow in the next piece.
            whole = text.rstrip(carriage)
            kept = text[len(whole) :]
            yield from pattern.findall(whole)
        yield from pattern.findall(kept)


def _unmarked(path: Path, form: TextForm) -> Iterator[bytes]:
    """The file's bytes after its mark, which an archive may give in pieces."""
    skip = form.mark
    for chunk in read_chunks(path):
        if skip < len(chunk):
            yield chunk[skip:] if skip else chunk
        skip = max(0, skip - len(chunk))


def _split(path: Path, pieces: Iterator[Any], end: Any) -> Iterator[Any]:
    """Lines of str or bytes with their ends; the last one has none if the file does not end in
    one.
    """
    nothing = end[:0]
    begun: list[Any] = []
    length = number = 0
    for piece in pieces:
        first, *lines = piece.split(end)
        begun.append(first)
        length += len(first)
        if length > LONGEST_LINE:
            got = f"{path}:{number + 1}: more than {LONGEST_LINE:,} bytes without a line end"
            raise UsageError("a line is at most 256 MiB", got, "Look at what the file holds.")
        if not lines:
            continue
        yield nothing.join(begun) + end
        for line in lines[:-1]:
            yield line + end
        number += len(lines)
        begun = [lines[-1]]
        length = len(lines[-1])
    last = nothing.join(begun)
    # What ends in CRLF, though its lines end in CR, has no further line.
    if length and not (end in ("\r", b"\r") and last in ("\n", b"\n")):
        yield last


def _why(error: UnicodeError) -> str:
    # Some codecs raise the bare class.
    return error.reason if isinstance(error, UnicodeDecodeError) else because(error)


def _where(error: UnicodeError) -> str:
    known = isinstance(error, UnicodeDecodeError)
    return f" at byte {error.start} of the line" if known else ""


def _no_text(path: Path, form: TextForm, number: int, reason: str) -> UsageError:
    got = f"{path}:{number}: {reason}"
    rule = (
        "text files are UTF-8"
        if form.encoding == "utf-8"
        else f"the text of this file is {form.encoding}"
    )
    name = proposed_encoding(lambda: read_chunks(path), form.encoding)
    fix = f"It decodes as {name}: check the text. Convert it to UTF-8, or give --encoding {name}."
    if name == "utf-8":
        fix = "It can be read as UTF-8: leave out --encoding."
    return UsageError(rule, got, fix)
