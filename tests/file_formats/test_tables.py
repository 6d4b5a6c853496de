"""Tables in every dialect: what csv and pandas wrote is read.

What is mended is said with its count and its place.
"""

from __future__ import annotations

import itertools

import pytest
from support.written_files import COMPRESS, examples, refuses, says, table, task, write_all

ROWS = [
    ["text", "label"],
    ["plain words", 0],
    ["a, b; c | d", 1],
    ['he said "hi", then left', 0],
    ["two\nlines", 1],
    ["tab\there", 0],
    ["👩‍🚀 é \u2028 x", 1],
    ['"', 0],
    ["", 1],
]


def expected(rows: list[list]) -> list[tuple]:
    return [tuple(row) for row in rows[1:]]


@pytest.mark.parametrize(
    ("encoding", "end", "packed"),
    list(itertools.product(["utf-8", "utf-8-sig", "utf-16"], ["\n", "\r\n", "\r"], COMPRESS)),
)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_every_encoding_line_end_and_compression_gives_the_same_examples(
    tmp_path, encoding, end, packed, suffix
):
    rows = [row for row in ROWS if "\n" not in row[0]]
    text = table(rows, "," if suffix == "csv" else "\t").replace("\n", end)
    path = tmp_path / f"train.{suffix}{packed}"
    path.write_bytes(COMPRESS[packed](text.encode(encoding)))
    assert examples(task(tmp_path)) == expected(rows)
    assert examples(task(path)) == expected(rows)


def test_decimal_commas_are_numbers_where_semicolons_separate(tmp_path):
    write_all(
        tmp_path, {"train.csv": "text;label\n1,5;3,25\nb;-0,5\n", "dev.csv": "text,label\na,0.5\n"}
    )
    data = task(tmp_path)
    assert examples(data) == [("1,5", 3.25), ("b", -0.5)]
    assert says(
        data, "train.csv: labels with a decimal comma are read as numbers: 2, first ", "train.csv:2"
    )


@pytest.mark.parametrize("kind", ["auto", "classes", "regression"])
def test_decimal_commas_are_read_whatever_a_single_label_means(tmp_path, kind):
    write_all(tmp_path, {"train.csv": "text;label\na;3,25\nb;0,5\nc;0,5\n"})
    data = task(tmp_path, label_kind=kind)
    if kind == "classes":
        assert data.spec.classes == ("0.5", "3.25")
    else:
        assert data.spec.label_range == (0.5, 3.25)
    assert says(data, "labels with a decimal comma are read as numbers: 3, first ")


@pytest.mark.parametrize("separator", [",", "|"])
def test_commas_between_several_classes_are_not_decimal(tmp_path, separator):
    labels = ["1,5", f"1,5{separator}2", "2"]
    rows = "".join(f"t;{label}\n" for label in labels)
    write_all(tmp_path, {"train.csv": f"text;label\n{rows}"})
    data = task(tmp_path, label_separator=separator)
    if separator == ",":
        assert data.spec.classes == ("1", "2", "5")
        assert examples(data) == [("t", (0, 2)), ("t", (0, 1, 2)), ("t", (1,))]
    else:
        assert data.spec.classes == ("1,5", "2")
        assert examples(data) == [("t", (0,)), ("t", (0, 1)), ("t", (1,))]
    assert not says(data, "decimal comma")


@pytest.mark.parametrize("end", [",,", ",,,,"])
@pytest.mark.parametrize("lead", ["", ","])
def test_unnamed_columns_that_are_empty_are_left_out(tmp_path, end, lead):
    lines = [f"{lead}text,label{end}", f"{lead}a,0{end}", f'{lead}"b, c",1{end}']
    write_all(tmp_path, {"train.csv": "\n".join(lines)})
    data = task(tmp_path)
    assert examples(data) == [("a", 0), ("b, c", 1)]
    count = lead.count(",") + end.count(",")
    assert says(data, f"columns without a name are left out, {count} of {count + 2}")
    lines[2] = f"{lead}b,1{end[:-1]},x"
    write_all(tmp_path, {"train.csv": "\n".join(lines)})
    with refuses(
        "column names must be unique",
        "train.csv:1: '' more than once",
        "train.csv:3 has 'x' in column",
        "Name the columns",
    ):
        task(tmp_path)


def test_one_unnamed_column_is_a_column(tmp_path):
    write_all(tmp_path, {"train.csv": ",text,label\n0,a,0\n1,b,1\n"})
    assert examples(task(tmp_path)) == [("a", 0), ("b", 1)]
    assert [row[0] for row in examples(task(tmp_path, text_columns=("",), label_column=None))] == [
        "0",
        "1",
    ]


def test_rows_that_end_in_empty_fields_are_read_and_counted(tmp_path):
    write_all(tmp_path, {"train.csv": "text,label\na,0\nb,1,,\nc,1,,x\n"})
    with refuses(
        "a row must have one field for each column", "train.csv:4: 4 fields, the header has 2"
    ):
        task(tmp_path)
    write_all(tmp_path, {"train.csv": "text,label\na,0\nb,1,,\n"})
    data = task(tmp_path)
    assert examples(data) == [("a", 0), ("b", 1)]
    assert says(
        data, "empty fields after the last column, which are ignored: 1 of 2, first ", "train.csv:3"
    )
