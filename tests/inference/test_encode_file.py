"""Texts of a file to vectors of a file, by an encoder that counts letters."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from glot_jax.errors import UsageError
from glot_jax.inference import encode_file as encode_file_module
from glot_jax.inference.encode_file import check_files, encode_file, text_file
from glot_jax.inference.row_files import Survey


class Letters:
    """The vector of a text is its number of letters; windows are recorded."""

    dim = 1

    def __init__(self):
        self.windows: list[int] = []

    def encode(self, texts: Sequence[str], batch_size: int, normalize: bool) -> np.ndarray:
        del batch_size, normalize
        self.windows.append(len(texts))
        return np.array([[len(text)] for text in texts], np.float32)


@pytest.fixture
def encoder() -> Letters:
    return Letters()


def test_a_file_is_encoded_a_window_at_a_time_and_progress_is_told(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(encode_file_module, "_WINDOW", 2)
    (tmp_path / "texts.txt").write_text("a\nbb\n\nccc\ndddd\n")
    source = text_file(tmp_path / "texts.txt")
    rows = check_files(source, tmp_path / "v.npy")
    told: list[int] = []
    encode_file(encoder, source, tmp_path / "v.npy", rows, progress=told.append)
    assert np.load(tmp_path / "v.npy")[:, 0].tolist() == [1, 2, 0, 3, 4]
    assert encoder.windows == [2, 2, 1]
    assert told == [2, 4, 5]


@pytest.mark.parametrize("rows", [1, 3])
def test_a_file_that_changed_leaves_nothing(encoder, tmp_path, rows):
    (tmp_path / "texts.txt").write_text("a\nbb\n")
    with pytest.raises(UsageError, match=r"must stay as it is.* rows.*Run it again"):
        encode_file(encoder, text_file(tmp_path / "texts.txt"), tmp_path / "v.npy", Survey(rows))
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_a_column_is_asked_of_tables_only(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"body": "one"}\n{"body": "two"}\n')
    assert check_files(text_file(tmp_path / "texts.jsonl", "body"), tmp_path / "v.npy").rows == 2
    with pytest.raises(UsageError, match=r"--column must name what is in FILE; got .*body"):
        check_files(text_file(tmp_path / "texts.jsonl"), tmp_path / "v.npy")
    (tmp_path / "texts.txt").write_text("one\n")
    with pytest.raises(UsageError, match="Leave out --column"):
        check_files(text_file(tmp_path / "texts.txt", "body"), tmp_path / "v.npy")


def test_out_must_be_of_a_known_format_in_a_folder_that_exists(tmp_path):
    (tmp_path / "texts.txt").write_text("one\n")
    source = text_file(tmp_path / "texts.txt")
    with pytest.raises(UsageError, match="format of --out"):
        check_files(source, tmp_path / "v.xlsx")
    with pytest.raises(UsageError, match="must lie in a folder that exists"):
        check_files(source, tmp_path / "none" / "v.npy")


def test_columns_of_the_file_stand_beside_the_vectors(encoder, tmp_path):
    (tmp_path / "in.csv").write_text("id,text\n7,abc\n8,\n")
    source = text_file(tmp_path / "in.csv")
    for suffix in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"out.{suffix}"
        encode_file(encoder, source, out, check_files(source, out))
    assert (tmp_path / "out.csv").read_text() == "id,text,vector\n7,abc,[3.0]\n8,,[0.0]\n"
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines == [
        {"id": "7", "text": "abc", "vector": [3.0]},
        {"id": "8", "text": "", "vector": [0.0]},
    ]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["id", "text", "row", "vector"]
    assert table["row"].to_pylist() == [0, 1]
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 1)


def test_a_column_of_the_file_is_not_overwritten(tmp_path):
    (tmp_path / "in.csv").write_text("row,text,vector\n7,abc,x\n")
    source = text_file(tmp_path / "in.csv")
    with pytest.raises(UsageError, match=r"must not have the columns.*vector.*Rename"):
        check_files(source, tmp_path / "out.jsonl")
    # The vectors alone overwrite nothing.
    assert check_files(source, tmp_path / "out.npy").rows == 1
