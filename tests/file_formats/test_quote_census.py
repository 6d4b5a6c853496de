"""Whether a file of tabs has quoted fields is counted over the whole of it."""

from __future__ import annotations

import codecs
import csv
import tempfile
from pathlib import Path

import pandas
from hypothesis import given, settings
from hypothesis import strategies as st
from support.written_files import examples, says, task, write_all

any_text = st.text(st.sampled_from('ab"",;\t|\n \u2028é👩'), max_size=8)


def expected(rows: list[list]) -> list[tuple]:
    return [tuple(row) for row in rows[1:]]


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
        rows = examples(task(Path(folder)))
        again = pandas.read_csv(path, sep=delimiter, keep_default_na=False)
    assert [(text, "xy"[label]) for text, label in rows] == list(
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


def test_a_megabyte_of_quotation_marks_takes_no_time(tmp_path):
    import time

    write_all(
        tmp_path,
        {"train.tsv": 'text\tlabel\n"' + '""' * 500_000 + '"\t0\nx\t1\n"y\t0' + "\nz\t1" * 50_000},
    )
    start = time.process_time()
    assert examples(task(tmp_path))[1] == ("x", 1)
    assert time.process_time() - start < 5
