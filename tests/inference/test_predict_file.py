"""`glot predict`: rows in are rows out, in their order, with their own columns."""

from __future__ import annotations

import csv
import io
import json
import os
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glot_jax.errors import UsageError
from glot_jax.inference import predict_file as predict_file_module
from glot_jax.inference.answering import Answers
from glot_jax.inference.predict_file import (
    added_columns,
    arriving_lines,
    check_rows,
    predict_file,
    predict_lines,
)
from glot_jax.inference.row_files import RowFile
from glot_jax.texts.tasks import TaskSpec

CLASSES = ("even", "odd, really")


class Letters:
    """The class of a row is whether its texts have an odd number of letters."""

    def __init__(self, columns=("text",), classes=CLASSES):
        self.task = TaskSpec(
            "custom",
            columns,
            ("text",) if len(columns) == 1 else ("a", "b"),
            label_column="label",
            label_kind="classes" if classes else "regression",
            classes=classes,
        )
        self.classes: tuple[str, ...] = classes
        self.windows: list[int] = []

    def predict(self, rows, batch_size=32):
        del batch_size
        self.windows.append(len(rows))
        counts = np.array([sum(map(len, row)) for row in rows])
        if not self.classes:
            return Answers(counts / 2, None)
        odd = np.where(counts % 2 == 1, 0.75, 0.25)
        return Answers((odd > 0.5).astype(int), np.stack([1 - odd, odd], axis=1))


