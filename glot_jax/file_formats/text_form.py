"""How the bytes of a file are text: its encoding, its byte-order mark, its line ends.

| the file                        | its encoding                                     |
|---------------------------------|--------------------------------------------------|
| begins with a byte-order mark   | UTF-8, UTF-16 or UTF-32, as the mark says        |
| else, with `--encoding NAME`    | NAME                                             |
| else                            | UTF-8                                            |

Lines end at LF, CRLF and CRCRLF included: a text may hold any other separator. Where the first one
ends at CR, and the others mostly do, all of them do, as old Macs wrote them.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from itertools import chain
from pathlib import Path
from typing import AnyStr

from glot_jax.errors import UsageError
from glot_jax.file_formats.byte_streams import disk_errors, read_chunks, require_data_file
from glot_jax.file_formats.encoding_guess import wide_encoding

_HEAD = 4096
"""Bytes by which an encoding without a mark is recognised."""
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
    """Check that Python has a text encoding of that name; None stands for the default.

    Raises:
        UsageError: it has none; the message proposes the one that may be meant.
    """
    if name is None:
        return
    try:
        # Python finds `UTF8`, `utf_8` and `U8` under one name.
        encoding = codecs.lookup(name).name
        if encoding in _NO_FILES:
            raise LookupError(encoding)
        # Some codecs are for bytes, as base64 is: they are found, and refuse a text.
        "a".encode(name)
    except (LookupError, ValueError, TypeError) as error:
        spellings = {*aliases, *aliases.values()}
        folded = name.lower().replace("-", "_")
        near = difflib.get_close_matches(folded, spellings, 1)
        hint = ""
        if near and near[0] != name:
            hint = f"Did you mean {near[0]}? "
        raise UsageError(
            rule="--encoding must name a text encoding",
            got=repr(name),
            fix=f"{hint}Give for example cp1252, latin-1, utf-16, gb18030 or shift_jis.",
        ) from error


def find_text_form(path: Path, encoding: str | None = None) -> TextForm:
    """Look through a file for its mark and its line ends.

    Args:
        path: the file, compressed or not.
        encoding: what a file without a mark has; None: UTF-8.

    Raises:
        UsageError: a file that is not there, that holds something else, or cannot be read; one
            whose zeros show that it is UTF-16 or UTF-32, though nobody says so.
    """
    with disk_errors(path, lambda: "line 0"):
        require_data_file(path)
        stream = read_chunks(path)
        head = b""
        # An archive gives pieces of any length, the first one perhaps of a byte.
        while len(head) < _HEAD and (chunk := next(stream, b"")):
            head += chunk
        # A mark is believed before --encoding: it is the file's, the option may be another file's.
        name, mark = _encoding(path, head, encoding)
        # What was read for the mark is counted too, and is not read again.
        pieces = chain([head[mark:]], stream)
        return TextForm(name, mark, _line_end(TextForm(name, mark), pieces))


def _encoding(
    path: Path,
    head: bytes,
    chosen: str | None,
) -> tuple[str, int]:
    """The encoding of a file and the bytes of its mark."""
    for mark, name in _MARKS:
        if head.startswith(mark * 2):
            # A file that was marked again has two.
            return name, 2 * len(mark)
        if head.startswith(mark):
            return name, len(mark)
    if chosen is not None:
        name = codecs.lookup(chosen).name
        return _UNMARKED.get(name, name), 0
    wide = wide_encoding(head)
    if wide is not None:
        # As UTF-8 it would decode, to texts with a NUL behind every letter.
        zeros = "three of four bytes are" if "32" in wide else "every second byte is"
        raise UsageError(
            rule="text files must be UTF-8",
            got=f"{path}:1: {zeros} 0, as in {wide[:6].upper()}",
            fix=f"Give --encoding {wide}.",
        )
    return "utf-8", 0


def _line_end(form: TextForm, pieces: Iterable[bytes]) -> str:
    """CR where the first line ends in it and twice as many others do as in LF, quotes aside."""
    census = _EndCensus(form)
    first = ""
    for kind in census.read(pieces):
        first = first or kind
        if first == "\n":
            # All but the files of old Macs: the rest need not be looked at.
            return "\n"
    if first:
        return "\r" if census.outside["\r"] >= 2 * census.outside["\n"] else "\n"
    # No quotation mark closes before an end: they are characters.
    is_only_cr = census.inside["\r"] > 0 and census.inside["\n"] == 0
    return "\r" if is_only_cr else "\n"


class _EndCensus:
    """Counts the ends of lines, those in quotation marks apart."""

    def __init__(self, form: TextForm):
        self._form = form
        self.outside = {"\r": 0, "\n": 0}
        self.inside = {"\r": 0, "\n": 0}

    def read(self, pieces: Iterable[bytes]) -> Iterator[str]:
        """Yield CR or LF for every end outside of quotation marks, as they come."""
        quoted = False
        for token in self._tokens(pieces):
            if token in ('"', b'"'):
                quoted = not quoted
                continue
            kind = "\n" if token[-1:] in ("\n", b"\n") else "\r"
            if quoted:
                self.inside[kind] += 1
                continue
            self.outside[kind] += 1
            yield kind

    def _tokens(self, pieces: Iterable[bytes]) -> Iterator[str | bytes]:
        """Yield the quotation marks and line ends of the file, as str or as bytes."""
        # Bytes are searched as they are wherever that gives the same: decoding is the slow part.
        if self._form.is_split_as_bytes:
            return self._matches(pieces, _ENDS_OF_BYTES, b"\r")
        # What is not text is an error later, with its line; here it has no line ends.
        decoder = codecs.getincrementaldecoder(self._form.encoding)(errors="replace")
        return self._matches(map(decoder.decode, pieces), _ENDS, "\r")

    def _matches(
        self, pieces: Iterable[AnyStr], pattern: re.Pattern[AnyStr], carriage: AnyStr
    ) -> Iterator[AnyStr]:
        kept = carriage[:0]
        for piece in pieces:
            text = kept + piece
            # The LF that belongs to it may follow in the next piece.
            whole = text.rstrip(carriage)
            kept = text[len(whole) :]
            yield from pattern.findall(whole)
        yield from pattern.findall(kept)
