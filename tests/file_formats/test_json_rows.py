"""JSON: lines, one array, objects over several lines.

All as streams, and equal to what json reads at once.
"""

from __future__ import annotations

import json

import pytest
from support.written_files import (
    examples,
    refuses,
    task,
    texts_of,
    write_all,
)

GOOD = '{"sentence": "a", "label": 1}'


def test_jsonl_with_control_characters_emoji_and_line_separators(load):
    content = '{"sentence": "\0 \t \\u0000 👩‍🚀 \u2028 \x85", "label": 1}\n'
    assert texts_of(load({"train.jsonl": content}).splits["train"]) == ["\0 \t \0 👩‍🚀 \u2028 \x85"]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('{"sentence": "a", "label": 1, "label": 0}', "train.jsonl:1: 'label' more than once"),
        (
            GOOD + '\n{"sentence": "a", "sentence": "b", "label": 1, "label": 1}',
            "jsonl:2: 'label', 'sentence' more",
        ),
    ],
)
def test_a_json_object_has_each_name_once(load, content, place):
    with refuses("column names must be unique", place):
        load({"train.jsonl": content})
    assert (
        len(
            load({"train.jsonl": '{"sentence": "a", "label": 1, "x": {"y": 1, "y": 2}}'}).splits[
                "train"
            ]
        )
        == 1
    )


def test_a_json_error_counts_the_lines_of_the_file_only(load):
    with refuses("train.jsonl:2: Expecting ',' delimiter at character 16 of the line"):
        load({"train.jsonl": GOOD + '\n{"sentence": 1 2}'})


ROWS = [
    {"text": 'a "quoted" \\ [{ text', "label": 0},
    {"text": "two\nlines, é 👩‍🚀", "label": 1, "more": [{"x": [1.5e3, None]}]},
]


@pytest.mark.parametrize("suffix", ["json", "jsonl", "ndjson"])
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_an_array_of_objects_is_recognised_under_any_suffix(tmp_path, suffix, packed):
    write_all(tmp_path, {f"train.{suffix}{packed}": "\ufeff \n" + json.dumps(ROWS)})
    assert examples(task(tmp_path)) == [(row["text"], row["label"]) for row in ROWS]
    write_all(tmp_path, {f"train.{suffix}{packed}": "\n".join(map(json.dumps, ROWS))})
    assert examples(task(tmp_path)) == [(row["text"], row["label"]) for row in ROWS]
