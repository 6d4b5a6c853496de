"""What stands in place of the data, by a file's first bytes and whatever its name says.

People fetch a page that tells them to log in, a pointer of Git LFS or the spreadsheet itself, and
call it train.csv. Each of these ends in one error that says what the file is; as text it would end
in one about an encoding, or in none.
"""

from __future__ import annotations

import re
from pathlib import Path

from glot_jax.errors import UsageError

HEAD = 512
"""Bytes that tell what a file is."""

_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = b"/annex/objects/"
# A mark and line breaks may stand before the tag, as some servers send them.
_PAGE = re.compile(rb"(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
# The letters alone may begin the name of a column; a page's or the footer's Thrift header follows
# them in every file.
_PARQUET = b"PAR1\x15"

_EXPORT = "Export it as .csv, in UTF-8."
_UNPACK = "Unpack it, or pack it as .gz or .zst."
_KINDS: dict[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("a zip archive, as .xlsx and .ods files are", f"{_EXPORT} Or unpack it."),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("an old .xls file", _EXPORT),
    _PARQUET: ("a Parquet file", "Rename it to .parquet."),
    b"ARROW1\0\0": ("an Arrow file", "Write it as .parquet."),
    b"\x93NUMPY": ("a NumPy array", _EXPORT),
    b"SQLite format 3\0": ("an SQLite database", _EXPORT),
    b"%PDF-": ("a PDF", _EXPORT),
    b"\xfd7zXZ\0": ("an xz archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", _UNPACK),
}
"""First bytes of what is not text -> what it is, and what to do."""
_RULES = {
    ".parquet": "a .parquet file must be a Parquet file",
    ".gz": "a .gz file must be compressed by gzip",
    ".zst": "a .zst file must be compressed by Zstandard",
}
"""Suffix of a file that is not text -> the rule that it breaks by being something else."""


def refuse_other_kinds(path: Path, head: bytes) -> None:
    """Raise UsageError if the file's first `HEAD` bytes are those of something that is not data."""
    _refuse_stand_ins(path, head)
    # Of train.csv.gz this is .gz: what is unpacked from it is not looked at.
    suffix = path.suffix.lower()
    if suffix == ".parquet" and head.startswith(_PARQUET):
        return
    rule = _RULES.get(suffix, f"a {suffix} file must be text")
    for magic, (kind, fix) in _KINDS.items():
        if head.startswith(magic):
            raise UsageError(
                rule=rule,
                got=f"{path}:1: {kind}, by its first bytes",
                fix=fix,
            )
    # A level stands between the letters and the magic number, so that no prefix tells them.
    if _BZIP2.match(head):
        raise UsageError(
            rule=rule,
            got=f"{path}:1: a bzip2 archive, by its first bytes",
            fix=_UNPACK,
        )


def _refuse_stand_ins(path: Path, head: bytes) -> None:
    """Raise UsageError for what says where the data are instead of holding them."""
    rule = "a data file must hold data"
    if head.startswith(_LFS):
        raise UsageError(
            rule=rule,
            got=f"{path}, a Git LFS pointer in place of the data",
            fix="Run: git lfs pull",
        )
    if head.startswith(_ANNEX):
        raise UsageError(
            rule=rule,
            got=f"{path}, a git-annex pointer in place of the data",
            fix="Run: git annex get",
        )
    if _PAGE.match(head):
        # What a server answers instead of the file: its text would read as a table of one column.
        raise UsageError(
            rule=rule,
            got=f"{path}:1: an HTML page",
            fix="Fetch the file itself: its raw or download link.",
        )
