"""Encodings, byte-order marks and line ends are found from the file."""

from __future__ import annotations

import codecs
import gzip

import pytest
from support.written_files import examples, refuses, table, task, write_all

from glot_jax.file_formats.text_form import check_encoding, find_text_form
from glot_jax.file_formats.text_lines import read_lines


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_mark_is_believed_before_the_option(tmp_path, mark, encoding):
    write_all(tmp_path, {"train.csv": mark + "text,label\né 👩‍🚀,0\n\u2028x,1\n".encode(encoding)})
    for given_encoding in (None, "cp1252"):
        assert examples(task(tmp_path, encoding=given_encoding)) == [("é 👩‍🚀", 0), ("\u2028x", 1)]


@pytest.mark.parametrize(
    "encoding",
    [
        "cp1252",
        "latin-1",
        "cp1251",
        "gb18030",
        "shift_jis",
        "utf-16-le",
        "utf-16-be",
        "utf-16",
        "cp037",
        "utf-8-sig",
        "UTF8",
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_the_encoding_that_is_named(tmp_path, encoding, suffix):
    words = {"cp1251": "дом", "gb18030": "房子", "shift_jis": "家"}.get(encoding, "né")
    raw = table([["text", "label"], [words, 0], ["b, c", 1]]).encode(encoding)
    write_all(tmp_path, {f"train.{suffix}": gzip.compress(raw) if suffix.endswith("gz") else raw})
    assert examples(task(tmp_path, encoding=encoding)) == [(words, 0), ("b, c", 1)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_recognised(tmp_path, encoding):
    write_all(tmp_path, {"train.csv": "text,label\na,0\nb,1\n".encode(encoding)})
    with refuses(
        "text files must be UTF-8", "train.csv:1: every second byte is 0", f"--encoding {encoding}"
    ):
        task(tmp_path)
    assert examples(task(tmp_path, encoding=encoding)) == [("a", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cp1253x", "Did you mean cp1253?"),
        ("nothing like it", "cp1252"),
        ("base64", "cp1252"),
        ("", "cp1252"),
    ],
)
def test_a_name_that_is_no_text_encoding_is_refused_before_anything_is_read(tmp_path, name, hint):
    with refuses("--encoding must name a text encoding", repr(name), hint):
        task(tmp_path / "nowhere", encoding=name)
    check_encoding("cp1252")


def test_a_line_feed_anywhere_means_that_carriage_returns_are_text(tmp_path):
    write_all(tmp_path, {"train.tsv": "text\tlabel\nx\ry\t0\nz\t1\n"})
    assert examples(task(tmp_path))[0] == ("x\ry", 0)
    write_all(tmp_path, {"train.tsv": "text\tlabel\rx\t0\rz\t1"})
    assert examples(task(tmp_path)) == [("x", 0), ("z", 1)]


@pytest.mark.parametrize("name", ["punycode", "idna", "undefined"])
def test_codecs_that_no_file_has_are_refused(tmp_path, name):
    with refuses("--encoding must name a text encoding", repr(name)):
        task(tmp_path / "nowhere", encoding=name)


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ('text,label\r"a\nb",0\rc,1\r', ["a\nb", "c"]),
        ("text,label\ra,0\rb,1\n", ["a", "b"]),
        ("text,label\ra,0\rb,1\r\n", ["a", "b"]),
        ("text,label\r\r\na,0\r\r\nb,1\r\r\n", ["a", "b"]),
        ("text,label\ra,0\rb,1", ["a", "b"]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_line_ends_are_those_of_most_lines(tmp_path, text, texts, suffix, encoding):
    text = text.replace(",", "\t") if suffix == "tsv" else text
    write_all(tmp_path, {f"train.{suffix}": text.encode(encoding)})
    assert examples(task(tmp_path)) == list(zip(texts, [0, 1], strict=True))


@pytest.mark.parametrize("chunk", [1, 2, 5, 1 << 18])
def test_lines_of_an_old_mac_with_a_last_line_feed_are_texts(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr("glot_jax.file_formats.byte_streams.CHUNK", chunk)
    for end in ("\n", "\r\n", "\r", ""):
        write_all(tmp_path, {"x.txt": f"a\rb b\rc{end}"})
        form = find_text_form(tmp_path / "x.txt")
        assert [line.rstrip("\r\n") for _, line in read_lines(tmp_path / "x.txt", form)] == [
            "a",
            "b b",
            "c",
        ]


def test_two_marks_at_the_beginning_are_marks(tmp_path):
    write_all(tmp_path, {"train.csv": codecs.BOM_UTF8 * 2 + b"text,label\na,0\nb,1\n"})
    assert examples(task(tmp_path)) == [("a", 0), ("b", 1)]
