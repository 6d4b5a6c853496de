"""The bytes of a data file, a chunk at a time: plain, gzip or Zstandard, by their first bytes.

| what is wrong                                     | what the one UsageError names            |
|---------------------------------------------------|------------------------------------------|
| a link to nothing, a folder                       | where the link points                    |
| something else in place of the data               | what it is (`file_kinds`)                |
| an archive that is cut off or damaged             | what its library says                    |
| an archive that unpacks to far more than text can | the ratio                                |
| a disk that fails                                 | the line that was reached                |

Nothing here keeps more than a few chunks in memory. An archive is refused as soon as `WINDOW` bytes
of it unpack to more than `FLOOR`: text compresses 3 to 20 times, the most repetitive tables a few
hundred times.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from glot_jax.errors import UsageError
from glot_jax.file_formats.file_kinds import HEAD, refuse_other_kinds
from glot_jax.file_formats.quoting import because
from glot_jax.file_formats.records import extract_extra

CHUNK = 1 << 18
"""Bytes that are read, or unpacked, at a time."""
WINDOW = 1 << 17
"""Bytes of an archive over which its ratio is taken."""
FLOOR = 1 << 26
"""Bytes to which `WINDOW` bytes of an archive may unpack: 512 times as many."""


def require_data_file(path: Path) -> None:
    """Check that there is a file with data, before anything of it is read.

    Raises:
        UsageError: a link to nothing, a folder, or something else in place of the data.
        OSError: the disk failed.
    """
    # A link to nothing does not exist either, and its target says more than that.
    if path.is_symlink() and not path.exists():
        raise UsageError(
            rule="a data file must exist",
            got=f"{path}, a link to {os.readlink(path)}, where nothing is",
            fix="Fetch the data (dvc pull, git annex get) or mend the link.",
        )
    if not path.exists():
        raise UsageError(
            rule="a data file must exist",
            got=f"{path}, which does not exist",
            fix="Check the path.",
        )
    if not path.is_file():
        raise UsageError(
            rule="a data file must be a file",
            got=f"{path}, which is not one",
            fix="Name a file in it.",
        )
    with path.open("rb") as file:
        refuse_other_kinds(path, file.read(HEAD))
    _probe(path)


def _probe(path: Path) -> None:
    """Unpack the first `WINDOW` bytes of an archive.

    One that holds nothing but line ends is so refused before they are counted, which takes long.
    """
    ratio = _Ratio(path)
    for _ in _chunks(path, ratio):
        # Nothing is taken of a plain file: it has no ratio.
        if ratio.total > WINDOW or not ratio.total:
            return


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the file's content, unpacked, in pieces of at most a few megabytes; none is empty.

    Raises:
        UsageError: see the table of this module.
        OSError: the disk failed; `disk_errors` makes a UsageError of it.
    """
    return _chunks(path, _Ratio(path))


@contextmanager
def disk_errors(path: Path, reached: Callable[[], str]) -> Iterator[None]:
    """Turn the disk's errors into a UsageError that says how far reading had come.

    Args:
        path: the file that is read.
        reached: what has been read when the error comes, for example "line 7".
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            rule="the files of --data must be readable",
            got=f"{path}, after {reached()}: {because(error)}",
            fix="Check the disk and the file's permissions.",
        ) from error


def _chunks(path: Path, ratio: _Ratio) -> Iterator[bytes]:
    with path.open("rb") as file:
        head = file.read(HEAD)
        # Asked again here: between two passes the file may have become another one.
        refuse_other_kinds(path, head)
        file.seek(0)
        # By content: people decompress a file and keep its name, or the other way round.
        for magic, unpack in _ARCHIVES.items():
            if head.startswith(magic):
                yield from unpack(path, file, ratio)
                return
        suffix = path.suffix.lower()
        if suffix in (".gz", ".zst") and head:
            raise UsageError(
                rule=f"a {suffix} file must be compressed",
                got=f"{path}, whose first bytes are of another kind",
                fix="Fetch it again, or rename it.",
            )
        while chunk := file.read(CHUNK):
            yield chunk


class _Ratio:
    """Counts what goes in and what comes out; UsageError where it cannot be text."""

    def __init__(self, path: Path):
        self._path = path
        self._taken = 0
        self._unpacked = 0
        # All of it, not only of this window: `_probe` stops by it.
        self.total = 0
        """Bytes of the archive that have been taken."""

    def take(self, size: int) -> None:
        self.total += size
        self._taken += size
        # A window of its own for every stretch: a bomb behind honest rows would hide in the mean.
        if self._taken > WINDOW:
            self._taken = size
            self._unpacked = 0

    def give(self, size: int) -> None:
        self._unpacked += size
        # Compared while it comes out: what is too much is never held.
        if self._unpacked > FLOOR:
            raise UsageError(
                rule="a compressed data file must hold text",
                got=f"{self._path}: {self._taken:,} bytes of it unpack to more than "
                f"{self._unpacked:,}",
                fix="Look at what it holds, and unpack it by hand.",
            )


def _gzip(
    path: Path,
    file: BinaryIO,
    ratio: _Ratio,
) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    try:
        while packed := file.read(CHUNK // 4):
            ratio.take(len(packed))
            while packed:
                # The second argument bounds what one call may unpack to.
                chunk = member.decompress(packed, CHUNK)
                packed = member.unconsumed_tail
                if chunk:
                    ratio.give(len(chunk))
                    yield chunk
                if member.eof:
                    # A file may hold several members, and be padded with zeros.
                    packed = member.unused_data.lstrip(b"\0")
                    if packed:
                        member = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        raise _damaged(path, because(error)) from error
    # zlib itself says nothing of a stream that has no end.
    if not member.eof:
        raise _damaged(path, "it ends in the middle")


def _zstandard(
    path: Path,
    file: BinaryIO,
    ratio: _Ratio,
) -> Iterator[bytes]:
    # Not in Python's own library before 3.14.
    zstandard = extract_extra("zstandard")
    frame = zstandard.ZstdDecompressor().decompressobj()
    is_frame_new = True
    try:
        # A kilobyte unpacks to 32 MiB at most, so that no single call takes the memory.
        while packed := file.read(1 << 10):
            ratio.take(len(packed))
            while packed:
                chunk = frame.decompress(packed)
                is_frame_new = False
                packed = b""
                if chunk:
                    ratio.give(len(chunk))
                    yield chunk
                if frame.eof:
                    packed = frame.unused_data
                    frame = zstandard.ZstdDecompressor().decompressobj()
                    is_frame_new = True
    except zstandard.ZstdError as error:
        raise _damaged(path, because(error)) from error
    # `eof` is that of the frame before: a frame of which nothing has come has not been cut off.
    if not is_frame_new:
        raise _damaged(path, "it ends in the middle")


def _damaged(path: Path, reason: str) -> UsageError:
    return UsageError(
        rule="a compressed data file must be whole and undamaged",
        got=f"{path}: {reason}",
        fix="Fetch or write it again.",
    )


Unpacker = Callable[[Path, BinaryIO, _Ratio], Iterator[bytes]]
_ARCHIVES: dict[bytes, Unpacker] = {
    b"\x1f\x8b": _gzip,
    b"\x28\xb5\x2f\xfd": _zstandard,
    # Frames that a reader skips, as pzstd puts them first.
    **{bytes([0x50 + index]) + b"\x2a\x4d\x18": _zstandard for index in range(16)},
}
"""First bytes of a compressed file -> how it is unpacked.

No text in UTF-8 or UTF-16 begins with them, so the name of the file need not say it.
"""
