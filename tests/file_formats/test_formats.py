"""One function opens every file: what extract.py reads, `glot encode` reads too."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest
from support.written_files import COMPRESS, refuses, table, write_all

from glot_jax.file_formats.formats import (
    FORMATS,
    OPENERS,
    Reading,
    is_data_name,
    name_parts,
    open_file,
)
from glot_jax.inference.encode_file import check_files, text_file

TEXTS = ["plain", "a; b, c", 'he said "hi"', "", "é 👩‍🚀 \u2028 x"]
ROWS = [{"id": index, "text": text} for index, text in enumerate(TEXTS)]
CELLS = [["id", "text"], *([row["id"], row["text"]] for row in ROWS)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
CONTENTS = {
    "jsonl": LINES,
    "ndjson": LINES,
    "json": json.dumps(ROWS),
    "csv": table(CELLS),
    "tsv": table(CELLS, "\t"),
    "tab": table(CELLS, "\t"),
    "txt": "".join(f"{text}\n" for text in TEXTS),
}


@pytest.mark.parametrize("suffix", OPENERS)
@pytest.mark.parametrize("packed", COMPRESS)
def test_every_format_is_encoded(tmp_path, suffix, packed, capsys):
    path = tmp_path / f"some texts.{suffix}{packed}"
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
        if packed:
            with refuses("a .parquet file must not be compressed as a whole", "Unpack it"):
                check_files(text_file(path), tmp_path / "v.npy")
            return
    else:
        write_all(tmp_path, {path.name: CONTENTS[suffix]})
    assert check_files(text_file(path), tmp_path / "v.npy").rows == len(TEXTS)
    file = text_file(path)
    source = file.open()
    assert [file.texts(record) for record in source.read(["text"])] == [(text,) for text in TEXTS]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == (suffix in ("tsv", "tab"))
    assert all("fields in quotation marks are read" in line for line in said)


def test_what_cannot_be_encoded_is_explained(tmp_path):
    write_all(
        tmp_path,
        {"a.csv": "Text;n\nx;1\n", "b.docx": "x", "c.csv": b"text\ncaf\xe9\n", "d.txt": "x\n"},
    )
    write_all(tmp_path, {"g.jsonl": '{"text": 7}\n', "h.jsonl": '{"text": "\\ud83d"}\n'})
    (tmp_path / "e.csv").symlink_to("nothing")
    for name, column, parts in (
        (
            "a.csv",
            None,
            ("--column must name what is in FILE", "a.csv:1: Text, n", "Did you mean 'Text'?"),
        ),
        ("b.docx", None, ("unknown format of a data file", "docx")),
        ("c.csv", None, ("text files must be UTF-8", "c.csv:2", "cp1252")),
        ("d.txt", "x", ("a text in each line",)),
        ("e.csv", None, ("a data file must exist", "a link to nothing")),
        ("f.csv", None, ("FILE must hold texts", "not a file")),
        (
            "g.jsonl",
            None,
            ("a text must be a string", "g.jsonl:1: text = 7", 'an empty text is ""'),
        ),
        ("h.jsonl", None, ("encodable as UTF-8", "h.jsonl:1: text holds half")),
    ):
        with refuses(*parts):
            check_files(text_file(tmp_path / name, column), tmp_path / "v.npy")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("train.jsonl", ("train", "jsonl", "")),
        ("Train.CSV.GZ", ("Train", "csv", "gz")),
        ("a.b.tsv.zst", ("a.b", "tsv", "zst")),
        ("train", ("train", "", "")),
        (".csv", (".csv", "", "")),
        ("x.gz", ("x", "", "gz")),
        ("archive.tar.gz", ("archive", "tar", "gz")),
    ],
)
def test_the_parts_of_a_name(name, parts):
    assert name_parts(name) == parts
    assert is_data_name(name) == (parts[1] in OPENERS)


def test_the_readers_by_suffix_read_the_same(tmp_path):
    write_all(tmp_path, {"x.csv": CONTENTS["csv"], "x.jsonl": LINES})
    for suffix in ("csv", "jsonl"):
        texts = [
            record.values["text"] for record in FORMATS[suffix](tmp_path / f"x.{suffix}", ["text"])
        ]
        assert (
            texts
            == [
                record.values["text"]
                for record in open_file(tmp_path / f"x.{suffix}", Reading(columns=("text",))).read(
                    ["text"]
                )
            ]
            == TEXTS
        )
