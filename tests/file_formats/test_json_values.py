"""Values of an array of JSON: read as a stream, whatever the lines and the pieces."""

from __future__ import annotations

import json
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.typed import of_kind
from support.written_files import refuses, task, write_all

from glot_jax.file_formats.json_rows import json_records
from glot_jax.file_formats.text_form import find_text_form

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


FORMS = {
    "array": lambda rows, indent: json.dumps(rows, indent=indent),
    "ascii array": lambda rows, indent: json.dumps(rows, indent=indent, ensure_ascii=False),
    "lines": lambda rows, _indent: "\n".join(map(json.dumps, rows)) + "\n",
    "objects": lambda rows, indent: "\n".join(json.dumps(row, indent=indent or 1) for row in rows),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(st.text(max_size=3), values, min_size=1, max_size=3), min_size=1, max_size=5
    ),
    indent=st.sampled_from([None, 1]),
    chunk=st.sampled_from([1, 5, 64, 1 << 18]),
)
def test_rows_are_what_json_reads(form, rows, indent, chunk):
    """Whatever the pieces in which the file is read."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("glot_jax.file_formats.byte_streams.CHUNK", chunk)
        path = Path(folder) / "train.json"
        path.write_text(FORMS[form](rows, indent), encoding="utf-8")
        assert [
            record.values
            for record in json_records(path, "json", find_text_form(path), arrays=False)
        ] == rows


def test_an_array_is_streamed(tmp_path):
    rows = [{"text": f"{row:04d}" * 2500, "label": row % 2} for row in range(1500)]
    write_all(tmp_path, {"train.json": json.dumps(rows)})  # 15 MB in one line
    data = task(tmp_path)
    tracemalloc.start()
    try:
        assert sum(of_kind(example.label, int) for example in data.splits["train"]) == 750
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (
            '[{"text": "a", "label": 0},\n{"text": "b" "label": 1}]',
            ("must hold JSON", "train.json:2: Expecting ',' delimiter"),
        ),
        (
            '[{"text": "a", "label": 0},\n{"text": "b", "label": 1}',
            ("must be complete", "train.json:2: the array has no end"),
        ),
        (
            '[{"text": "a", "label": 0},\n\n{"text": "b',
            ("must hold JSON", "train.json:3: Unterminated string"),
        ),
        (
            '[{"text": "a", "label": 0}\n]\n{"text"',
            ("must hold one array", "train.json:3: more after its end"),
        ),
        ('[{"text": "a", "label": 0},\n7]', ("one JSON object a line", "train.json:2: int")),
        (
            '[{"text": "a", "label": 0, "label": 1}]',
            ("names must be unique", "train.json:1: 'label' more than once"),
        ),
        ('[{"text": "a", "label": ' + "1" * 5000 + "}]", ("must hold JSON", "train.json:1:")),
        ('[{"text": ' + "[" * 100_000, ("must hold JSON", "train.json:1:")),
        (
            '{"data": [\n{"text": "a", "label": 0}\n]}',
            ("column 'text' must be in the data", "train.json:1", "Columns there: data"),
        ),
        ('[["a", 1]]', ("one JSON object a line", "train.json:1: list")),
    ],
)
def test_what_is_no_array_of_rows_is_an_error_with_its_line(tmp_path, content, parts):
    write_all(tmp_path, {"train.json": content})
    with refuses(*parts):
        task(tmp_path)


def test_a_damaged_end_is_found_in_time(tmp_path):
    import time

    start = time.process_time()
    write_all(tmp_path, {"train.json": '[{"text": "a", "label": 0}, {"text": "' + "x" * 10_000_000})
    with refuses("must hold JSON", "train.json:1: Unterminated string"):
        task(tmp_path)
    assert time.process_time() - start < 3
