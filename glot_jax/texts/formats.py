"""The file formats of every option that takes a file of texts, behind one function: `open_file`.

| suffix                | text                                       | typed | place      |
|-----------------------|--------------------------------------------|-------|------------|
| .jsonl .ndjson .json  | `json_rows`: an object a line, or an array | yes   | file:line  |
| .csv                  | `tables`: a header, RFC 4180's quotes      | no    | file:line  |
| .tsv .tab .txt        | `tables`: a header, tabs, quotes if it has | no    | file:line  |
| .txt without a header | a text a line, for one column "text"       | none  | file:line  |
| .parquet              | Arrow's                                    | yes   | file:row 1 |

All but the last may be compressed: .gz, .zst (`byte_streams`). `text_lines` says what is text;
`labels` what a type does for a label. Nothing here keeps more than one batch of rows in memory, and
a source can be read any number of times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glot_jax.errors import UsageError, lookup, require
from glot_jax.texts.byte_streams import require_data_file
from glot_jax.texts.glue_files import NO_LAYOUT, GlueLayout
from glot_jax.texts.json_rows import json_records
from glot_jax.texts.parquet_rows import parquet_records
from glot_jax.texts.quoting import because
from glot_jax.texts.records import Record, Source
from glot_jax.texts.tables import open_table
from glot_jax.texts.text_lines import read_lines, text_form

COMPRESSED = ("gz", "zst")


@dataclass(frozen=True)
class Reading:
    """What a reader is told beforehand."""

    encoding: str | None = None
    """Of text files without a byte-order mark."""
    wanted: tuple[str, ...] = ()
    """Columns by which a table's header is recognised."""
    layout: GlueLayout = NO_LAYOUT
    label: str | None = None
    """The column of the labels."""
    arrays: bool = False
    """Whether a row of JSON may be an array."""
    lines: bool = False
    """Whether a .txt without the wanted columns has a text a line."""


def name_parts(name: str) -> tuple[str, str, str]:
    """What a file is called, its format and its compression, both without a dot and in lower case.

    >>> name_parts("dev.TSV"), name_parts("train.jsonl.gz"), name_parts("README")
    (('dev', 'tsv', ''), ('train', 'jsonl', 'gz'), ('README', '', ''))
    """
    stem, suffix = _cut(name)
    compression = ""
    if suffix in COMPRESSED:
        compression = suffix
        stem, suffix = _cut(stem)
    return stem, suffix, compression


def _cut(name: str) -> tuple[str, str]:
    stem, dot, suffix = name.rpartition(".")
    return (stem, suffix.lower()) if dot and stem else (name, "")


def is_data_name(name: str) -> bool:
    """Whether a file's name says that it can be read here."""
    _, suffix, compression = name_parts(name)
    return suffix in OPENERS and not (suffix == "parquet" and compression)


def open_file(path: Path, reading: Reading) -> Source:
    """A file of rows that has been looked through: its encoding, its dialect.

    UsageError, with `file:line` where there is one, for a format that is none of these and for a
    file that is not there.
    """
    _, suffix, compression = name_parts(path.name)
    opener = lookup(OPENERS, suffix, "format of a data file, its suffix")
    inside = suffix == "parquet" and compression != ""
    require(not inside, "a .parquet file is compressed within", path, "Unpack it.")
    return opener(path, suffix, reading)


def _open_json(path: Path, suffix: str, reading: Reading) -> Source:
    form = text_form(path, reading.encoding)
    return Source(
        str(path), True, lambda wanted: json_records(path, suffix, form, arrays=reading.arrays)
    )


def _open_table(path: Path, suffix: str, reading: Reading) -> Source:
    form = text_form(path, reading.encoding)
    return open_table(path, suffix, form, reading.wanted, reading.layout, reading.label)


def _open_txt(path: Path, suffix: str, reading: Reading) -> Source:
    """A table, or a text a line where that is all that is asked for."""
    if reading.lines:
        header = _first_line(path, reading).split("\t")
        if not reading.layout.fits(header, reading.wanted):
            source = open_text(path, reading.encoding, reading.wanted[0])
            said = "its first line names no columns, so every line is a text"
            source.remarks["lines"] = f"{path}: {said}"
            return source
    return _open_table(path, suffix, reading)


def _first_line(path: Path, reading: Reading) -> str:
    _, line = next(read_lines(path, text_form(path, reading.encoding)), ("", ""))
    return line.rstrip("\r\n")


def open_text(path: Path, encoding: str | None = None, column: str = "text") -> Source:
    """A text a line, the empty ones too, as the one column of a source."""
    form = text_form(path, encoding)

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        for place, line in read_lines(path, form):
            yield Record(place, {column: line.rstrip("\r\n")}, [column])

    return Source(str(path), False, read)


def _open_parquet(path: Path, suffix: str, reading: Reading) -> Source:
    try:
        require_data_file(path)
    except OSError as error:
        got, fix = (
            f"{path}, after row 0: {because(error)}",
            "Check the disk and the file's permissions.",
        )
        raise UsageError("the files of --data can be read", got, fix) from error
    return Source(str(path), True, lambda wanted: parquet_records(path, wanted))


OPENERS: dict[str, Callable[[Path, str, Reading], Source]] = {
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


def _records(path: Path, wanted: Sequence[str]) -> Iterator[Record]:
    return open_file(path, Reading(wanted=tuple(wanted))).read(wanted)


_SEARCHED = ("jsonl", "csv", "tsv", "parquet")
FORMATS: dict[str, Callable[[Path, Sequence[str]], Iterator[Record]]] = dict.fromkeys(
    _SEARCHED, _records
)
"""The formats that a folder is searched for by their suffix alone -> records of the wanted
columns.
"""
