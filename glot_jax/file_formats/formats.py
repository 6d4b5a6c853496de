"""The file formats of every option that takes a file of texts, behind one function: `open_file`.

| suffix                | text                                       | typed | location   |
|-----------------------|--------------------------------------------|-------|------------|
| .jsonl .ndjson .json  | `json_rows`: an object a line, or an array | yes   | file:line  |
| .csv                  | `tables`: a header, RFC 4180's quotes      | no    | file:line  |
| .tsv .tab .txt        | `tables`: a header, tabs, quotes if it has | no    | file:line  |
| .txt without a header | a text a line, for one column "text"       | none  | file:line  |
| .parquet              | Arrow's                                    | yes   | file:row 1 |

All but the last may be compressed: .gz, .zst (`byte_streams`). `text_form` says what is text;
`labels` what a type does for a label. Nothing here keeps more than one batch of rows in memory, and
a source can be read any number of times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from glot_jax.errors import UsageError, lookup
from glot_jax.file_formats.byte_streams import disk_errors, require_data_file
from glot_jax.file_formats.glue_files import NO_LAYOUT, GlueLayout
from glot_jax.file_formats.json_rows import json_records
from glot_jax.file_formats.parquet_rows import parquet_records
from glot_jax.file_formats.records import Columns, Record, Records, Source
from glot_jax.file_formats.tables import open_table
from glot_jax.file_formats.text_form import find_text_form
from glot_jax.file_formats.text_lines import read_lines

COMPRESSED = ("gz", "zst")
"""Suffixes of compressed files."""


@dataclass(frozen=True)
class Reading:
    """What is known about a file before it is opened."""

    encoding: str | None = None
    """The encoding of text files without a byte-order mark; None: UTF-8."""
    columns: tuple[str, ...] = ()
    """Names by which a table's header is recognised."""
    layout: GlueLayout = NO_LAYOUT
    """What GLUE's own files call these columns."""
    label: str | None = None
    """The column of the labels, if a label may be a number with a decimal comma."""
    arrays: bool = False
    """Whether a row of JSON may be an array."""
    lines: bool = False
    """Whether a .txt without these columns has a text a line."""


def name_parts(name: str) -> tuple[str, str, str]:
    """Cut a file's name into what it is called, its format and its compression.

    The latter two have no dot and are in lower case; each is empty where there is none.

    >>> name_parts("dev.TSV"), name_parts("train.jsonl.gz"), name_parts("README")
    (('dev', 'tsv', ''), ('train', 'jsonl', 'gz'), ('README', '', ''))
    """
    stem, suffix = _cut(name)
    compression = ""
    # The suffix before it is the format: of train.csv.gz that is csv.
    if suffix in COMPRESSED:
        compression = suffix
        stem, suffix = _cut(stem)
    return stem, suffix, compression


def _cut(name: str) -> tuple[str, str]:
    # The last dot: texts.v2.csv has the suffix csv.
    stem, _, suffix = name.rpartition(".")
    # `.csv` is a hidden file of that name, and has no suffix.
    if stem:
        return stem, suffix.lower()
    return name, ""


def is_data_name(name: str) -> bool:
    """Tell whether a file's name says that it can be read here."""
    _, suffix, compression = name_parts(name)
    is_packed_parquet = suffix == "parquet" and compression != ""
    return suffix in OPENERS and not is_packed_parquet


def open_file(path: Path, reading: Reading) -> Source:
    """Look through a file of rows for its encoding and its dialect, and make a source of it.

    Raises:
        UsageError: a format that is none of these, a file that is not there or is broken; with
            `file:line` where there is one.
    """
    _, suffix, compression = name_parts(path.name)
    # By name and not by content: the same bytes are rows in one format and lines in another.
    opener = lookup(OPENERS, suffix, "format of a data file, its suffix")
    if suffix == "parquet" and compression:
        # Its pages are compressed each, so that single columns can be read.
        raise UsageError(
            rule="a .parquet file must not be compressed as a whole",
            got=path,
            fix="Unpack it.",
        )
    return opener(path, suffix, reading)


def _open_json(path: Path, suffix: str, reading: Reading) -> Source:
    form = find_text_form(path, reading.encoding)

    def read(_: Columns) -> Records:
        return json_records(path, suffix, form, arrays=reading.arrays)

    return Source(
        name=str(path),
        typed=True,
        read=read,
    )


def _open_table(path: Path, suffix: str, reading: Reading) -> Source:
    form = find_text_form(path, reading.encoding)
    return open_table(path, suffix, form, reading.columns, reading.layout, reading.label)


def _open_txt(path: Path, suffix: str, reading: Reading) -> Source:
    """A table, or a text a line where that is all that is asked for."""
    if reading.lines:
        # A .txt is a table where its first line names the columns, as in GLUE.
        header = _first_line(path, reading).split("\t")
        # One column of texts, and no label: only then can a line be the whole row.
        if not reading.layout.fits(header, reading.columns):
            source = open_text(path, reading.encoding, reading.columns[0])
            source.remarks["lines"] = (
                f"{path}: its first line names no columns, so every line is a text"
            )
            return source
    return _open_table(path, suffix, reading)


def _first_line(path: Path, reading: Reading) -> str:
    lines = read_lines(path, find_text_form(path, reading.encoding))
    _, line = next(lines, ("", ""))
    return line.rstrip("\r\n")


def open_text(
    path: Path,
    encoding: str | None = None,
    column: str = "text",
) -> Source:
    """Make a source of a file with a text a line, the empty ones too, as its one column."""
    form = find_text_form(path, encoding)

    def read(_: Columns) -> Records:
        # A blank line is a text too: vectors are written in the order of the lines.
        for location, line in read_lines(path, form):
            yield Record(location, {column: line.rstrip("\r\n")}, [column])

    return Source(
        name=str(path),
        typed=False,
        read=read,
    )


def _open_parquet(path: Path, suffix: str, reading: Reading) -> Source:
    # It says itself what it holds: there is nothing to look for.
    del suffix, reading
    with disk_errors(path, lambda: "row 0"):
        require_data_file(path)

    def read(columns: Columns) -> Records:
        return parquet_records(path, columns)

    return Source(
        name=str(path),
        typed=True,
        read=read,
    )


Opener = Callable[[Path, str, Reading], Source]
OPENERS: dict[str, Opener] = {
    "jsonl": _open_json,
    "csv": _open_table,
    "tsv": _open_table,
    "parquet": _open_parquet,
    "ndjson": _open_json,
    "json": _open_json,
    "tab": _open_table,
    "txt": _open_txt,
}
"""Suffix -> what looks through the file and gives its source."""


def _records(path: Path, columns: Columns) -> Records:
    return open_file(path, Reading(columns=tuple(columns))).read(columns)


FORMATS: dict[str, Callable[[Path, Columns], Records]] = {
    "jsonl": _records,
    "csv": _records,
    "tsv": _records,
    "parquet": _records,
}
"""The formats that a folder is searched for by their suffix alone -> records of some columns."""
