"""Fixtures that write files and open them as a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from glot_jax.texts import TaskData
from support.written_files import labelled_rows, read_folder, task, write_all, write_rows

Opened = Callable[..., TaskData]


@pytest.fixture
def load(tmp_path: Path) -> Opened:
    """Write {file name: rows} and open them as a task."""

    def load(files: Mapping[str, Any], task: str = "cola", **options: object) -> TaskData:
        for name, rows in files.items():
            write_rows(tmp_path / name, rows)
        return read_folder(tmp_path, task, **options)

    return load


@pytest.fixture
def custom(load: Opened) -> Opened:
    """The same for a custom task with the columns text and label.

    Values of a list become labels; a string is the content of the file.
    """

    def custom(files: Mapping[str, Any], **options: object) -> TaskData:
        rows_by_name: dict[str, Any] = {}
        for name, rows in files.items():
            if isinstance(rows, list):
                rows = [{"text": "t", "label": label} for label in rows]
            rows_by_name[name] = rows
        columns: dict[str, Any] = {"text_columns": ("text",), "label_column": "label"}
        return load(rows_by_name, "custom", **{**columns, **options})

    return custom


@pytest.fixture
def labelled(tmp_path: Path) -> Opened:
    """Write {file name: labels}, in place of what was there, and open them as a custom task."""

    def labelled(
        files: Mapping[str, list[Any]], name: str = "custom", **options: object
    ) -> TaskData:
        for path in tmp_path.iterdir():
            path.unlink()
        contents = {name: labelled_rows(name, labels) for name, labels in files.items()}
        return task(write_all(tmp_path, contents), name, **options)

    return labelled
