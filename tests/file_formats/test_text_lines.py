"""Encodings, byte-order marks, line ends: the text that was written is read.

What is no text is an error with its line.
"""

from __future__ import annotations

import codecs
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.written_files import refuses, task, write_all

from glot_jax.file_formats import text_lines
from glot_jax.file_formats.text_form import TextForm, find_text_form
from glot_jax.file_formats.text_lines import read_lines, read_text

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
        patch.setattr("glot_jax.file_formats.byte_streams.CHUNK", chunk)
        path = Path(folder) / "file.txt"
        path.write_bytes(text.encode(encoding))
        form = find_text_form(path)
        assert form.encoding == MARKED.get(encoding, "utf-8")
        assert [line.rstrip("\r\n") for _, line in read_lines(path, form)] == lines
        assert [location for location, _ in read_lines(path, form)] == [
            f"{path}:{number}" for number in range(1, len(lines) + 1)
        ]
        assert "".join(read_text(path, form)) == text


def test_the_line_of_bad_bytes_is_found_in_wide_encodings_too(tmp_path):
    raw = codecs.BOM_UTF16_LE + "text,label\na,0\n".encode("utf-16-le") + b"\x00\xd8a\x00\n\x00"
    write_all(tmp_path, {"train.csv": raw})
    with refuses("the text of this file must be utf-16-le", "train.csv:3: illegal"):
        task(tmp_path)


def test_the_limit_of_a_line_counts_one_line_only(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "LONGEST_LINE", 5000)
    monkeypatch.setattr("glot_jax.file_formats.byte_streams.CHUNK", 100)
    path = tmp_path / "x.txt"
    path.write_text(("y" * 4000 + "\n") * 5)
    assert len(list(read_lines(path, TextForm()))) == 5
    path.write_text("y\n" + "y" * 6000)
    with refuses("a line must be at most", "x.txt:2: more than 5,000 bytes"):
        list(read_lines(path, TextForm()))
