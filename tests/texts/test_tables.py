"""Tables in every dialect: what csv and pandas wrote is read, what is mended is said with its count
and its place.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import tempfile
from pathlib import Path

import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
any_text = st.text(st.sampled_from('ab"",;\t|\n \u2028é👩'), max_size=8)


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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(any_text, min_size=1, max_size=6),
    st.sampled_from(",;\t|"),
    st.sampled_from(["csv", "tsv"]),
    st.booleans(),
)
def test_what_pandas_writes_is_read_as_pandas_reads_it(texts, delimiter, suffix, quote_all):
    frame = pandas.DataFrame({"text": ["first", *texts], "label": ["x", *["y"] * len(texts)]})
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"train.{suffix}"
        frame.to_csv(path, sep=delimiter, index=False, quoting=quoting)
        found = examples(task(Path(folder)))
        again = pandas.read_csv(path, sep=delimiter, keep_default_na=False)
    assert [(text, "xy"[label]) for text, label in found] == list(
        again.itertuples(index=False, name=None)
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.sampled_from('ab",; é'), max_size=8), min_size=1, max_size=6))
def test_a_file_of_tabs_with_a_lone_quotation_mark_has_no_quotes(texts):
    rows = [["text", "label"], ['the " alone', 0], *([text, 1] for text in texts)]
    with tempfile.TemporaryDirectory() as folder:
        write_all(
            Path(folder), {"train.tsv": "".join(f"{text}\t{label}\n" for text, label in rows)}
        )
        assert examples(task(Path(folder))) == expected(rows)


def test_a_table_without_quotes_says_nothing_and_one_with_quotes_how_many(tmp_path):
    write_all(tmp_path, {"train.tsv": 'text\tlabel\n"Both"\t0\nx\t1\n"all, of it"\t1\n'})
    data = task(tmp_path)
    assert (data.notices, examples(data)[0][0]) == ((), '"Both"')
    write_all(tmp_path, {"train.tsv": 'text\tlabel\nx\t0\n"a ""b"""\t0\n\n"c ""d"""\t1\n'})
    data = task(tmp_path)
    assert says(
        data, "train.tsv: fields in quotation marks are read", "2 of 3 rows, first ", "train.tsv:3"
    )
    assert [text for text, _ in examples(data)] == ["x", 'a "b"', 'c "d"']
    # One field that follows no rule, and all of them are as they are written: said, since most look
    # quoted.
    write_all(
        tmp_path, {"train.tsv": 'text\tlabel\nx\t0\n"a ""b"""\t0\n"c ""d"""\t1\n5" wide\t1\n'}
    )
    data = task(tmp_path)
    assert says(
        data,
        "quotation marks are kept as they are written",
        "train.tsv:5 follows no rule",
        "2 of 4, first ",
        "train.tsv:3",
    )
    assert [text for text, _ in examples(data)] == ["x", '"a ""b"""', '"c ""d"""', '5" wide']


def test_excel_quotes_for_commas_in_its_utf_16(tmp_path):
    text = 'text\tlabel\r\n"one, two"\t0\r\nthree\t1\r\n'
    write_all(tmp_path, {"train.tsv": codecs.BOM_UTF16_LE + text.encode("utf-16-le")})
    assert examples(task(tmp_path)) == [("one, two", 0), ("three", 1)]
    write_all(tmp_path, {"train.tsv": text})
    assert examples(task(tmp_path))[0] == ('"one, two"', 0)


def test_the_separator_is_found_from_the_whole_file_where_the_header_is_no_help(tmp_path):
    write_all(tmp_path, {"train.csv": "Text;Label\na;0\nb,c;1\n"})
    with refuses("column 'text' is missing", "Did you mean 'Text'? Columns there: Text, Label."):
        task(tmp_path)
    # A comma in the header is no separator where the columns are there with another one.
    write_all(tmp_path, {"train.csv": "text;label;a, b\nx;0;1,5\ny;1;2,5\n"})
    assert examples(task(tmp_path)) == [("x", 0), ("y", 1)]
    # The suffix's separator is kept as long as it gives the columns: a row that breaks it is an
    # error, not another dialect.
    write_all(tmp_path, {"train.csv": "text,label\na;b,0\nc;d,1,2\n"})
    with refuses("a row has one field for each column", "train.csv:3"):
        task(tmp_path)


def test_the_line_for_excel_names_the_separator(tmp_path):
    write_all(tmp_path, {"train.csv": "sep=|\r\ntext|label\r\na;b|0\r\n\r\nc|1|\r\n"})
    data = task(tmp_path)
    assert examples(data) == [("a;b", 0), ("c", 1)]
    assert says(data, "empty fields after the last column", "1 of 2, first ", "train.csv:5")


def test_decimal_commas_are_numbers_where_semicolons_separate(tmp_path):
    write_all(
        tmp_path, {"train.csv": "text;label\n1,5;3,25\nb;-0,5\n", "dev.csv": "text,label\na,0.5\n"}
    )
    data = task(tmp_path)
    assert examples(data) == [("1,5", 3.25), ("b", -0.5)]
    assert says(
        data, "train.csv: labels with a decimal comma are read as numbers: 2, first ", "train.csv:2"
    )


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
        "column names are unique",
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
    with refuses("a row has one field for each column", "train.csv:4: 4 fields, the header has 2"):
        task(tmp_path)
    write_all(tmp_path, {"train.csv": "text,label\na,0\nb,1,,\n"})
    data = task(tmp_path)
    assert examples(data) == [("a", 0), ("b", 1)]
    assert says(
        data, "empty fields after the last column, which are ignored: 1 of 2, first ", "train.csv:3"
    )


def test_a_megabyte_of_quotation_marks_takes_no_time(tmp_path):
    import time

    write_all(
        tmp_path,
        {"train.tsv": 'text\tlabel\n"' + '""' * 500_000 + '"\t0\nx\t1\n"y\t0' + "\nz\t1" * 50_000},
    )
    start = time.process_time()
    assert examples(task(tmp_path))[1] == ("x", 1)
    assert time.process_time() - start < 5


def test_a_place_counts_the_lines_of_the_file(tmp_path):
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=";").writerows(
        [["text", "label"], ["two\r\nlines\r\n", 0], ["b", 1], ["c"]]
    )
    write_all(tmp_path, {"train.csv": file.getvalue()})
    with refuses("a row has one field for each column", "train.csv:6: 1 fields"):
        task(tmp_path)


def test_a_quotation_mark_that_is_never_closed_does_not_take_the_whole_file(tmp_path, monkeypatch):
    import tracemalloc

    from glot_jax.texts import text_lines

    monkeypatch.setattr(text_lines, "LONGEST_LINE", 100_000)
    write_all(
        tmp_path, {"train.csv": 'text,label\na,0\n"b,1\n' + "c c c c c c c c c,1\n" * 200_000}
    )
    tracemalloc.start()
    try:
        with refuses("a .csv file follows RFC 4180", "train.csv:3: field larger than field limit"):
            task(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000  # of 4 MB
    finally:
        tracemalloc.stop()
        csv.field_size_limit(text_lines.LONGEST_LINE)
