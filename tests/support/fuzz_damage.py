"""Files that are damaged, and tables with columns of odd types: whatever a disk may hold."""

import csv
import json
import math
import uuid
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from support.fuzz_rows import (
    BREAKS,
    MEGABYTE,
    SNIPPETS,
    Case,
    Setup,
    csv_lines,
    parquet_bytes,
    rarely,
    rows_of,
    setups,
)

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


def damage_object(rows: list[Any], row: int, name: str, how: str, value: object) -> None:
    if not isinstance(rows[row], dict):
        return
    if how == "drop":
        rows[row] = {key: kept for key, kept in rows[row].items() if key != name} or value
    else:
        rows[row] = rows[row] | {f"{name}\ud83d" if how == "add" else name: value}


def damage_line(lines: list[list[Any]], row: int, column: int, how: str, value: object) -> None:
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


def repeat_a_name(_draw: Callable[..., Any], data: bytes) -> bytes:
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
    """A sound Parquet file with types that a text or a label does not have.

    They stand in columns that are read and in others.
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
