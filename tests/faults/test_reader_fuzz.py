"""Readers under fire: whatever a file holds, rows come out or one error that names the file and the
line.

| law | file | outcome |
| --- | --- | --- |
| hostile | a valid one, damaged; or odd types | `Example`s of the kind, or a UsageError |
| well-formed | any texts, by json's, csv's, pyarrow's hand | the same texts and labels, in order |

Files are real, and read as `extract.py` reads them: `open_task`, then every split from end to end.
`--soak` runs 10,000 cases, otherwise a few hundred; both are the same on every run.
"""

import codecs
import csv
import io
import json
import math
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.texts import TaskData, open_task

pytestmark = pytest.mark.faults

CASES = {  # (quick, soak) for each format; the soak's sum is 10,000
    "well-formed": dict.fromkeys(("jsonl", "csv", "tsv", "parquet"), (12, 500)),
    "hostile": {"jsonl": (50, 2000), "csv": (50, 2000), "tsv": (40, 1500), "parquet": (40, 1500)},
    "odd types": {"parquet": (40, 1000)},
}
SECONDS = 10.0
"""Processor time that no file of a few megabytes may take; the slowest takes a tenth of a second.
"""
LONGEST_MESSAGE = 2000

WHOLE_FILE = (
    "a split must have at least one row",
    "the train split needs labels in column",
    "must be readable by pyarrow",
    "a classification needs two classes",
    "regression needs labels that differ",
)
"""Rules that no single row breaks: their messages have the file alone."""

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


# --------------------------------------------------------------------------------------------------
# Tasks, and rows that are right


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
    return rarely(joined, long)


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


# --------------------------------------------------------------------------------------------------
# Independent writers


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


def csv_lines(rows: list[list[Any]], quoting: Any) -> list[str]:
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


# --------------------------------------------------------------------------------------------------
# Damage


WILD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        [10**400, -(10**30), 1e308, -1.0, "", " ", "\ud83d", "nan", "-1", "x" * MEGABYTE]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
SPELLINGS = st.sampled_from(
    [
        "9" * MEGABYTE + "x",
        "9" * MEGABYTE,
        " " * MEGABYTE + "1",
        "1" + " " * MEGABYTE + "x",
        "1e999",
        "-1e999",
        "9" * 5000,
        "9" * 400,
        "nan",
        "-inf",
        "infinity",
        "+1",
        " 0 ",
        "1.",
        ".5",
        "1.0",
        "1e",
        "0x1",
        "1_0",
        "١",
        "true",
        "",
        " ",
        "-1",
        "-1.0",
        "acceptable",
        "\0",
    ]
)
"""What a field of a csv or tsv may hold where a label is expected."""
TYPED = st.sampled_from(["\ud83d", "é \udc00", "new", 0.5, 7, True, 10**400]) | WILD
"""The same for JSON."""
TOKENS = [
    *(text.encode() for text in [*SNIPPETS, *BREAKS]),
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b'{"',
    b'"}',
    b"\\ud83d",
    b"\\u0000",
    b'"\\ud83d": 1, ',
    b"Infinity",
    b"1e999",
    b"1" * 5000,
    b"true",
    b"[" * 500,
    b'{"a":' * 3000,
    b"\xff\xfe",
    b"\xfe\xff\0\0",
    b"\x80",
    b"\xc0\x80",
    b"\xed\xa0\xbd",
    b"\xf0\x9f\x91",
    b"\xf4\x90\x80\x80",
    b"label",
    b"sentence",
    b'"label": 0, ',
    b"\n" * 50,
    b"\x1a",
    b",,,",
    b"\t\t\t",
]
LONG_TOKENS = [
    token * (MEGABYTE // len(token))
    for token in (
        b"x",
        b"9",
        b",",
        b"\t",
        b" ",
        b"[",
        b'"',
        b"\r",
        b"\0",
        b"\\",
        b"\xff",
        "👩".encode(),
        b'"a",',
        b'{"a":',
        b"-1\n",
    )
]
ENCODINGS = ["utf-8"] * 12 + [
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-32",
    "latin-1",
    "cp1252",
    "shift_jis",
    "utf-7",
]


@st.composite
def damaged_rows(draw: Callable[..., Any], suffix: str, setup: Setup) -> bytes:
    """A text file in which rows have wild values, lack columns or have others."""
    rows = rows_of(draw, setup, st.sampled_from(["a", "", "é", '5" wide', "two words"]), 5)
    names = [*rows[0]]
    lines: list[Any] = [list(map(str, names)), *([row[name] for name in names] for row in rows)]
    if suffix == "jsonl":
        lines = rows
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2]))):
        row, name = draw(st.integers(0, len(lines) - 1)), draw(st.sampled_from(names))
        how = draw(st.sampled_from(["value", "label", "drop", "add", "twice"]))
        value = draw(WILD if how != "label" else TYPED if suffix == "jsonl" else SPELLINGS)
        if how == "twice":
            lines.append(lines[row])
        elif suffix == "jsonl":
            damage_object(
                lines,
                row,
                name if how != "label" or setup.label is None else setup.label,
                how,
                value,
            )
        else:
            damage_line(lines, row, -1 if how == "label" else names.index(name), how, value)
    return encode(draw, suffix, lines)


