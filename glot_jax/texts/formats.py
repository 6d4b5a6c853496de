"""The file formats of `--data` and the Hub, each read as a stream of records that know where they stand.

| suffix   | text                                                   | a label has      | a record's place |
|----------|--------------------------------------------------------|------------------|------------------|
| .jsonl   | UTF-8, one JSON object a line, blank lines skipped     | its JSON type    | file:line        |
| .csv     | UTF-8, a header, RFC 4180 quotes, blank lines skipped  | no type: a field | file:line        |
| .tsv     | UTF-8, a header, tabs, and no quoting of any kind      | no type: a field | file:line        |
| .parquet | Arrow's                                                | its Arrow type   | file:row 1 ...   |

A name stands for one column only: a second one of the same name is an error, in a JSON object too. A damaged Parquet page
is noticed where its writer stored checksums. A .tsv has no quoting because GLUE's own files hold lone quotation marks; so a field there cannot hold a tab or a line
break. A blank line is skipped there too, unless the file has one column only: then it is an empty text. A byte-order
mark and CRLF are accepted. Nothing here keeps more than one batch of rows in memory.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from glot_jax.config import UsageError, require
from glot_jax.texts.tasks import TaskSpec
from glot_jax.texts.written import because, encodes, listed, plain, shown

BATCH_ROWS = 256
"""Rows of a Parquet file or a Hub data set that are held at once."""


class Record(NamedTuple):
    """One row as it is written."""

    place: str
    """`file:line`, for messages."""
    values: Mapping[str, Any]
    columns: Sequence[str]
    """Names of the columns there are, also of those that were not read."""


@dataclass(frozen=True)
class Source:
    """A split that can be read any number of times.

    `name` is the file or data set, for messages; `typed` tells whether a label has a type or only a spelling;
    `read(wanted)` yields the records, with those of the `wanted` columns that there are.
    """

    name: str
    typed: bool
    read: Callable[[Sequence[str]], Iterator[Record]]


def file_sources(folder: Path, spec: TaskSpec) -> dict[str, Source]:
    """The task's splits that `folder` has a file for, in the task's order; other files are left alone.

    UsageError if there is no such folder, no file for any split, or two files for one.
    """
    require(folder.is_dir(), "--data is a folder", folder, f"Give a folder with {_expected(spec)}.")
    sources = {}
    for split, _ in spec.splits:
        found = [path for suffix in FORMATS if (path := folder / f"{split}.{suffix}").is_file()]
        require(len(found) < 2, "a split is one file", " and ".join(map(str, found)), "Keep one of them.")
        for path in found:
            sources[split] = _file_source(path)
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
    fix = "Rename the files or give another folder."
    require(bool(sources), f"--data holds {_expected(spec)}", f"{folder} with {there}", fix)
    return sources


def hub_sources(spec: TaskSpec) -> dict[str, Source]:
    """The task's splits on the Hub. Whatever keeps them from being loaded is a UsageError that names `--data`."""
    columns = ", ".join([*spec.text_columns, *filter(None, [spec.label_column])])
    local = f"Pass --data DIR with {_expected(spec)}" + (f", columns: {columns}." if columns else ".")
    if spec.hub is None:
        raise UsageError(f"task {spec.name} reads local files", "no --data", local)
    datasets = _extract_extra("datasets")
    repository, subset = spec.hub
    sources = {}
    for split, hub_name in spec.splits:
        try:
            rows = datasets.load_dataset(repository, subset, split=hub_name)
        except Exception as error:  # its failures share no base class: connection, offline mode, missing, gated, disk
            got = f"{type(error).__name__}: {error}"
            raise UsageError(f"without --data, {repository} is loaded from the Hub", got, local) from error
        sources[split] = _hub_source(rows, "/".join(filter(None, [repository, subset, hub_name])))
    return sources


def require_columns(wanted: Iterable[str], there: Sequence[str], place: str) -> None:
    """UsageError that names the missing columns and those there are."""
    missing = [column for column in wanted if column not in there]
    if missing:
        found = listed(there) or "none"
        raise UsageError(f"column {', '.join(map(repr, missing))} is missing", place, f"Columns there: {found}.")


def require_text(text: Any, column: str, place: str) -> None:
    """UsageError for what is no string, or none that can be stored. An empty text is one."""
    if not isinstance(text, str):
        got = f"{place}: {plain(column)} = {shown(text)}"
        raise UsageError("a text is a string", got, 'Correct or drop the row; an empty text is "".')
    if not encodes(text):
        got = f"{place}: {plain(column)} holds half of a surrogate pair"
        raise UsageError("a text can be written as UTF-8", got, "Correct the row.")


def _expected(spec: TaskSpec) -> str:
    return f"{{{','.join(split for split, _ in spec.splits)}}}.{{{','.join(FORMATS)}}}"


def _file_source(path: Path) -> Source:
    suffix = path.suffix[1:]
    return Source(str(path), suffix not in ("csv", "tsv"), lambda wanted: FORMATS[suffix](path, wanted))


