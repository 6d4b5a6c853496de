"""What is not data is told by its first bytes, whatever the file is called."""

from __future__ import annotations

import bz2
import io
import lzma

import pyarrow
import pyarrow.parquet
import pytest
from support.written_files import examples, refuses, task, write_all

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


GOOD = "text,label\na,0\nb,1\n"


@pytest.mark.parametrize(
    "name", ["train.csv", "train.jsonl", "train.parquet", "train.txt", "train.csv.gz"]
)
def test_a_pointer_of_git_lfs_says_how_the_data_are_fetched(tmp_path, name):
    (tmp_path / name).write_text(POINTER)
    with refuses("a data file must hold data", f"{name}, a Git LFS pointer", "git lfs pull"):
        task(tmp_path)


XLSX = b"PK\x03\x04\x14\0\x06\0\x08\0"
"""How Excel's .xlsx begins: a zip archive."""


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"], "label": [1]}), file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("train.csv", XLSX, ("a .csv file must be text", "train.csv:1: a zip archive", ".xlsx")),
        ("train.jsonl", XLSX, ("a .jsonl file must be text", "Export it as .csv")),
        ("train.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ("an old .xls file", "as .csv")),
        ("train.tsv", parquet_bytes(), ("train.tsv:1: a Parquet file", "Rename it to .parquet")),
        ("train.csv", b"ARROW1\0\0\xff", ("an Arrow file", "Write it as .parquet")),
        ("train.csv", b"\x93NUMPY\x01\0", ("a NumPy array",)),
        ("train.csv", b"SQLite format 3\0", ("an SQLite database",)),
        ("train.csv", b"%PDF-1.7\n", ("a PDF",)),
        ("train.csv", lzma.compress(GOOD.encode()), ("an xz archive", "pack it as .gz or .zst")),
        ("train.csv", bz2.compress(GOOD.encode()), ("a bzip2 archive", "Unpack it")),
        ("train.csv", b"7z\xbc\xaf\x27\x1c\0", ("a 7-Zip archive", "Unpack it")),
        (
            "train.csv",
            b"\n<!DOCTYPE html>\n<html>",
            ("must hold data", "an HTML page", "raw or down"),
        ),
        ("train.csv", b"\xef\xbb\xbf<HTML lang=en>", ("must hold data", "an HTML page")),
        ("train.csv", b"/annex/objects/SHA256E-s9--1.csv\n", ("git-annex", "git annex get")),
        ("train.parquet", XLSX, ("a .parquet file must be a Parquet file", "a zip archive")),
        ("train.csv.gz", XLSX, ("a .gz file must be compressed by gzip", "a zip archive")),
    ],
)
def test_what_is_no_text_is_told_by_its_first_bytes(tmp_path, name, content, parts):
    (tmp_path / name).write_bytes(content)
    with refuses(*parts):
        task(tmp_path)


@pytest.mark.parametrize("begin", ["PAR1", "ARROW1", "BZh9", "<htmlish>", "PK"])
def test_letters_that_a_text_may_begin_with_are_text(tmp_path, begin):
    write_all(tmp_path, {"train.csv": f"{begin},text,label\nx,a,0\nx,b,1\n"})
    assert examples(task(tmp_path)) == [("a", 0), ("b", 1)]