def damage_object(rows: list[Any], row: int, name: str, how: str, value: Any) -> None:
    if not isinstance(rows[row], dict):
        return
    if how == "drop":
        rows[row] = {key: kept for key, kept in rows[row].items() if key != name} or value
    else:
        rows[row] = rows[row] | {f"{name}\ud83d" if how == "add" else name: value}


def damage_line(lines: list[list[Any]], row: int, column: int, how: str, value: Any) -> None:
    line = list(lines[row])
    if how == "drop":
        line = line[:-1]
    elif how == "add":
        line.append("" if value is None else lines[0][0] if value is True else value)
    elif line:
        line[column % len(line)] = value
    lines[row] = line


def encode(draw: Callable[..., Any], suffix: str, lines: list[Any]) -> bytes:
    if suffix == "jsonl":
        written = [json.dumps(line, ensure_ascii=draw(st.booleans())) for line in lines]
    elif suffix == "csv":
        written = csv_lines(lines, csv.QUOTE_MINIMAL)
    else:
        written = ["\t".join(map(str, line)) for line in lines]
    text, encoding = "\n".join([*written, ""]), draw(st.sampled_from(ENCODINGS))
    return text.encode(
        encoding,
        "surrogatepass" if encoding.startswith("utf") and encoding != "utf-7" else "replace",
    )


def flip(draw: Callable[..., Any], data: bytes) -> bytes:
    flipped = bytearray(data)
    for _ in range(draw(st.integers(1, 4)) if data else 0):
        flipped[at(draw, data, len(data) - 1)] ^= 1 << draw(st.integers(0, 7))
    return bytes(flipped)


def insert(draw: Callable[..., Any], data: bytes) -> bytes:
    where, token = (
        at(draw, data),
        draw(
            rarely(
                st.sampled_from(TOKENS) | st.binary(max_size=4), st.sampled_from(LONG_TOKENS), 10
            )
        ),
    )
    return data[:where] + token + data[where:]


def delete(draw: Callable[..., Any], data: bytes) -> bytes:
    where = at(draw, data)
    return data[:where] + data[where + draw(st.integers(1, 40)) :]


def truncate(draw: Callable[..., Any], data: bytes) -> bytes:
    return data[: at(draw, data)]