def _hub_source(rows: Any, name: str) -> Source:
    def read(wanted: Sequence[str]) -> Iterator[Record]:
        names = rows.column_names
        # A table read without any column would forget how many rows it has.
        number, table = 0, rows.select_columns([name for name in names if name in wanted] or names)
        for batch in table.iter(batch_size=BATCH_ROWS):
            for values in zip(*batch.values(), strict=True):
                number += 1
                yield Record(f"{name}:row {number}", dict(zip(batch, values, strict=True)), names)

    return Source(name, True, read)


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Place and text of every line, its end included. Lines end at LF only: a text may hold any other separator."""
    number = 0
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                yield f"{path}:{number}", raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        got = f"{path}:{number}: {error.reason} at byte {error.start} of the line"
        raise UsageError("text files are UTF-8", got, "Convert the file to UTF-8.") from error
    except OSError as error:
        got = f"{path}, after line {number}: {because(error)}"
        raise UsageError("the files of --data can be read", got, "Check the disk and the file's permissions.") from error


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


def _jsonl(path: Path, wanted: Sequence[str]) -> Iterator[Record]:
    rule, fix = "a .jsonl file holds one JSON object a line", "Correct the line."
    for place, line in _lines(path):
        if not line.strip():
            continue
        try:
            # Raw control characters, NUL among them, are text too.
            values = json.loads(line, strict=False, object_pairs_hook=_object)
        except json.JSONDecodeError as error:  # its own line number is always 1 or 2
            raise UsageError(rule, f"{place}: {error.msg} at character {error.pos + 1} of the line", fix) from error
        except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets in thousands
            raise UsageError(rule, f"{place}: {because(error)}", fix) from error
        require(isinstance(values, dict), rule, f"{place}: {type(values).__name__}", fix)
        if isinstance(values, _Repeated):
            _require_unique(values.names, place)
        yield Record(place, values, list(values))


def _csv(path: Path, wanted: Sequence[str]) -> Iterator[Record]:
    csv.field_size_limit(2**31 - 1)  # the default of 128 KiB is shorter than some texts
    return _table(path, _csv_rows(path))


def _csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    rows = csv.reader((line for _, line in _lines(path)), strict=True)
    while True:
        place = f"{path}:{rows.line_num + 1}"  # where the row begins: a quoted field may span lines
        try:
            yield place, next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            fix = "Put a field with quotes or line breaks in quotes, and double the quotes inside."
            # "... - do you need to open the file with newline=''?" is advice for programmers.
            got = f"{place}: {str(error).partition(' - ')[0]}"
            raise UsageError("a .csv file follows RFC 4180", got, fix) from error


def _tsv(path: Path, wanted: Sequence[str]) -> Iterator[Record]:
    lines = ((place, line.removesuffix("\n").removesuffix("\r")) for place, line in _lines(path))
    return _table(path, ((place, line.split("\t")) for place, line in lines))


def _table(path: Path, rows: Iterator[tuple[str, list[str]]]) -> Iterator[Record]:
    """Records of a file whose first row is its header."""
    place, header = next(rows, (str(path), []))
    _require_unique(header, place)
    blank = [[]] if len(header) == 1 or path.suffix == ".csv" else [[], [""]]
    for place, fields in rows:
        if fields in blank:
            continue
        if len(fields) != len(header):
            got = f"{place}: {len(fields)} fields, the header has {len(header)} ({listed(header)})"
            fix = "Correct the row; look for stray separators and quotes."
            raise UsageError("a row has one field for each column", got, fix)
        yield Record(place, dict(zip(header, fields, strict=True)), header)


def _parquet(path: Path, wanted: Sequence[str]) -> Iterator[Record]:
    parquet, number, rule = _extract_extra("pyarrow.parquet"), 0, "a .parquet file can be read by pyarrow"
    try:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
            _require_unique(names, str(path))
            # Columns that nobody wants are not decoded: their types are their own business.
            present = [name for name in names if name in wanted]
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=present) if present else ():
                for values in _values(batch, path, number):
                    number += 1
                    yield Record(f"{path}:row {number}", values, names)
            if not present:
                yield from (Record(f"{path}:row {row}", {}, names) for row in range(1, rows + 1))
    except UsageError:
        raise
    except Exception as error:  # pyarrow's own errors, OverflowError, KeyError: a damaged file has many ways to fail
        raise UsageError(rule, f"{path} after row {number}: {because(error)}", "Write it again.") from error
    require(not present or number == rows, rule, f"{path} after row {number}: no more, but {rows} announced", "Write it again.")


def _values(batch: Any, path: Path, before: int) -> list[dict[str, Any]]:
    """The batch's rows, which follow `before` others. UsageError with the row of a value that Python cannot hold."""
    try:
        return batch.to_pylist()
    except Exception:
        for row in range(batch.num_rows):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                try:
                    column[row].as_py()
                except Exception as error:  # OverflowError, UnicodeDecodeError, ArrowInvalid ...
                    got = f"{path}:row {before + row + 1}: {plain(name)}: {because(error)}"
                    fix = "Correct the value, or store the column as strings or numbers."
                    raise UsageError("a value of a .parquet file can be read", got, fix) from error
        raise


def _require_unique(names: Sequence[str], place: str) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    got = f"{place}: {listed(twice, spell=shown)} more than once"
    require(not twice, "column names are unique", got, "Rename the columns.")


def _extract_extra(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        rule = f"this needs the package {module.partition('.')[0]}"
        raise UsageError(rule, str(error), "Run: pip install 'glot-jax[extract]'.") from error


FORMATS: dict[str, Callable[[Path, Sequence[str]], Iterator[Record]]] = {
    "jsonl": _jsonl, "csv": _csv, "tsv": _tsv, "parquet": _parquet,
}
"""Suffix -> reader of the whole file."""
