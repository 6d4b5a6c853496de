"""Encodings, byte-order marks, line ends: the text that was written is read, and what is no text is
an error with its line.
"""

from __future__ import annotations

import codecs
import gzip
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.written_files import examples, refuses, table, task, write_all

from glot_jax.texts import text_lines
from glot_jax.texts.text_lines import TextForm, check_encoding, read_lines, read_text, text_form

MARKED = {
    "utf-8-sig": "utf-8",
    "utf-16": "utf-16-le",
    "utf-32": "utf-32-le",
}
# Without NUL: where every second byte of a file is one, it is taken for UTF-16 without a mark, and
# refused.
any_line = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\ufeff\0"), max_size=20
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(any_line, min_size=1, max_size=9),
    st.sampled_from(["utf-8", *MARKED]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from([1, 2, 3, 7, 1 << 18]),
)
def test_lines_are_what_was_written(lines, encoding, end, last, chunk):
    """Whatever the encoding, the line ends, and the pieces in which the file is read."""
    text = end.join(lines) + (end if last or not lines[-1] else "")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("glot_jax.texts.byte_streams.CHUNK", chunk)
        path = Path(folder) / "file.txt"
        path.write_bytes(text.encode(encoding))
        form = text_form(path)
        assert form.encoding == MARKED.get(encoding, "utf-8")
        assert [line.rstrip("\r\n") for _, line in read_lines(path, form)] == lines
        assert [place for place, _ in read_lines(path, form)] == [
            f"{path}:{number}" for number in range(1, len(lines) + 1)
        ]
        assert "".join(read_text(path, form)) == text


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


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"text,label\na,0\ncaf\xe9,1\n", "cp1252"),
        (b"text,label\na,0\n\x81\xe9,1\n", "latin-1"),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_what_is_no_utf_8_names_its_line_and_an_encoding_that_reads_it(tmp_path, raw, name, suffix):
    write_all(tmp_path, {f"train.{suffix}": raw})
    with refuses("text files are UTF-8", f"train.{suffix}:3: invalid", f"--encoding {name}"):
        task(tmp_path)
    write_all(tmp_path, {f"train.{suffix}": raw.replace(b",", b"\t") if suffix == "tsv" else raw})
    assert examples(task(tmp_path, encoding=name))[1][0] == raw.split(b"\n")[2][:-2].decode(name)


def test_the_line_of_bad_bytes_is_found_in_wide_encodings_too(tmp_path):
    raw = codecs.BOM_UTF16_LE + "text,label\na,0\n".encode("utf-16-le") + b"\x00\xd8a\x00\n\x00"
    write_all(tmp_path, {"train.csv": raw})
    with refuses("the text of this file is utf-16-le", "train.csv:3: illegal"):
        task(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_recognised(tmp_path, encoding):
    write_all(tmp_path, {"train.csv": "text,label\na,0\nb,1\n".encode(encoding)})
    with refuses(
        "text files are UTF-8", "train.csv:1: every second byte is 0", f"--encoding {encoding}"
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
    with refuses("--encoding is the name of a text encoding", repr(name), hint):
        task(tmp_path / "nowhere", encoding=name)
    check_encoding("cp1252")


def test_a_line_feed_anywhere_means_that_carriage_returns_are_text(tmp_path):
    write_all(tmp_path, {"train.tsv": "text\tlabel\nx\ry\t0\nz\t1\n"})
    assert examples(task(tmp_path))[0] == ("x\ry", 0)
    write_all(tmp_path, {"train.tsv": "text\tlabel\rx\t0\rz\t1"})
    assert examples(task(tmp_path)) == [("x", 0), ("z", 1)]


def test_the_limit_of_a_line_counts_one_line_only(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "LONGEST_LINE", 5000)
    monkeypatch.setattr("glot_jax.texts.byte_streams.CHUNK", 100)
    path = tmp_path / "x.txt"
    path.write_text(("y" * 4000 + "\n") * 5)
    assert len(list(read_lines(path, TextForm()))) == 5
    path.write_text("y\n" + "y" * 6000)
    with refuses("a line is at most", "x.txt:2: more than 5,000 bytes"):
        list(read_lines(path, TextForm()))


def test_utf_8_is_proposed_where_another_encoding_was_named(tmp_path):
    write_all(tmp_path, {"train.csv": "text,label\nŠ,0\nx,1\n"})
    with refuses(
        "the text of this file is ascii",
        "train.csv:2",
        "It can be read as UTF-8: leave out --encoding",
    ):
        task(tmp_path, encoding="ascii")


JAPANESE = "今日はとても良い天気ですね"
ENCODED = [
    ("shift_jis", JAPANESE),
    ("euc_jp", JAPANESE),
    ("gb18030", "这部电影非常好看我们都很喜欢"),
    ("big5", "這部電影非常好看我們都很喜歡"),
    ("euc_kr", "이 영화는 정말 재미있었다"),
    ("cp1251", "Этот фильм мне очень понравился"),
    ("koi8-r", "Этот фильм мне очень понравился"),
    ("utf-16-le", JAPANESE),
    ("utf-16-be", JAPANESE),
    ("utf-16-le", "plain"),
    ("utf-32-le", "plain"),
    ("utf-32-be", "plain"),
    ("utf-16-le", "это фильм"),
    ("cp1252", "it\x92s a caf\xe9 \x93quoted\x94".encode("latin-1").decode("cp1252")),
    ("cp1252", "déjà vu à la carte"),
]


@pytest.mark.parametrize(("encoding", "words"), ENCODED)
def test_the_proposed_encoding_reads_the_text(tmp_path, encoding, words):
    write_all(tmp_path, {"train.csv": f"text,label\n{words},0\n{words} b,1\n".encode(encoding)})
    with refuses("text files are UTF-8", f"--encoding {encoding}"):
        task(tmp_path)
    assert examples(task(tmp_path, encoding=encoding)) == [(words, 0), (f"{words} b", 1)]


@pytest.mark.parametrize("name", ["punycode", "idna", "undefined"])
def test_codecs_that_no_file_has_are_refused(tmp_path, name):
    with refuses("--encoding is the name of a text encoding", repr(name)):
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
    monkeypatch.setattr("glot_jax.texts.byte_streams.CHUNK", chunk)
    for end in ("\n", "\r\n", "\r", ""):
        write_all(tmp_path, {"x.txt": f"a\rb b\rc{end}"})
        form = text_form(tmp_path / "x.txt")
        assert [line.rstrip("\r\n") for _, line in read_lines(tmp_path / "x.txt", form)] == [
            "a",
            "b b",
            "c",
        ]


def test_two_marks_at_the_beginning_are_marks(tmp_path):
    write_all(tmp_path, {"train.csv": codecs.BOM_UTF8 * 2 + b"text,label\na,0\nb,1\n"})
    assert examples(task(tmp_path)) == [("a", 0), ("b", 1)]