def repeat_a_line(draw: Callable[..., Any], data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    return b"".join([*lines, draw(st.sampled_from(lines))]) if lines else data


def repeat_a_name(draw: Callable[..., Any], data: bytes) -> bytes:
    """The first field once more: in an object, or in a header."""
    between = next((between for between in (b", ", b",", b"\t") if between in data), b",")
    first, separator, rest = data.partition(between)
    return first + separator + first.removeprefix(b"{") + separator + rest


def join_lines(draw: Callable[..., Any], data: bytes) -> bytes:
    return data.replace(
        b"\n",
        draw(st.sampled_from([b"", b" ", b",", b"\t", b"\r", b"\r\r\n", b"\0", b"\x85"])),
        draw(st.sampled_from([1, 2, -1])),
    )


def crlf(draw: Callable[..., Any], data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n", draw(st.sampled_from([1, 2, -1, -1])))


def unbalance(draw: Callable[..., Any], data: bytes) -> bytes:
    token = draw(st.sampled_from([b'"', b"}", b"{", b",", b"\t", b":", b"label", b"1"]))
    return data.replace(
        token,
        draw(st.sampled_from([b"", token * 2, b"\\" + token])),
        draw(st.sampled_from([1, 2, -1])),
    )


def zero(draw: Callable[..., Any], data: bytes) -> bytes:
    where, size = at(draw, data), draw(st.sampled_from([1, 8, 64, 512]))
    return data[:where] + bytes(len(data[where : where + size])) + data[where + size :]


def at(draw: Callable[..., Any], data: bytes, last: int | None = None) -> int:
    """A place in the data: as likely near an end or at a line's start as anywhere."""
    last = len(data) if last is None else last
    starts = [index + 1 for index, byte in enumerate(data[:5000]) if byte == 10 and index < last]
    near = st.integers(0, min(last, 30))
    return draw(
        st.integers(0, last)
        | near
        | near.map(lambda back: last - back)
        | st.sampled_from([0, *starts])
    )


TEXT_DAMAGE = [
    flip,
    insert,
    insert,
    insert,
    delete,
    truncate,
    repeat_a_line,
    repeat_a_name,
    join_lines,
    crlf,
    crlf,
    unbalance,
]
TABLE_DAMAGE = [flip, flip, flip, insert, delete, truncate, zero]


@st.composite
def hostile(draw: Callable[..., Any], suffix: str) -> Case:
    """Any file. About a third of them are still readable."""
    setup = draw(st.sampled_from(setups(st.sampled_from(["a", "b"]))))
    if suffix == "parquet":
        rows = rows_of(draw, setup, st.sampled_from(["a", "", "é", "two words" * 20]), 30)
        data = parquet_bytes(
            pa.Table.from_pylist(rows), lambda values: draw(st.sampled_from(values))
        )
    else:
        data = draw(damaged_rows(suffix, setup))
    if draw(rarely(st.just(False), st.just(True))):
        return Case(
            setup,
            draw(
                st.binary(max_size=50)
                | st.sampled_from(
                    [b"", b"PAR1", b"PAR1" * 3, b"\n", b"\xef\xbb\xbf", b"\xef\xbb", b"\r", b'""']
                )
            ),
        )
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 1, 2, 4]))):
        data = draw(st.sampled_from(TEXT_DAMAGE if suffix != "parquet" else TABLE_DAMAGE))(
            draw, data
        )
    return Case(setup, data)


BROKEN_UTF8 = pa.Array.from_buffers(
    pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")]
)
ODD_COLUMNS: list[Callable[[], Any]] = [
    lambda: ["a", "b"],
    lambda: [0, 1],
    lambda: [0.5, 1.0],
    lambda: pa.array(["a", "b"]).dictionary_encode(),
    lambda: pa.array([0, 1], pa.int8()).dictionary_encode(),
    lambda: pa.array([0, 1], pa.uint64()),
    lambda: pa.array([1, 2**64 - 1], pa.uint64()),
    lambda: pa.array([0.0, 1.0], pa.float16()),
    lambda: pa.array([0.0, math.nan], pa.float32()),
    lambda: [math.inf, 1.0],
    lambda: [True, False],
    lambda: ["", None],
    lambda: [None, 1],
    lambda: pa.nulls(2),
    lambda: [b"a", b"\xff"],
    lambda: pa.array([b"aa", b"bb"], pa.binary(2)),
    lambda: pa.array(["a", "b"], pa.large_string()),
    lambda: pa.array(["a", "b"], pa.string_view()),
    lambda: pa.array([0, 1], pa.timestamp("us")),
    lambda: pa.array([2**62, 1], pa.timestamp("us")),
    lambda: pa.array([1, 2**62 + 1], pa.timestamp("ns", "UTC")),
    lambda: pa.array([0, 1], pa.timestamp("us", "Mars/Olympus")),
    lambda: pa.array([0, 2**31 - 1], pa.date32()),
    lambda: pa.array([2**50, 0], pa.date64()),
    lambda: [date(1, 1, 1), date(9999, 12, 31)],
    lambda: pa.array([0, 2**62], pa.duration("s")),
    lambda: [timedelta(1), timedelta(2)],
    lambda: pa.array([0, 2**60], pa.time64("ns")),
    lambda: [Decimal("0"), Decimal("1")],
    lambda: pa.array([Decimal("0.5"), Decimal(10) ** 70], pa.decimal256(76, 3)),
    lambda: [["a"], []],
    lambda: pa.array([[0], [1]], pa.large_list(pa.int64())),
    lambda: [{"a": "b"}, {"a": None}],
    lambda: pa.StructArray.from_arrays([pa.array([1, 2]), pa.array([3, 4])], ["x", "x"]),
    lambda: [[{"a": [[1]]}], None],
    lambda: pa.array([[("a", 1)], []], pa.map_(pa.string(), pa.int64())),
    lambda: pa.array([uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes], pa.uuid()),
    lambda: BROKEN_UTF8,
    lambda: (
        BROKEN_UTF8.cast(pa.binary())
        .dictionary_encode()
        .cast(pa.dictionary(pa.int32(), pa.binary()))
    ),
]
ODD_NAMES = ["a", "", "sentence", "label", "a.b", "text.list.element", "\x1b[31m", "x" * 5000, "列"]


