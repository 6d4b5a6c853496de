"""Rows for the readers under fire: any texts, in every spelling that a format allows.

The writers are json's, csv's and pyarrow's, never the package's own.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

MEGABYTE = 1_000_000
SNIPPETS = [
    "",
    " ",
    "\0",
    '"',
    '""',
    "'",
    ",",
    "\\",
    "\\n",
    "\x85",
    "\u2028",
    "\u2029",
    "\x0b\x0c\x1c\x1d\x1e",
    "\ufeff",
    "e\u0301\u0300",
    "👩‍🚀",
    "🇩🇪",
    "\u202eright to left",
    "\U0010ffff",
    "\ufffe",
    "null",
    "NaN",
    "-1",
    "{}",
    "[1]",
    "=1+1",
    "\x1b[31m",
    "ﬀ",
    "١",
]
BREAKS = ["\n", "\r", "\r\n", "\t", '"\n', "\n\n", '","', "\r\n\r\n"]


class Setup(NamedTuple):
    """A task with its columns, and what a good label looks like."""

    task: str
    texts: tuple[str, ...]
    label: str | None
    labels: st.SearchStrategy[Any]
    first: tuple[Any, ...] = ()
    """Labels of the first rows: they decide the kind of a custom column."""


class Case(NamedTuple):
    """A file to read."""

    setup: Setup
    content: bytes
    rows: tuple[dict[str, Any], ...] = ()
    """What was written, where that is known."""

    def __repr__(self) -> str:
        return (
            f"{self.setup.task} {self.setup.texts} {self.setup.label!r}, {len(self.content)} bytes:"
            f" {self.content[:500]!r}"
        )


def setups(texts: st.SearchStrategy[str]) -> list[Setup]:
    names = texts.map("é {}".format)
    ints, scores = st.integers(-(2**63), 2**63 - 1), st.floats(-1e6, 1e6)
    return [
        Setup("cola", ("sentence",), "label", st.integers(0, 1)),
        Setup("stsb", ("sentence1", "sentence2"), "label", st.floats(0, 5) | st.just(5.0)),
        Setup("custom", ("text",), "y", ints, (3, -1)),
        Setup("custom", ("a.b", "a"), "名 前", names, ("b", "a")),
        Setup("custom", ('say "x", y', "", "\0"), "a", scores, (0.5, -1.0)),
        Setup("custom", ("text",), None, st.none()),
        Setup("custom", ("b", "text", "a"), None, st.none()),
    ]


def texts_for(suffix: str) -> st.SearchStrategy[str]:
    """Any text that the format can hold, once in a while of a megabyte."""
    forbidden, snippets = ("\t\r\n", SNIPPETS) if suffix == "tsv" else ("", SNIPPETS + BREAKS)
    any_text = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters=forbidden), max_size=20
    )
    joined = st.lists(st.sampled_from(snippets) | any_text, max_size=5).map("".join)
    long = st.sampled_from([text for text in snippets if text]).map(
        lambda text: text * (MEGABYTE // len(text.encode()))
    )
    texts = rarely(joined, long)
    if suffix == "tsv":
        # Written without quotes, such a text is what quoting makes of another one.
        return texts.filter(lambda text: not looks_quoted(text))
    return texts


def looks_quoted(text: str) -> bool:
    """Whether quotation marks stand around a text and doubled ones, no others, within."""
    inside = text[1:-1]
    is_enclosed = len(text) > 1 and text.startswith('"') and text.endswith('"')
    return is_enclosed and '""' in inside and '"' not in inside.replace('""', "")


def rarely(
    usual: st.SearchStrategy[Any], rare: st.SearchStrategy[Any], once_in: int = 40
) -> st.SearchStrategy[Any]:
    return st.integers(1, once_in).flatmap(lambda number: rare if number == once_in else usual)


def rows_of(
    draw: Callable[..., Any], setup: Setup, texts: st.SearchStrategy[str], most: int
) -> list[dict[str, Any]]:
    first: list[Any] = [
        dict.fromkeys(setup.texts, "first") | {setup.label: label} for label in setup.first
    ]
    columns: dict[Any, Any] = dict.fromkeys(setup.texts, texts) | (
        {} if setup.label is None else {setup.label: setup.labels}
    )
    drawn = draw(
        st.lists(st.fixed_dictionaries(columns), min_size=0 if first else 1, max_size=most)
    )
    return [*first, *drawn]


def expected_labels(setup: Setup, rows: list[dict[str, Any]]) -> list[Any]:
    if setup.label is None:
        return [None] * len(rows)
    written = [row[setup.label] for row in rows]
    if setup.task == "custom" and not isinstance(written[0], float):
        classes = sorted(set(written))
        return [classes.index(label) for label in written]
    return written


def to_bytes(suffix: str, rows: list[dict[str, Any]], choose: Callable[[list[Any]], Any]) -> bytes:
    """The file, in one of the spellings that its format allows."""
    if suffix == "parquet":
        return parquet_bytes(pa.Table.from_pylist(rows), choose)
    end, names = choose(["\n", "\r\n"]), list(rows[0])
    if suffix == "jsonl":
        ascii_only = choose([True, False])
        lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    elif suffix == "csv":
        lines = csv_lines(
            [names, *([row[name] for name in names] for row in rows)],
            choose([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
        )
    else:
        lines = ["\t".join(names), *("\t".join(str(row[name]) for name in names) for row in rows)]
    blank = [""] if suffix == "jsonl" or len(names) > 1 else []
    lines = [line for written in lines for line in [written, *choose([blank, [], []])]]
    last = choose([end, ""]) if lines[-1] else end
    return (choose(["", "\ufeff"]) + end.join(lines) + last).encode()


def csv_lines(rows: list[list[Any]], quoting: Literal[0, 1]) -> list[str]:
    lines = []
    for row in rows:
        file = io.StringIO(newline="")
        csv.writer(file, quoting=quoting).writerow(row)
        lines.append(file.getvalue().removesuffix("\r\n"))
    return lines


def parquet_bytes(table: pa.Table, choose: Callable[[list[Any]], Any]) -> bytes:
    text = choose(
        [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
    )
    for index, column in enumerate(table.schema):
        if column.type == pa.string():
            table = table.set_column(
                index, column.name, table.column(index).combine_chunks().cast(text)
            )
    file = pa.BufferOutputStream()
    pq.write_table(
        table,
        file,
        row_group_size=choose([1, 2, 1000]),
        compression=choose(["none", "snappy", "zstd"]),
        use_dictionary=choose([True, False]),
        data_page_version=choose(["1.0", "2.0"]),
        store_schema=choose([True, False]),
        write_page_checksum=choose([True, False]),
        data_page_size=choose([None, 64]),
    )
    return file.getvalue().to_pybytes()
