"""The bytes of a data file, a chunk at a time: plain, gzip or Zstandard, by their first bytes.

| what is not as it should be                       | ends in one UsageError with the file and |
|---------------------------------------------------|------------------------------------------|
| a link to nothing, a folder                       | where the link points                    |
| a Git LFS or git-annex pointer, an HTML page      | how to fetch the data                    |
| a spreadsheet, an archive or a table by its bytes | what it is                               |
| an archive that is cut off or damaged             | what its library says                    |
| an archive that unpacks to far more than text can | the ratio                                |

Nothing here keeps more than a few chunks in memory. An archive is refused as soon as `WINDOW` bytes
of it unpack to more than `FLOOR`: text compresses 3 to 20 times, the most repetitive tables a few
hundred times.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from glot_jax.errors import UsageError, require
from glot_jax.texts.quoting import because
from glot_jax.texts.records import extract_extra

CHUNK = 1 << 18
"""Bytes that are read, or unpacked, at a time."""
WINDOW = 1 << 17
FLOOR = 1 << 26

_HEAD = 512
"""Bytes that tell what a file is."""
_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = b"/annex/objects/"
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_EXPORT = "Export it as .csv, in UTF-8."
_UNPACK = "Unpack it, or pack it as .gz or .zst."
_PARQUET = b"PAR1\x15"
_KINDS: dict[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("a zip archive, as .xlsx and .ods files are", f"{_EXPORT} Or unpack it."),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an old .xls file", _EXPORT),
    # The four letters alone may begin the name of a column; a page's header follows them.
    _PARQUET: ("a Parquet file", "Rename it to .parquet."),
    b"ARROW1\0\0": ("an Arrow file", "Write it as .parquet."),
    b"\x93NUMPY": ("a NumPy array", _EXPORT),
    b"SQLite format 3\0": ("an SQLite database", _EXPORT),
    b"%PDF-": ("a PDF", _EXPORT),
    b"\xfd7zXZ\0": ("an xz archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", _UNPACK),
}
"""First bytes of what is not text -> what it is, and what to do."""
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
_OWN_KINDS = {
    ".parquet": "a .parquet file must be a Parquet file",
    ".gz": "a .gz file must be compressed by gzip",
    ".zst": "a .zst file must be compressed by Zstandard",
}
"""Suffix of a file that is not text -> the rule."""


def require_data_file(path: Path) -> None:
    """UsageError for a link to nothing, for what is no file, and for what is no data. OSError as
    the disk has it.
    """
    if path.is_symlink() and not path.exists():
        got = f"{path}, a link to {os.readlink(path)}, where nothing is"
        raise UsageError(
            "a data file is there",
            got,
            "Fetch the data (dvc pull, git annex get) or mend the link.",
        )
    require(
        path.exists(), "a data file is there", f"{path}, which does not exist", "Check the path."
    )
    require(path.is_file(), "a data file is a file", f"{path}, which is none", "Name a file in it.")
    with path.open("rb") as file:
        _refuse_other_kinds(path, file.read(_HEAD))
    _probe(path)


def _probe(path: Path) -> None:
    """Unpack the first `WINDOW` bytes of an archive: one that holds nothing but line ends is
    refused before they are counted.
    """
    ratio = _Ratio(path)
    for _ in _chunks(path, ratio):
        if ratio.total > WINDOW or not ratio.total:
            return


def read_chunks(path: Path) -> Iterator[bytes]:
    """The file's content, unpacked, in pieces of at most a few megabytes; none is empty.

    UsageError as in the table above; OSError where the disk fails.
    """
    return _chunks(path, _Ratio(path))


def _chunks(path: Path, ratio: _Ratio) -> Iterator[bytes]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
        _refuse_other_kinds(path, head)
        file.seek(0)
        for magic, unpack in _ARCHIVES.items():
            if head.startswith(magic):
                yield from unpack(path, file, ratio)
                return
        suffix = path.suffix.lower()
        named = suffix in (".gz", ".zst")
        rule = f"a {suffix} file is compressed"
        require(
            not named or not head,
            rule,
            f"{path}, whose first bytes are another kind's",
            "Fetch it again, or rename it.",
        )
        while chunk := file.read(CHUNK):
            yield chunk


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    """UsageError where something else stands in place of the data, whatever the name says."""
    rule = "a data file holds data"
    if head.startswith(_LFS):
        got = f"{path}, a Git LFS pointer in place of the data"
        raise UsageError(rule, got, "Run: git lfs pull")
    if head.startswith(_ANNEX):
        got = f"{path}, a git-annex pointer in place of the data"
        raise UsageError(rule, got, "Run: git annex get")
    if _PAGE.match(head):
        fix = "Fetch the file itself: its raw or download link."
        raise UsageError(rule, f"{path}:1: an HTML page", fix)
    suffix = path.suffix.lower()
    if suffix == ".parquet" and head.startswith(_PARQUET):
        return
    rule = _OWN_KINDS.get(suffix, f"a {suffix} file must be text")
    for magic, (kind, fix) in _KINDS.items():
        if head.startswith(magic):
            raise UsageError(rule, f"{path}:1: {kind}, by its first bytes", fix)
    if _BZIP2.match(head):
        raise UsageError(rule, f"{path}:1: a bzip2 archive, by its first bytes", _UNPACK)


class _Ratio:
    """Counts what goes in and what comes out; UsageError where it cannot be text."""

    def __init__(self, path: Path):
        self._path = path
        self._taken = 0
        self._given = 0
        self.total = 0
        """Bytes of the archive that have been taken."""

    def take(self, size: int) -> None:
        self.total += size
        self._taken += size
        if self._taken > WINDOW:
            self._taken = size
            self._given = 0

    def give(self, size: int) -> None:
        self._given += size
        if self._given > FLOOR:
            got = f"{self._path}: {self._taken:,} bytes of it unpack to more than {self._given:,}"
            raise UsageError(
                "a compressed data file holds text",
                got,
                "Look at what it holds, and unpack it by hand.",
            )


def _gzip(path: Path, file: BinaryIO, ratio: _Ratio) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    try:
        while taken := file.read(CHUNK // 4):
            ratio.take(len(taken))
            while taken:
                chunk = member.decompress(taken, CHUNK)
                taken = member.unconsumed_tail
                if chunk:
                    ratio.give(len(chunk))
                    yield chunk
                if member.eof:
                    # A file may hold several members, and be padded with zeros.
                    taken = member.unused_data.lstrip(b"\0")
                    if taken:
                        member = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise _damaged(path, because(error)) from error
    if not member.eof:
        raise _damaged(path, "it ends in the middle")


def _zstandard(path: Path, file: BinaryIO, ratio: _Ratio) -> Iterator[bytes]:
    zstandard = extract_extra("zstandard")
    frame = zstandard.ZstdDecompressor().decompressobj()
    empty = True
    try:
        # A kilobyte unpacks to 32 MiB at most, so that no single call takes the memory.
        while taken := file.read(1 << 10):
            ratio.take(len(taken))
            while taken:
                chunk = frame.decompress(taken)
                empty = False
                taken = b""
                if chunk:
                    ratio.give(len(chunk))
                    yield chunk
                if frame.eof:
                    taken = frame.unused_data
                    frame = zstandard.ZstdDecompressor().decompressobj()
                    empty = True
    except zstandard.ZstdError as error:
        raise _damaged(path, because(error)) from error
    if not empty:
        raise _damaged(path, "it ends in the middle")


def _damaged(path: Path, got: str) -> UsageError:
    return UsageError(
        "a compressed data file can be unpacked", f"{path}: {got}", "Fetch or write it again."
    )


_ARCHIVES: dict[bytes, Callable[[Path, BinaryIO, _Ratio], Iterator[bytes]]] = {
    b"\x1f\x8b": _gzip,
    b"\x28\xb5\x2f\xfd": _zstandard,
    # Frames that a reader skips, as pzstd puts them first.
    **{bytes([0x50 + index]) + b"\x2a\x4d\x18": _zstandard for index in range(16)},
}
"""First bytes of a compressed file, with which no text in UTF-8 or UTF-16 begins -> how it is
unpacked.
"""