@st.composite
def odd_table(draw: Callable[..., Any]) -> Case:
    """A sound Parquet file with types that a text or a label does not have, in columns that are
    read and that are not.
    """
    setup = draw(st.sampled_from(setups(st.sampled_from(["a", "b"]))))
    names = [*setup.texts, *filter(None, [setup.label])]
    good = [pa.array(["a", "b"])] * len(setup.texts) + [pa.array([0, 1])] * (
        setup.label is not None
    )
    columns = {
        name: draw(rarely(st.just(lambda array=array: array), st.sampled_from(ODD_COLUMNS), 2))
        for name, array in zip(names, good, strict=True)
    }
    columns |= {
        name: draw(st.sampled_from(ODD_COLUMNS))
        for name in draw(st.lists(st.sampled_from(ODD_NAMES), max_size=2))
        if name not in columns
    }
    for name in draw(rarely(st.just([]), st.lists(st.sampled_from(names)), 8)):
        columns.pop(name, None)
    arrays, names = (
        [pa.array(make()) if isinstance(make(), list) else make() for make in columns.values()],
        list(columns),
    )
    if draw(rarely(st.just(False), st.just(True), 20)):
        arrays, names = [*arrays, pa.array([1, 2])], [*names, draw(st.sampled_from(ODD_NAMES))]
    table = pa.Table.from_arrays(arrays, names)
    repeats = draw(rarely(st.sampled_from([1, 1, 2, 200]), st.just(0), 15))
    table = pa.concat_tables([table] * repeats) if repeats else table.slice(0, 0)
    return Case(setup, parquet_bytes(table, lambda values: draw(st.sampled_from(values))))


# --------------------------------------------------------------------------------------------------
# The laws


@dataclass
class Tally:
    """How the cases of one test ended."""

    rows: int = 0
    errors: int = 0
    slowest: float = 0.0
    rules: dict[str, int] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        return self.rows + self.errors


def fuzz(strategy: st.SearchStrategy[Any], cases: int, law: Callable[[Any], None]) -> None:
    """The same cases on every run: no clock, no memory of earlier runs."""

    @settings(
        max_examples=cases,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
        phases=[Phase.generate, Phase.shrink],
    )
    @given(strategy)
    def run(case: Any) -> None:
        law(case)

    run()


def read(folder: Path, setup: Setup) -> TaskData:
    custom = (
        {"text_columns": setup.texts, "label_column": setup.label} if setup.task == "custom" else {}
    )
    return open_task(
        ExtractConfig(backbone="minilm", task=setup.task, out=folder / "out", data=folder, **custom)
    )


