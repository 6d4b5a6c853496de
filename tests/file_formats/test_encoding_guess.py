"""The encoding that a message proposes reads the text."""

from __future__ import annotations

import pytest
from support.written_files import examples, refuses, task, write_all


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
    with refuses("text files must be UTF-8", f"train.{suffix}:3: invalid", f"--encoding {name}"):
        task(tmp_path)
    write_all(tmp_path, {f"train.{suffix}": raw.replace(b",", b"\t") if suffix == "tsv" else raw})
    assert examples(task(tmp_path, encoding=name))[1][0] == raw.split(b"\n")[2][:-2].decode(name)


def test_utf_8_is_proposed_where_another_encoding_was_named(tmp_path):
    write_all(tmp_path, {"train.csv": "text,label\nŠ,0\nx,1\n"})
    with refuses(
        "the text of this file must be ascii",
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
    with refuses("text files must be UTF-8", f"--encoding {encoding}"):
        task(tmp_path)
    assert examples(task(tmp_path, encoding=encoding)) == [(words, 0), (f"{words} b", 1)]
