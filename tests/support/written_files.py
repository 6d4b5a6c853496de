"""Files for the tests of the readers, written by somebody else's hand: csv, json, pandas, gzip,
zstandard.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import zstandard

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts import TaskData, open_task

COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
"""What a file's name ends in -> how its bytes are packed."""
LABELLED = {"text_columns": ("text",), "label_column": "label"}


def write_all(folder: Path, files: dict[str, Any]) -> Path:
    """Write {name: str, bytes or rows for JSON lines}; what a name ends in decides how it is
    packed.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        raw = content.encode() if isinstance(content, str) else content
        suffix = path.suffix if path.suffix in COMPRESS else ""
        path.write_bytes(COMPRESS[suffix](raw) if isinstance(content, str) else raw)
    return folder


def table(rows: list[list[Any]], delimiter: str = ",", **dialect: Any) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator="\n", **dialect).writerows(rows)
    return file.getvalue()


def tabs(*rows: str) -> str:
    """Lines of fields that have a blank between them here, and a tab in the file."""
    return "".join(row.replace(" ", "\t") + "\n" for row in rows)


def task(data: Path, name: str = "custom", **options: Any) -> TaskData:
    if name == "custom" and "text_columns" not in options:
        options = {**LABELLED, **options}
    return open_task(
        ExtractConfig(backbone="minilm", task=name, out=data / "out", data=data, **options)
    )


def examples(data: TaskData, split: str = "train") -> list[tuple[Any, ...]]:
    """(text ..., label) of every row, twice the same."""
    found = [(*example.texts, example.label) for example in data.splits[split]]
    assert found == [(*example.texts, example.label) for example in data.splits[split]]
    assert len(found) == len(data.splits[split])
    return found


def refuses(*parts: str) -> Any:
    """The message has these parts, in this order."""
    return pytest.raises(UsageError, match="(?s)" + ".*".join(map(re.escape, parts)))


def says(data: TaskData, *parts: str) -> bool:
    """Whether exactly one notice has these parts, in this order; and all notices are lines."""
    assert all("\n" not in notice for notice in data.notices)
    pattern = re.compile(".*".join(map(re.escape, parts)))
    return sum(1 for notice in data.notices if pattern.search(notice)) == 1