def check_examples(data: TaskData, setup: Setup) -> dict[str, int]:
    """Law 1, first outcome. Number of examples by split."""
    counts, kind = {}, data.spec.label_kind
    for name, split in data.splits.items():
        examples = list(split)
        assert [example.row for example in examples] == list(range(len(split)))
        for example in examples:
            assert [type(text) for text in example.texts] == [str] * len(setup.texts)
            assert all(text.encode() is not None for text in example.texts)
            if kind == "classes":
                assert type(example.label) is int
                assert 0 <= example.label < len(data.spec.classes)
            elif kind == "regression":
                assert type(example.label) is float
                assert math.isfinite(example.label)
            else:
                assert example.label is None
        counts[name] = len(examples)
    assert "\n".join(data.spec.classes).encode() is not None
    return counts


def check_error(error: UsageError, path: Path) -> None:
    """Law 1, second outcome: file and line, on one screen, without what a terminal would obey."""
    message = str(error)
    assert str(path) in message, message
    location = message.partition(str(path))[2]
    number = location.removeprefix(":").removeprefix("row ").removeprefix(" after row ")
    schema = path.suffix == ".parquet" and error.rule == "column names must be unique"
    assert number[:1].isdecimal() or schema or any(rule in error.rule for rule in WHOLE_FILE), (
        message
    )
    assert len(message) < LONGEST_MESSAGE, message[:LONGEST_MESSAGE]
    assert message.isprintable(), ascii(message)


