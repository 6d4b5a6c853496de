"""Rows of JSON: an object a line, or one array of objects, which is read as a stream too.

| a file begins with    | it holds                                                               |
|-----------------------|------------------------------------------------------------------------|
| `[{`                  | one array of objects                                                   |
| `[[`, in a .json      | one array of arrays                                                    |
| anything else         | one object a line; in a .json also objects that span lines             |

A row may be an array where the task takes its columns by position: they are called "#0", "#1" and
so on. A name stands for one column only: a second one of the same name is an error.
"""

from __future__ import annotations

import json
from pathlib import Path

from glot_jax.config.json import Json
from glot_jax.errors import UsageError
from glot_jax.file_formats.json_values import JsonValues, RepeatedNames, decode_line
from glot_jax.file_formats.quoting import because
from glot_jax.file_formats.records import Record, Records, require_unique
from glot_jax.file_formats.text_form import TextForm
from glot_jax.file_formats.text_lines import read_lines, read_text

_RULE = "a .jsonl file must hold one JSON object a line"
_FIX = "Correct the line."
_BEGINNING = 4096
"""Characters in which a file's first two that are not blank are looked for."""


def json_records(
    path: Path,
    suffix: str,
    form: TextForm,
    *,
    arrays: bool,
) -> Records:
    """Yield the file's rows.

    Args:
        path: the file.
        suffix: its format, without a dot: json, jsonl or ndjson.
        form: how its bytes are text.
        arrays: whether a row may be an array.

    Raises:
        UsageError: with `file:line`, for what is not JSON and for rows of another kind.
    """
    begin = _beginning(path, form)
    is_array = begin == "[{" or (suffix == "json" and begin == "[[")
    # In a .jsonl an object that spans lines is a mistake, not a style.
    is_spread = suffix == "json" and begin.startswith("{") and not _is_by_line(path, form)
    if is_array or is_spread:
        for location, values in JsonValues(path, form, inside_array=is_array):
            yield _record(values, location, arrays)
        return
    yield from _by_line(path, form, arrays=arrays)


def _beginning(path: Path, form: TextForm) -> str:
    """The first two characters that are not blank.

    There are none where the bytes are not text, which the reading itself will report, with a line.
    """
    begin = ""
    try:
        for text in read_text(path, form):
            # Blanks of any length may stand in front, and a piece may hold nothing else.
            begin += "".join(text[:_BEGINNING].split())[:2]
            if len(begin) >= 2 or len(text) > _BEGINNING:
                break
    except UsageError:
        return ""
    return begin[:2]


def _is_by_line(path: Path, form: TextForm) -> bool:
    """Tell whether the first line that is not blank is a JSON value of its own."""
    # The file may be one line of gigabytes, if it is an object that holds everything.
    first_line = ""
    for _, line in read_lines(path, form):
        if line.strip():
            first_line = line
            break
    try:
        decode_line(first_line)
    except json.JSONDecodeError as error:
        # An error at the very end means that the value goes on in the next line. Any other is an
        # error of this line, and is reported as one.
        return error.pos < len(first_line.rstrip())
    except (ValueError, RecursionError):
        return True
    return True


def _by_line(path: Path, form: TextForm, *, arrays: bool) -> Records:
    for location, line in read_lines(path, form):
        if not line.strip():
            continue
        try:
            values = decode_line(line)
        except json.JSONDecodeError as error:
            # Its own line number is always 1 or 2.
            raise UsageError(
                rule=_RULE,
                got=f"{location}: {error.msg} at character {error.pos + 1} of the line",
                fix=_FIX,
            ) from error
        except (ValueError, RecursionError) as error:
            # An integer of thousands of digits; brackets in thousands.
            raise UsageError(
                rule=_RULE,
                got=f"{location}: {because(error)}",
                fix=_FIX,
            ) from error
        yield _record(values, location, arrays)


def _record(values: Json, location: str, arrays: bool) -> Record:
    if arrays and isinstance(values, list):
        # The names say that these are positions; `query_rows` knows them.
        values = {f"#{index}": value for index, value in enumerate(values)}
    if not isinstance(values, dict):
        raise UsageError(
            rule=_RULE,
            got=f"{location}: {type(values).__name__}",
            fix=_FIX,
        )
    if isinstance(values, RepeatedNames):
        require_unique(values.names, location)
    return Record(location, values, list(values))
