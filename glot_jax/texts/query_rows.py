"""Rows of the task `embedding`: a query, the texts that are relevant to it, and others.

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
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard

from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import plain, shown
from glot_jax.file_formats.records import (
    Columns,
    Record,
    Records,
    Source,
    require_columns,
    require_text,
)
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
"""Our column -> what data sets call it.

Of a query the first that is there counts, of texts all of them, and numbered ones.
"""

_HINT = (
    f"Name them with --text-columns; known without it: {', '.join(COLUMN_NAMES['query'])}, "
    f"and {', '.join(COLUMN_NAMES['pos'])}. "
)
_ITEM = re.compile(r"#(\d+)")
"""A position in a JSON array, as `json_rows` names it."""
_NUMBERED = re.compile(r"(positive|pos|negative|neg)[_-]?(\d+)")


def named_columns(names: Columns, spec: TaskSpec) -> TaskSpec:
    """The spec with the columns of --text-columns, if there are any."""
    if not names:
        return spec
    # One name could be the query's or the text's: nothing is guessed.
    if len(names) == 1:
        raise UsageError(
            rule="--text-columns of task embedding must be a query, a positive and perhaps a "
            "negative",
            got=", ".join(names),
            fix="Name two columns or more; all after the second are negatives.",
        )
    return replace(spec, text_columns=tuple(names))


def grouped(source: Source, spec: TaskSpec, *, named: bool) -> Source:
    """The source with the columns query, pos and neg.

    Args:
        source: rows with these columns under any name of `COLUMN_NAMES`, or by position.
        spec: the task, with the columns that a row is read from.
        named: whether the user has named them (--text-columns), so that rows stay as they are.

    Returns:
        A source that counts the rows with titles in a line for the user.
    """

    def read(columns: Columns) -> Records:
        read_columns = list(columns)
        if not named:
            # A format that reads only what is asked for has the same columns in every row.
            first = next(source.read([]), None)
            if first is not None:
                for names in _roles(first.columns).values():
                    read_columns += names
        titles = 0
        for record in source.read(read_columns):
            # Whoever names columns has said which is which.
            row = record if named else _in_roles(record)
            candidates = [row.values.get(column) for column in spec.text_columns[1:]]
            titles += any(map(_has_title, candidates))
            yield row
        if titles:
            said = 'texts that have a title are read as title + " " + text'
            source.remarks["titles"] = f"{source.name}: {said}, in {titles} rows"

    return replace(source, read=read)


def _roles(columns: Columns) -> dict[str, list[str]]:
    """Our column -> those of a row that it is made of."""
    items = [name for name in columns if _ITEM.fullmatch(name)]
    if items:
        by_position = {
            "query": items[:1],
            "pos": items[1:2],
            "neg": items[2:],
        }
        return _filled(by_position)
    roles: dict[str, list[str]] = {}
    for role, names in COLUMN_NAMES.items():
        # Our own name stands for itself alone, whatever else there is.
        if role in columns:
            roles[role] = [role]
        else:
            roles[role] = [name for name in names if name in columns]
    numbered: list[tuple[str, int, str]] = []
    for match in map(_NUMBERED.fullmatch, columns):
        if match:
            # Both spellings of a role begin with our name of three letters.
            role = match[1][:3]
            numbered.append((role, int(match[2]), match[0]))
    # By number, since neg_10 stands before neg_2 in the alphabet.
    for role, _, name in sorted(numbered):
        if role not in columns:
            roles[role].append(name)
    # A row has one query.
    roles["query"] = roles["query"][:1]
    return _filled(roles)


def _filled(roles: Mapping[str, list[str]]) -> dict[str, list[str]]:
    # A role that no column fills is left out, which is how `_in_roles` knows that it is missing.
    return {role: names for role, names in roles.items() if names}


def _in_roles(record: Record) -> Record:
    roles = _roles(record.columns)
    # Nearly every file: its rows pass as they are.
    if all(names == [role] for role, names in roles.items()):
        return record
    values: dict[str, Any] = {}
    for role, names in roles.items():
        if len(names) == 1:
            # As it is, for the messages of what is wrong with it.
            values[role] = record.values.get(names[0])
            continue
        texts: list[Any] = []
        for name in names:
            texts += _several(record.values.get(name))
        values[role] = texts
    # Where nothing stands for a column, the message lists what the file has.
    is_whole = "query" in values and "pos" in values
    columns = list(values) if is_whole else record.columns
    return record._replace(values=values, columns=columns)


def _several(value: object) -> list[Any]:
    if value is None or value == "":
        return []
    if isinstance(value, list | tuple):
        return list(value)
    return [value]


def _has_title(value: object) -> bool:
    # One passage may stand without a list around it.
    texts = value if isinstance(value, list) else [value]
    passages = [text for text in texts if isinstance(text, dict)]
    return any(passage.get("title") for passage in passages)


def read_group(record: Record, spec: TaskSpec) -> tuple[tuple[str, ...], int]:
    """The texts of a row, and how many of them are relevant.

    Returns:
        The query, the relevant texts and the others, in this order; and the number of relevant
        ones.

    Raises:
        UsageError: with the record's location, for a column or a text that is not there, and for
            what is not a string.
    """
    columns = spec.text_columns
    if columns == TASKS["embedding"].text_columns:
        # Without --text-columns `neg` may be missing; a column that somebody named may not.
        require_columns(columns[:2], record.columns, record.columns_location, _HINT)
    else:
        require_columns(columns, record.columns, record.columns_location)
    # Several columns of negatives may be named, a positive only one.
    query, positive, *negative = columns
    query_text = require_text(record.values[query], query, record.location)
    relevant = _texts(record, positive)
    if not relevant:
        raise UsageError(
            rule="a query must have at least one relevant text",
            got=f"{record.location}: {plain(positive)} = {shown(record.values[positive])}",
            fix="Add one or drop the row; --drop-unlabelled leaves such rows out.",
        )
    others: list[str] = []
    for column in negative:
        others += _texts(record, column)
    return (query_text, *relevant, *others), len(relevant)


def has_relevant(record: Record, spec: TaskSpec) -> bool:
    """Tell whether the row has something in the column of relevant texts, right or wrong.

    A row without such a column is not left out but refused, with the columns that it has.
    """
    positive = spec.text_columns[1]
    return positive not in record.values or bool(_several(record.values[positive]))


def _texts(record: Record, column: str) -> list[str]:
    value: object = record.values.get(column)
    if value is None or value == "":
        return []
    if isinstance(value, str):
        return [require_text(value, column, record.location)]
    # One passage is a list of one, as Tevatron writes where there is one positive.
    if _is_passage(value):
        value = [value]
    if not isinstance(value, list | tuple):
        raise UsageError(
            rule="the texts of a row must be a string or a list of strings",
            got=f"{record.location}: {plain(column)} = {shown(value)}",
            fix="Correct or drop the row.",
        )
    texts: list[str] = []
    for index, item in enumerate(value):
        text = titled(item) if _is_passage(item) else item
        texts.append(require_text(text, f"{column}[{index}]", record.location))
    return texts


def _is_passage(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict) and "text" in value


def titled(passage: Mapping[str, Any]) -> object:
    """A passage's text after its title, as BEIR, Tevatron and DPR join them.

    What is not a string stays as it is, for the messages.

    >>> titled({"title": "Moon", "text": "Round."}), titled({"title": None, "text": "Round."})
    ('Moon Round.', 'Round.')
    """
    title = passage.get("title")
    text = passage["text"]
    if not isinstance(title, str) or not isinstance(text, str) or not title:
        return text
    return f"{title} {text}".strip()