def decoded(content: bytes) -> str:
    """Text by its byte-order mark, else UTF-8; with LF where there is no LF but a CR."""
    marks = (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF32_LE, "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    )
    encoding = next((name for mark, name in marks if content.startswith(mark)), "utf-8")
    text = content.decode(encoding).removeprefix("\ufeff")
    return text if "\n" in text else text.replace("\r", "\n")


def count_records(path: Path, notices: tuple[str, ...]) -> int | None:
    """Records of a readable file as another reader sees them; None where a blank line may be a
    record, or a row was mended.
    """
    if path.suffix == ".parquet":
        return pq.read_metadata(path).num_rows
    if any(str(path) in notice and "columns are separated" in notice for notice in notices):
        return None
    text = decoded(path.read_bytes())
    quoted = any("fields in quotation marks are read" in notice for notice in notices)
    if path.suffix == ".csv" or quoted:
        csv.field_size_limit(2**31 - 1)
        rows = csv.reader(
            io.StringIO(text, newline=""),
            strict=True,
            delimiter="," if path.suffix == ".csv" else "\t",
        )
        return sum(1 for row in rows if row) - 1
    lines = text.split("\n")
    if path.suffix == ".tsv":
        return (
            None
            if "\t" not in lines[0]
            else sum(1 for line in lines if line.removesuffix("\r")) - 1
        )
    if text.lstrip().startswith("["):
        return len(json.loads(text, strict=False))
    names = [
        [name for name, _ in json.loads(line, object_pairs_hook=list, strict=False)]
        for line in lines
        if line.strip()
    ]
    assert all(
        len(set(row)) == len(row) for row in names
    )  # two values under one name are never taken for one
    return len(names)


class Hang(BaseException):
    """No `except Exception` may swallow it."""


@contextmanager
def no_hang() -> Iterator[None]:
    """Hang after `SECONDS` of processor time, however busy the machine is."""

    def stop(*_: object) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def judge(folder: Path, split: str, suffix: str, case: Case, tally: Tally) -> None:
    """Write the file, read it, and hold the outcome against law 1."""
    setup, content, _ = case
    for old in folder.iterdir():
        old.unlink()
    path = folder / f"{split}.{suffix}"
    path.write_bytes(content)
    if split != "train":
        rows = [
            dict.fromkeys(setup.texts, "a") | {setup.label or "no": label}
            for label in setup.first or (0, 1)
        ]
        (folder / "train.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    start = time.process_time()
    try:
        with no_hang():
            data = read(folder, setup)
            counts = check_examples(data, setup)
    except UsageError as error:
        check_error(error, path)
        tally.errors += 1
        tally.rules[error.rule[:40]] = tally.rules.get(error.rule[:40], 0) + 1
    else:
        tally.rows += 1
        if split in counts:
            assert count_records(path, data.notices) in (counts[split], None)
        else:
            assert any(str(path) in notice and notice.isprintable() for notice in data.notices)
    tally.slowest = max(tally.slowest, time.process_time() - start)


def parameters(law: str) -> list[Any]:
    return [pytest.param(suffix, *cases, id=suffix) for suffix, cases in CASES[law].items()]


@pytest.mark.parametrize(("suffix", "quick", "long"), parameters("hostile"))
def test_damaged_files_end_as_rows_or_as_one_error(
    tmp_path, soak, record_property, suffix, quick, long
):
    tally, cases = Tally(), long if soak else quick
    splits = st.sampled_from(["train", "train", "test"])
    fuzz(
        st.tuples(splits, hostile(suffix)),
        cases,
        lambda drawn: judge(tmp_path, drawn[0], suffix, drawn[1], tally),
    )
    note(record_property, f"damaged .{suffix} files", tally, cases)


@pytest.mark.parametrize(("suffix", "quick", "long"), parameters("odd types"))
def test_odd_column_types_end_as_rows_or_as_one_error(
    tmp_path, soak, record_property, suffix, quick, long
):
    tally, cases = Tally(), long if soak else quick
    fuzz(odd_table(), cases, lambda case: judge(tmp_path, "train", suffix, case, tally))
    assert (
        "a .parquet file must be readable by pyarrow" not in tally.rules
    )  # the files are sound: a row is at fault, or the columns
    note(record_property, "Parquet files with odd column types", tally, cases)


def note(
    record_property: Callable[[str, object], None], fault: str, tally: Tally, cases: int
) -> None:
    assert tally.cases >= cases
    assert min(tally.rows, tally.errors) > tally.cases / 8, tally  # the fuzz reaches both ends ...
    assert len(tally.rules) > 3 or cases < 1000 or fault == "damaged .parquet files", (
        tally
    )  # ... and many checks
    seen = (
        f"a row, or one error with file and line ({tally.rows} files were read, {tally.errors}"
        " refused)"
    )
    record_property("fault", {"fault": fault, "injected": tally.cases, "lost": 0, "seen": seen})


@st.composite
def well_formed(draw: Callable[..., Any], suffix: str) -> Case:
    texts = texts_for(suffix)
    setup = draw(st.sampled_from(setups(texts)))
    rows = rows_of(draw, setup, texts, 8)
    extra = draw(
        st.sampled_from(
            [
                {},
                {},
                {"idx": 7},
                {"note": "n"},
                {"nested": {"sentence": ["x", None]}} if suffix in ("jsonl", "parquet") else {},
            ]
        )
    )
    content = to_bytes(
        suffix, [extra | row for row in rows], lambda values: draw(st.sampled_from(values))
    )
    return Case(setup, content, tuple(rows))


@pytest.mark.parametrize(("suffix", "quick", "long"), parameters("well-formed"))
def test_what_was_written_is_read(tmp_path, soak, record_property, suffix, quick, long):
    read_rows = []

    def law(case):
        setup, content, rows = case
        (tmp_path / f"train.{suffix}").write_bytes(content)
        data = read(tmp_path, setup)
        examples = list(data.splits["train"])
        assert len(examples) == len(data.splits["train"]) == len(rows)
        assert [example.texts for example in examples] == [
            tuple(row[name] for name in setup.texts) for row in rows
        ]
        assert [example.label for example in examples] == expected_labels(setup, rows)
        assert [example.row for example in examples] == list(range(len(rows)))
        # Names that are nearly alike are said to be so; nothing else is to be said of what was
        # written as it should be.
        assert [
            line
            for line in data.notices
            if not line.startswith("classes that differ in case or blanks")
        ] == []
        read_rows.append(len(rows))

    cases = long if soak else quick
    fuzz(well_formed(suffix), cases, law)
    assert len(read_rows) >= cases
    seen = f"all {sum(read_rows)} rows, in order"
    record_property(
        "fault",
        {
            "fault": f"any text in a .{suffix} file",
            "injected": len(read_rows),
            "lost": 0,
            "seen": seen,
        },
    )
