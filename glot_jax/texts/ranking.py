"""Rows of the task `embedding`: a query, the texts that are relevant to it, and others that are not.

| column (or the name given to --text-columns) | holds                                                                 |
|----------------------------------------------|-----------------------------------------------------------------------|
| query, the first                             | a string                                                              |
| pos, the second                              | a string, or a list of at least one                                   |
| neg, the third                               | the same, or nothing: missing, null, an empty string, an empty list   |

This is sentence-transformers' msmarco-triplets.jsonl, and two columns of pairs in any format. The same rows train and
judge: a query's candidates are its own `pos` and `neg`, and where no row of a split has a negative, every `pos` there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from glot_jax.config import UsageError, require
from glot_jax.texts.formats import Record, require_columns, require_text
from glot_jax.texts.tasks import TASKS, TaskSpec
from glot_jax.texts.written import plain, shown


def named_columns(names: Sequence[str], spec: TaskSpec) -> TaskSpec:
    """The spec with the columns of --text-columns, if there are any."""
    require(
        not names or len(names) in (2, 3), "--text-columns of task embedding are a query, a positive and perhaps a negative", ", ".join(names),
        "Name two or three columns.",
    )
    return replace(spec, text_columns=tuple(names)) if names else spec


def read_group(record: Record, spec: TaskSpec) -> tuple[tuple[str, ...], int]:
    """A row's texts, the query first, then the relevant ones, then the others; and how many are relevant.

    UsageError with the record's place for a column or a text that is not there, and for what is no string.
    """
    columns = spec.text_columns
    # Without --text-columns `neg` may be missing; a column that somebody named may not.
    require_columns(columns[:2] if columns == TASKS["embedding"].text_columns else columns, record.columns, record.place)
    query, positive, *negative = columns
    require_text(record.values[query], query, record.place)
    relevant = _texts(record, positive)
    got = f"{record.place}: {plain(positive)} = {shown(record.values[positive])}"
    require(len(relevant) > 0, "a query has at least one relevant text", got, "Add one or drop the row.")
    others = [text for column in negative for text in _texts(record, column)]
    return (record.values[query], *relevant, *others), len(relevant)


def _texts(record: Record, column: str) -> list[str]:
    value: Any = record.values.get(column)
    if value is None or value == "":
        return []
    if isinstance(value, str):
        require_text(value, column, record.place)
        return [value]
    if not isinstance(value, list | tuple):
        got = f"{record.place}: {plain(column)} = {shown(value)}"
        raise UsageError("the texts of a row are a string or a list of strings", got, "Correct or drop the row.")
    for index, text in enumerate(value):
        require_text(text, f"{column}[{index}]", record.place)
    return list(value)
