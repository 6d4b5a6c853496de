"""What is written is read back: by csv, by pandas, and by our own readers."""

from __future__ import annotations

import csv
import itertools
import json

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.inference.row_files import RowFile, Survey
from glot_jax.inference.row_writers import ROW_WRITERS, CsvWriter, survey_rows

PARTS = ("", "a", " ", "\r", "\n", "\r\n", '"', ",", ";", "\t", "|", "'", "\u2028", "é")
CELLS = sorted({"".join(parts) for parts in itertools.product(PARTS, repeat=3)})
"""Everything that three of these parts give."""


def write(path, cells, name="text"):
    """A file of these cells in two columns, the second one beside what is added."""
    survey = Survey(len(cells), dict.fromkeys(("id", name)))
    writer = CsvWriter(path, survey, ("prediction",))
    rows = [{"id": str(number), name: cell} for number, cell in enumerate(cells)]
    writer.write(rows, {"prediction": cells[::-1]})
    writer.close()


def by_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def by_pandas(path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
    return frame.to_dict("records")


def by_ours(path):
    file = RowFile(path, ("text",))
    source = file.open()
    return [dict(values) for _, values in file.rows(source, file.survey(source, types=False))]


@pytest.mark.parametrize("read", [by_csv, by_pandas, by_ours])
def test_a_csv_is_read_back(tmp_path, read):
    write(tmp_path / "out.csv", CELLS)
    rows = read(tmp_path / "out.csv")
    assert [row["id"] for row in rows] == [str(number) for number in range(len(CELLS))]
    assert [row["text"] for row in rows] == CELLS
    assert [row["prediction"] for row in rows] == CELLS[::-1]


@pytest.mark.parametrize("read", [by_csv, by_pandas])
def test_names_of_columns_are_read_back(tmp_path, read):
    write(tmp_path / "out.csv", ["x"], name="a\rb")
    assert read(tmp_path / "out.csv") == [{"id": "0", "a\rb": "x", "prediction": "x"}]


def test_only_what_needs_quotes_has_them(tmp_path):
    survey = Survey(3, dict.fromkeys(("text",)))
    writer = CsvWriter(tmp_path / "out.csv", survey, ("score",))
    rows = [{"text": text} for text in ("plain", "a\rb", "a, b")]
    writer.write(rows, {"score": np.array([0.5, 1.0, 2.0])})
    writer.close()
    expected = b'text,score\nplain,0.5\n"a\rb",1.0\n"a, b",2.0\n'
    assert (tmp_path / "out.csv").read_bytes() == expected


@pytest.mark.parametrize("suffix", ["npy", *ROW_WRITERS])
@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"text": "a \ud83d"}, "text"),
        ({"text": "a", "id": "\ud83d"}, "id"),
        ({"text": "a", "of": [{"at": ["\ud83d"]}]}, "of"),
        ({"text": "a", "of": {"\ud83d": 1}}, "of"),
        ({"text": "a", "\ud83d": 1}, "'.ud83d'"),
    ],
)
def test_half_a_character_is_told_before_anything_is_loaded(tmp_path, suffix, row, name):
    lines = [json.dumps(values) for values in ({"text": "whole \ud83d\ude00"}, row)]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    file = RowFile(tmp_path / "in.jsonl", ("text",))
    out = tmp_path / f"out.{suffix}"
    formats = ("npy", *ROW_WRITERS)
    if suffix == "npy" and name != "text":
        # Its columns are not written.
        assert survey_rows(file, out, formats, lambda _: ()).rows == 2
        return
    with pytest.raises(UsageError, match=f"UTF-8.*in.jsonl:2: {name} holds half of a surrogate"):
        survey_rows(file, out, formats, lambda _: ())
