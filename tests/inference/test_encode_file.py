"""Texts of a file to vectors of a file, by an encoder that counts letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.inference import encode_file as encode_file_module
from glot_jax.inference.encode_file import TextFile, check_files, encode_file


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
    source = TextFile(tmp_path / "texts.txt")
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
        encode_file(encoder, TextFile(tmp_path / "texts.txt"), tmp_path / "v.npy", rows)
    assert [path.name for path in tmp_path.iterdir()] == ["texts.txt"]


def test_a_column_is_asked_of_tables_only(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"body": "one"}\n{"body": "two"}\n')
    assert list(TextFile(tmp_path / "texts.jsonl", "body").texts()) == ["one", "two"]
    with pytest.raises(UsageError, match=r"--column must be a column of FILE; got .*body"):
        check_files(TextFile(tmp_path / "texts.jsonl"), tmp_path / "v.npy")
    (tmp_path / "texts.txt").write_text("one\n")
    with pytest.raises(UsageError, match="Leave out --column"):
        check_files(TextFile(tmp_path / "texts.txt", "body"), tmp_path / "v.npy")


def test_out_must_be_of_a_known_format_in_a_folder_that_exists(tmp_path):
    (tmp_path / "texts.txt").write_text("one\n")
    source = TextFile(tmp_path / "texts.txt")
    with pytest.raises(UsageError, match="format of --out"):
        check_files(source, tmp_path / "v.csv")
    with pytest.raises(UsageError, match="must lie in a folder that exists"):
        check_files(source, tmp_path / "none" / "v.npy")
