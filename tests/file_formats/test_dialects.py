"""The separator of a table is found from the whole file."""

from __future__ import annotations

import csv
import io
import itertools

import pytest
from support.written_files import examples, refuses, says, table, task, write_all

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
    ("suffix", "delimiter"), list(itertools.product(["csv", "tsv", "tab", "txt"], ",;\t|"))
)
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_every_dialect_is_read_whatever_the_suffix(tmp_path, suffix, delimiter, quoting):
    write_all(tmp_path, {f"train.{suffix}": table(ROWS, delimiter, quoting=quoting)})
    data = task(tmp_path)
    assert examples(data) == expected(ROWS)
    own = "," if suffix == "csv" else "\t"
    assert says(data, f"train.{suffix}: its columns are separated by ") == (delimiter != own)
    assert says(data, "fields in quotation marks are read as pandas and Excel write them") == (
        suffix != "csv" and delimiter == "\t"
    )


def test_the_separator_is_found_from_the_whole_file_where_the_header_is_no_help(tmp_path):
    write_all(tmp_path, {"train.csv": "Text;Label\na;0\nb,c;1\n"})
    with refuses(
        "column 'text' must be in the data", "Did you mean 'Text'? Columns there: Text, Label."
    ):
        task(tmp_path)
    # A comma in the header is no separator where the columns are there with another one.
    write_all(tmp_path, {"train.csv": "text;label;a, b\nx;0;1,5\ny;1;2,5\n"})
    assert examples(task(tmp_path)) == [("x", 0), ("y", 1)]
    # The suffix's separator is kept as long as it gives the columns: a row that breaks it is an
    # error, not another dialect.
    write_all(tmp_path, {"train.csv": "text,label\na;b,0\nc;d,1,2\n"})
    with refuses("a row must have one field for each column", "train.csv:3"):
        task(tmp_path)


def test_the_line_for_excel_names_the_separator(tmp_path):
    write_all(tmp_path, {"train.csv": "sep=|\r\ntext|label\r\na;b|0\r\n\r\nc|1|\r\n"})
    data = task(tmp_path)
    assert examples(data) == [("a;b", 0), ("c", 1)]
    assert says(data, "empty fields after the last column", "1 of 2, first ", "train.csv:5")


def test_a_place_counts_the_lines_of_the_file(tmp_path):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=";").writerows(
        [["text", "label"], ["two\r\nlines\r\n", 0], ["b", 1], ["c"]]
    )
    write_all(tmp_path, {"train.csv": file.getvalue()})
    with refuses("a row must have one field for each column", "train.csv:6: 1 fields"):
        task(tmp_path)


def test_a_quotation_mark_that_is_never_closed_does_not_take_the_whole_file(tmp_path, monkeypatch):
    import tracemalloc

    from glot_jax.file_formats import text_lines

    monkeypatch.setattr(text_lines, "LONGEST_LINE", 100_000)
    write_all(
        tmp_path, {"train.csv": 'text,label\na,0\n"b,1\n' + "c c c c c c c c c,1\n" * 200_000}
    )
    tracemalloc.start()
    try:
        with refuses(
            "a .csv file must follow RFC 4180", "train.csv:3: field larger than field limit"
        ):
            task(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000  # of 4 MB
    finally:
        tracemalloc.stop()
        csv.field_size_limit(text_lines.LONGEST_LINE)