def predicted(path, out, predictor=None, columns=("text",)):
    predictor = predictor or Letters(columns)
    rows = RowFile(path, columns)
    survey = check_rows(rows, out, predictor.task)
    predict_file(predictor, rows, out, survey)
    return survey


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_csv_keeps_its_columns_and_its_order(tmp_path, monkeypatch):
    monkeypatch.setattr(predict_file_module, "_WINDOW", 2)
    (tmp_path / "in.csv").write_text(
        '\ufeffid,text,note\n7,abc,"x, ""y"""\n8,,\n9,"two\nlines",ü\n10,"a, b",\n5,😀,z\n',
        encoding="utf-8",
    )
    predictor = Letters()
    predicted(tmp_path / "in.csv", tmp_path / "out.csv", predictor)
    rows = read_csv(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == ["7", "8", "9", "10", "5"]
    assert [row["text"] for row in rows] == ["abc", "", "two\nlines", "a, b", "😀"]
    assert [row["note"] for row in rows] == ['x, "y"', "", "ü", "", "z"]
    names = ["odd, really", "even", "odd, really", "even", "odd, really"]
    assert [row["prediction"] for row in rows] == names
    assert [row["probability"] for row in rows] == ["0.75"] * 5
    assert rows[0]["probability.odd, really"] == "0.75"
    assert rows[0]["probability.even"] == "0.25"
    assert predictor.windows == [2, 2, 1]


def test_jsonl_keeps_values_as_they_are(tmp_path):
    lines = [
        {"text": "abc", "n": 1, "tags": ["x", {"y": None}]},
        {"text": "ab", "extra": 2.5},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    predicted(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for row, line in zip(rows, lines, strict=True):
        assert {name: row[name] for name in line} == line
        assert set(row) == {*line, *added_columns(Letters().task)}
    predicted(tmp_path / "in.jsonl", tmp_path / "out.csv")
    written = read_csv(tmp_path / "out.csv")
    assert written[0]["tags"] == '["x", {"y": null}]'
    assert written[1]["n"] == ""
    predicted(tmp_path / "in.jsonl", tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.field("n").type == pa.int64()
    assert table.schema.field("extra").type == pa.float64()
    assert json.loads(table["tags"][0].as_py()) == ["x", {"y": None}]


def test_parquet_keeps_its_types(tmp_path):
    table = pa.table(
        {
            "text": ["abc", "ab"],
            "when": pa.array([0, 86_400_000], pa.timestamp("ms")),
            "small": pa.array([1, None], pa.int8()),
            "list": [[1, 2], []],
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    predicted(tmp_path / "in.parquet", tmp_path / "out.parquet")
    written = pq.read_table(tmp_path / "out.parquet")
    assert written.select(table.column_names).equals(table)
    assert written["prediction"].to_pylist() == ["odd, really", "even"]
    predicted(tmp_path / "in.parquet", tmp_path / "out.jsonl")
    first, _ = (tmp_path / "out.jsonl").read_text().splitlines()
    assert json.loads(first)["when"] == "1970-01-01 00:00:00"


def test_scores_and_pairs(tmp_path):
    (tmp_path / "in.tsv").write_text("left\tright\nab\tc\nd\t\n")
    columns = ("left", "right")
    predicted(tmp_path / "in.tsv", tmp_path / "out.csv", Letters(columns, ()), columns)
    assert [row["prediction"] for row in read_csv(tmp_path / "out.csv")] == ["1.5", "0.5"]
    assert added_columns(Letters(classes=()).task) == ("prediction",)


def test_a_txt_has_a_text_a_line(tmp_path):
    (tmp_path / "in.txt").write_text("abc\n\nab\n")
    predicted(tmp_path / "in.txt", tmp_path / "out.csv")
    assert [row["text"] for row in read_csv(tmp_path / "out.csv")] == ["abc", "", "ab"]


@pytest.mark.parametrize(
    ("content", "out", "message"),
    [
        (
            "id,txet\n1,a\n",
            "o.csv",
            r"--text-columns must name what is in FILE; got .*txet.*Did you mean 'txet'",
        ),
        ("text\n", "o.csv", "FILE must have rows"),
        ("text,prediction\na,b\n", "o.csv", r"must not have the columns.*prediction"),
        ("text\na\n", "o.xlsx", "format of --out"),
        ("text\na\n", "none/o.csv", "must lie in a folder that exists"),
    ],
)
def test_bad_input_ends_before_anything_is_loaded(tmp_path, content, out, message):
    (tmp_path / "in.csv").write_text(content)
    with pytest.raises(UsageError, match=message):
        check_rows(RowFile(tmp_path / "in.csv", ("text",)), tmp_path / out, Letters().task)
    with pytest.raises(UsageError, match="which is not a file"):
        check_rows(RowFile(tmp_path / "no.csv", ("text",)), tmp_path / "o.csv", Letters().task)


def test_a_file_that_changed_leaves_nothing(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("text\na\nb\n")
    rows = RowFile(path, ("text",))
    survey = check_rows(rows, tmp_path / "out.csv", Letters().task)
    path.write_text("text\na\n")
    (tmp_path / "out.csv").write_text("before")
    with pytest.raises(UsageError, match="must stay as it is"):
        predict_file(Letters(), rows, tmp_path / "out.csv", survey)
    assert (tmp_path / "out.csv").read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"in.csv", "out.csv"}


# --------------------------------------------------------------------------------------------------
# stdin


def test_lines_are_answered_as_they_come():
    read, write = os.pipe()
    lines = arriving_lines(read)
    os.write(write, "abc\nü".encode()[:-1])
    assert next(lines) == ["abc"]
    # The second half of a character, and two more lines at once.
    os.write(write, "ü".encode()[-1:] + b"\r\n\nlast")
    assert next(lines) == ["ü", ""]
    os.close(write)
    assert list(lines) == [["last"]]
    os.close(read)


def test_lines_are_written_as_json():
    read, write = os.pipe()
    threading.Thread(target=lambda: (os.write(write, b"abc\nab\n"), os.close(write))).start()
    out = io.StringIO()
    predict_lines(Letters(), arriving_lines(read), out)
    os.close(read)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["text"] for row in rows] == ["abc", "ab"]
    assert [row["prediction"] for row in rows] == ["odd, really", "even"]


def test_a_line_is_one_text_in_its_encoding():
    with pytest.raises(UsageError, match=r"a line is one text; got .*left, right"):
        predict_lines(Letters(("left", "right")), iter([["a"]]), io.StringIO())
    read, write = os.pipe()
    os.write(write, b"caf\xe9\n")
    os.close(write)
    with pytest.raises(UsageError, match=r"must be text in utf-8; got a line with the byte 0xe9"):
        next(arriving_lines(read))
    os.close(read)
