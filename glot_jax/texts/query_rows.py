"""Rows of the task `embedding`: a query, the texts that are relevant to it, and others that are
not.

| column (or the name given to --text-columns) | holds |
| --- | --- |
| query, the first | a string |
| pos, the second | a string, or a list of at least one |
| neg, the third and all further ones | the same, or nothing: null, an empty string or list |

A text may also be an object with a text and perhaps a title, which are then joined: title + " " +
text. Without --text-columns, `COLUMN_NAMES` are taken for these columns, and a JSON array for a
row: ["query", "pos", "neg", ...].

This is sentence-transformers' msmarco-triplets.jsonl, Tevatron's and DPR's passages, and pairs or
triplets of columns in any format. The same rows train and judge: a query's candidates are its own
`pos` and `neg`, and where no row of a split has a negative, every `pos` there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from glot_jax.errors import UsageError, require
from glot_jax.texts.quoting import plain, shown
from glot_jax.texts.records import Record, Source, require_columns, require_text
from glot_jax.texts.tasks import TASKS, TaskSpec

COLUMN_NAMES: dict[str, tuple[str, ...]] = {
    "query": ("query", "anchor", "question"),
    "pos": ("pos", "positive", "positives", "positive_passages", "positive_ctxs", "pos_passages"),
    "neg": (
        "neg",
        "negative",
        "negatives",
        "negative_passages",
        "hard_negatives",
        "hard_negative_ctxs",
        "negative_ctxs",
        "neg_passages",
    ),
}
"""Our column -> what data sets call it. Of a query the first that is there counts, of texts all of
them, and numbered ones.
"""

_HINT = (
    f"Name them with --text-columns; known without it: {', '.join(COLUMN_NAMES['query'])}, "
    f"and {', '.join(COLUMN_NAMES['pos'])}. "
)
_ITEM = re.compile(r"#(\d+)")
_NUMBERED = re.compile(r"(positive|pos|negative|neg)[_-]?(\d+)")


def named_columns(names: Sequence[str], spec: TaskSpec) -> TaskSpec:
    """The spec with the columns of --text-columns, if there are any."""
    require(
        len(names) != 1,
        "--text-columns of task embedding are a query, a positive and perhaps a negative",
        ", ".join(names),
        "Name two columns or more; all after the second are negatives.",
    )
    return replace(spec, text_columns=tuple(names)) if names else spec


def grouped(source: Source, spec: TaskSpec, *, named: bool) -> Source:
    """The source with the columns query, pos and neg, from whatever they are called there, or from
    a row's positions.

    Where they are `named` (--text-columns) the rows stay as they are. Rows with titles are counted
    in a line.
    """

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        first = next(source.read([]), None)
        there = [] if first is None or named else first.columns
        # A format that reads only what is asked for has the same columns in every row.
        asked = [name for names in _roles(there).values() for name in names]
        titles = 0
        for record in source.read([*wanted, *asked]):
            row = record if named else _in_roles(record)
            titles += any(_has_title(row.values.get(column)) for column in spec.text_columns[1:])
            yield row
        if titles:
            said = 'texts that have a title are read as title + " " + text'
            source.remarks["titles"] = f"{source.name}: {said}, in {titles} rows"

    return Source(source.name, source.typed, read, source.remarks)


def _roles(columns: Sequence[str]) -> dict[str, list[str]]:
    """Our column -> those of a row that it is made of."""
    found: dict[str, list[str]] = {}
    for role, names in COLUMN_NAMES.items():
        # Our own name stands for itself alone, whatever else there is.
        found[role] = [role] if role in columns else [name for name in names if name in columns]
    numbered = [
        (match[1][:3], int(match[2]), match[0])
        for match in map(_NUMBERED.fullmatch, columns)
        if match
    ]
    for role, _, name in sorted(numbered):
        if role not in columns:
            found[role].append(name)
    items = [name for name in columns if _ITEM.fullmatch(name)]
    if items:
        found = {"query": items[:1], "pos": items[1:2], "neg": items[2:]}
    found["query"] = found["query"][:1]
    return {role: names for role, names in found.items() if names}


def _in_roles(record: Record) -> Record:
    roles = _roles(record.columns)
    if all(names == [role] for role, names in roles.items()):
        return record
    values: dict[str, Any] = {}
    for role, names in roles.items():
        one = record.values.get(names[0]) if len(names) == 1 else None
        values[role] = (
            one
            if len(names) == 1
            else [text for name in names for text in _several(record.values.get(name))]
        )
    missing = [role for role in ("query", "pos") if role not in values]
    # Where nothing stands for a column, the message lists what the file has.
    return Record(record.place, values, record.columns if missing else list(values), record.header)


def _several(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _has_title(value: Any) -> bool:
    texts = value if isinstance(value, list) else [value]
    return any(isinstance(text, dict) and bool(text.get("title")) for text in texts)


def read_group(record: Record, spec: TaskSpec) -> tuple[tuple[str, ...], int]:
    """A row's texts, the query first, then the relevant ones, then the others; and how many are
    relevant.

    UsageError with the record's place for a column or a text that is not there, and for what is no
    string.
    """
    columns = spec.text_columns
    # Without --text-columns `neg` may be missing; a column that somebody named may not.
    ours = columns == TASKS["embedding"].text_columns
    require_columns(
        columns[:2] if ours else columns,
        record.columns,
        record.columns_location,
        _HINT if ours else "",
    )
    query, positive, *negative = columns
    require_text(record.values[query], query, record.place)
    relevant = _texts(record, positive)
    got = f"{record.place}: {plain(positive)} = {shown(record.values[positive])}"
    fix = "Add one or drop the row; --drop-unlabelled leaves such rows out."
    require(len(relevant) > 0, "a query has at least one relevant text", got, fix)
    others = [text for column in negative for text in _texts(record, column)]
    return (record.values[query], *relevant, *others), len(relevant)


def has_relevant(record: Record, spec: TaskSpec) -> bool:
    """Whether the row has something in the column of relevant texts, right or wrong, or has no such
    column.
    """
    positive = spec.text_columns[1]
    return positive not in record.values or bool(_several(record.values[positive]))


def _texts(record: Record, column: str) -> list[str]:
    value: Any = record.values.get(column)
    if value is None or value == "":
        return []
    if isinstance(value, str):
        require_text(value, column, record.place)
        return [value]
    if _is_passage(value):
        value = [value]
    if not isinstance(value, list | tuple):
        got = f"{record.place}: {plain(column)} = {shown(value)}"
        raise UsageError(
            "the texts of a row are a string or a list of strings", got, "Correct or drop the row."
        )
    texts = [titled(text) if _is_passage(text) else text for text in value]
    for index, text in enumerate(texts):
        require_text(text, f"{column}[{index}]", record.place)
    return texts


def _is_passage(value: Any) -> bool:
    return isinstance(value, dict) and "text" in value


def titled(passage: Mapping[str, Any]) -> Any:
    """A passage's text after its title, as BEIR, Tevatron and DPR join them; what is no string
    stays as it is.

    >>> titled({"title": "Moon", "text": "Round."}), titled({"title": None, "text": "Round."})
    ('Moon Round.', 'Round.')
    """
    title, text = passage.get("title"), passage["text"]
    if not isinstance(title, str) or not isinstance(text, str) or not title:
        return text
    return f"{title} {text}".strip()
