"""Files for the tests of the readers, written by somebody else's hand.

That is csv, json, pyarrow, gzip and zstandard, never the package itself.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts import Example, TaskData, open_task

COMPRESS = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor(write_checksum=True).compress,
}
"""What a file's name ends in -> how its bytes are packed."""
LABELLED = {"text_columns": ("text",), "label_column": "label"}
SUFFIXES = ("jsonl", "csv", "tsv", "parquet")
"""The formats of `write_rows`."""
COLA = [{"sentence": f"Sentence {row}.", "label": row % 2} for row in range(6)]
"""Rows of the task cola."""


def write_all(folder: Path, files: Mapping[str, Any]) -> Path:
    """Write {name: str, bytes or rows for JSON lines} into a folder.

    What a name ends in decides how a str or rows are packed; bytes are written as they are.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = json_lines(content)
        if isinstance(content, str):
            pack = COMPRESS.get(path.suffix, bytes)
            content = pack(content.encode())
        path.write_bytes(content)
    return folder


def write_rows(path: Path, rows: str | bytes | Sequence[Mapping[str, Any]]) -> None:
    """Write dicts in the format of the suffix; str and bytes as they are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, str | bytes):
        path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
    elif path.suffix == ".jsonl":
        path.write_text(json_lines(rows), encoding="utf-8")
    elif path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".tsv":
        names = list(rows[0])
        lines = [names]
        lines += [[str(row[name]) for name in names] for row in rows]
        path.write_bytes("".join("\t".join(line) + "\n" for line in lines).encode())
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def json_lines(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def labelled_rows(name: str, labels: list[Any]) -> str:
    """The content of a file with these labels; in a .csv they are spellings."""
    if name.endswith(".csv"):
        return table([["text", "label"], *(["t", label] for label in labels)])
    return json_lines({"text": "t", "label": label} for label in labels)


def table(
    rows: list[list[Any]], delimiter: str = ",", quoting: Literal[0, 1, 2, 3] = csv.QUOTE_MINIMAL
) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator="\n", quoting=quoting).writerows(rows)
    return file.getvalue()


def tabs(*rows: str) -> str:
    """Lines of fields that have a blank between them here, and a tab in the file."""
    return "".join(row.replace(" ", "\t") + "\n" for row in rows)


def task(data: Path, name: str = "custom", **options: object) -> TaskData:
    settings: dict[str, Any] = {**options}
    if name == "custom" and "text_columns" not in options:
        settings = {**LABELLED, **options}
    return open_task(
        ExtractConfig(backbone="minilm", task=name, out=data / "out", data=data, **settings)
    )


def read_folder(folder: Path, name: str = "cola", **options: object) -> TaskData:
    """Open a folder as a task, with the options of extract.py."""
    settings: dict[str, Any] = {**options}
    return open_task(
        ExtractConfig(backbone="minilm", task=name, out=folder / "out", data=folder, **settings)
    )


def labels_config(folder: Path, **options: object) -> ExtractConfig:
    return ExtractConfig(
        backbone="b", task="custom", data=folder, out=folder / "out", **{**LABELLED, **options}
    )


def open_labels(folder: Path, labels: Iterable[Any], **options: object) -> TaskData:
    """Write these spellings into the train.csv of a new folder, and open it."""
    rows = "".join(f"text {row},{label}\n" for row, label in enumerate(labels))
    write_all(folder, {"train.csv": f"text,label\n{rows}"})
    return open_task(labels_config(folder, **options))


def texts_of(split: Iterable[Example]) -> list[str]:
    return [example.texts[0] for example in split]


def labels_of(split: Iterable[Example]) -> list[Any]:
    return [example.label for example in split]


def read_labels(data: TaskData, split: str = "train") -> list[Any]:
    """Labels of rows of one text, twice the same."""
    return [label for _, label in examples(data, split)]


def examples(data: TaskData, split: str = "train") -> list[tuple[Any, ...]]:
    """(text ..., label) of every row, twice the same."""
    rows = [(*example.texts, example.label) for example in data.splits[split]]
    assert rows == [(*example.texts, example.label) for example in data.splits[split]]
    assert len(rows) == len(data.splits[split])
    return rows


def refuses(*parts: str) -> AbstractContextManager[pytest.ExceptionInfo[UsageError]]:
    """The message has these parts, in this order."""
    return pytest.raises(UsageError, match="(?s)" + ".*".join(map(re.escape, parts)))


def says(data: TaskData, *parts: str) -> bool:
    """Whether exactly one notice has these parts, in this order; and all notices are lines."""
    assert all("\n" not in notice for notice in data.notices)
    pattern = re.compile(".*".join(map(re.escape, parts)))
    return sum(1 for notice in data.notices if pattern.search(notice)) == 1
