"""Rows of a Parquet file, and every way in which one is damaged."""

import pyarrow
import pyarrow.parquet
import pytest
from support.written_files import (
    COLA,
    read_folder,
    refuses,
    texts_of,
)


def test_an_empty_parquet_file_and_duplicate_columns(tmp_path):
    path = tmp_path / "train.parquet"
    schema = pyarrow.schema([("sentence", pyarrow.string()), ("label", pyarrow.int64())])
    pyarrow.parquet.write_table(schema.empty_table(), path)
    with refuses("at least one row", "train.parquet with none"):
        read_folder(tmp_path)
    columns = [pyarrow.array(["a"]), pyarrow.array([1]), pyarrow.array([1])]
    pyarrow.parquet.write_table(
        pyarrow.Table.from_arrays(columns, ["sentence", "label", "label"]), path
    )
    with refuses("column names must be unique", "train.parquet: 'label'"):
        read_folder(tmp_path)


def test_the_columns_of_a_parquet_file_are_listed(load):
    with refuses("--task custom needs --text-columns", "train.parquet: sentence, label"):
        load({"train.parquet": COLA}, "custom")


def parquet(tmp_path, *columns, **rest):
    names, arrays = zip(*columns, strict=True)
    pyarrow.parquet.write_table(
        pyarrow.Table.from_arrays(list(arrays), list(names)), tmp_path / "train.parquet", **rest
    )
    return tmp_path


@pytest.mark.parametrize(
    "values",
    [
        pyarrow.array([0, 2**62], pyarrow.timestamp("us")),
        pyarrow.array([0, 2**31 - 1], pyarrow.date32()),
        pyarrow.array([0, 2**62], pyarrow.duration("s")),
        pyarrow.Array.from_buffers(
            pyarrow.string(),
            2,
            [None, *map(pyarrow.py_buffer, [b"\0\0\0\0\1\0\0\0\2\0\0\0", b"a\xff"])],
        ),
    ],
)
def test_a_value_that_python_cannot_hold_is_reported_with_its_row_and_column(tmp_path, values):
    folder = parquet(tmp_path, ("sentence", pyarrow.array(["a", "b"])), ("label", values))
    with refuses("a value of a .parquet file must be readable", "train.parquet:row 2: label: "):
        read_folder(folder)


def test_a_column_that_nobody_wants_is_not_decoded(tmp_path):
    columns = [
        ("date", pyarrow.array([2**62, 0], pyarrow.timestamp("us"))),
        ("sentence", pyarrow.array(["a", "b"])),
    ]
    data = read_folder(parquet(tmp_path, *columns), "custom", text_columns=("sentence",))
    assert texts_of(data.splits["train"]) == ["a", "b"]
    with refuses("column 'text' must be in the data", "train.parquet:row 1", "date, sentence"):
        read_folder(tmp_path, "custom", text_columns=("text",))
    with refuses("--task custom needs --text-columns", "train.parquet: date, sentence"):
        read_folder(tmp_path, "custom")


def test_a_damaged_page_is_noticed_by_its_checksum(tmp_path):
    columns = [("sentence", pyarrow.array(["abcdefgh", "b"])), ("label", pyarrow.array([0, 1]))]
    parquet(
        tmp_path,
        *columns,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
    )
    path = tmp_path / "train.parquet"
    assert path.read_bytes().count(b"abcdefgh") == 1
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abcdefgi"))
    with refuses("must be readable by pyarrow", "train.parquet after row 0: ", "checksum"):
        read_folder(tmp_path)
