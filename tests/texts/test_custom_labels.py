"""Classes and range of a custom task's labels, from the rows of its train split."""

from __future__ import annotations

import json
import time

import pytest
from support.written_files import (
    labels_of,
    open_labels,
    refuses,
)

from glot_jax.texts import TaskSpec


@pytest.mark.parametrize("rest", ["x", " x", ".", "e5"])
def test_a_million_digits_take_no_time(custom, rest):
    """They took hours: a pattern tried every way to cut the digits in two."""
    start = time.process_time()
    with refuses("train.csv"):
        custom({"train.csv": f"text,label\na,{'9' * 1_000_000}{rest}\n"})
    assert time.process_time() - start < 5


def test_a_class_name_can_be_written(custom):
    with refuses(
        "a label must be encodable as UTF-8",
        "train.jsonl:2: '\\ud83d' holds half of a surrogate pair",
    ):
        custom({"train.jsonl": ["a", "\ud83d"]})


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        ([1, 1], ("two classes or more", "only 1 in train", "train.jsonl)")),
        ([0.5, 0.5], ("labels that differ", "0.5 in every row of train", "train.jsonl)")),
    ],
)
def test_labels_that_do_not_differ_are_reported_with_their_file(custom, labels, parts):
    with refuses(*parts):
        custom({"train.jsonl": labels})


@pytest.mark.parametrize(
    ("written", "classes", "read_back"),
    [
        ([7, 3, 10, 3], ("3", "7", "10"), [1, 0, 2, 0]),
        (["pos", "neg", "pos"], ("neg", "pos"), [1, 0, 1]),
        ([-1, 1, -1], ("-1", "1"), [0, 1, 0]),
        ([True, False], ("false", "true"), [1, 0]),
        (["1", "01"], ("01", "1"), [1, 0]),
    ],
)
def test_custom_classes(custom, written, classes, read_back):
    data = custom({"train.jsonl": written, "test.jsonl": written[::-1]})
    metrics = ("accuracy", "f1") if len(classes) == 2 else ("accuracy",)
    assert (data.spec.label_kind, data.spec.classes, data.spec.metrics) == (
        "classes",
        classes,
        metrics,
    )
    assert labels_of(data.splits["train"]) == read_back
    assert labels_of(data.splits["test"]) == read_back[::-1]
    assert TaskSpec.from_json(json.loads(json.dumps(data.spec.to_json()))) == data.spec


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("written", "kind", "classes"),
    [
        (["7", "3", "10"], "classes", ("3", "7", "10")),
        (["07", "7", "3"], "classes", ("3", "7")),
        (["1", "2.5", "1e-3"], "regression", ()),
        (["1", "2.5", "high"], "classes", ("1", "2.5", "high")),
        (["1_0", "1"], "classes", ("1", "1_0")),
        (["true", "false"], "classes", ("false", "true")),
    ],
)
def test_custom_labels_of_a_textual_file_are_typed_by_the_whole_column(
    custom, suffix, written, kind, classes
):
    spec = custom({f"train.{suffix}": written}).spec
    assert (spec.label_kind, spec.classes) == (kind, classes)


def test_a_name_in_one_csv_makes_names_of_all(custom):
    data = custom({"train.csv": ["01", "x", "1"], "test.csv": ["1", "01"]})
    assert data.spec.classes == ("01", "1", "x")
    assert labels_of(data.splits["test"]) == [1, 0]


def test_custom_scores(custom):
    data = custom({"train.jsonl": [0, 2.5, 1], "validation.jsonl": [-4, 9.5]})
    assert (data.spec.label_kind, data.spec.label_range) == ("regression", (0.0, 2.5))
    assert data.spec.metrics == ("spearman", "pearson")
    assert labels_of(data.splits["train"]) == [0.0, 2.5, 1.0]
    assert labels_of(data.splits["validation"]) == [-4.0, 9.5]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_score_among_classes_is_an_error_with_its_line(custom, suffix):
    line = {"jsonl": 2, "csv": 3}[suffix]
    with refuses(
        "classes must be those of the train split: 1, 2",
        f"test.{suffix}:{line}: 1.5",
        "--label-kind regression",
    ):
        custom({"train.jsonl": [1, 2], f"test.{suffix}": [1.0, 1.5]})


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (
            {"train.jsonl": [1, 2, "a"]},
            (
                "a column must have labels of one type",
                "int (",
                "jsonl:1) and str (first",
                "jsonl:3)",
            ),
        ),
        (
            {"train.jsonl": [0.5, "a"]},
            ("a column must have labels of one type", "float (first", "jsonl:2)"),
        ),
        (
            {"train.jsonl": [True, 2]},
            ("a column must have labels of one type", "bool (first", "int (first in", "jsonl:2)"),
        ),
        (
            {"train.jsonl": ["a", "b"], "test.jsonl": ["a", 1]},
            ("labels of one type", "str (", "int (first", "test.jsonl:2)"),
        ),
        (
            {"train.csv": ["a", "1"], "test.jsonl": [1]},
            ("labels of one type", "str (first in", "train.csv:", "test.jsonl:1)"),
        ),
        (
            {"train.jsonl": ["a", [1]]},
            ("a label must be a number, a string, true or false", "train.jsonl:2"),
        ),
        (
            {"train.jsonl": ["a", "b"], "test.jsonl": ["a", "c"]},
            ("those of the train split: a, b", "test.jsonl:2: 'c'"),
        ),
        (
            {"train.jsonl": [1, 2], "validation.jsonl": [2, 3]},
            ("train split: 1, 2", "validation.jsonl:2: 3"),
        ),
        (
            {"train.jsonl": [1, 2], "validation.jsonl": [2, -1]},
            ("train split: 1, 2", "validation.jsonl:2: -1"),
        ),
        (
            {"train.jsonl": [1, None, 2]},
            ("labelled throughout", "train.jsonl:2: no label", "without one: 1, with one: 2"),
        ),
        ({"train.jsonl": ["a", "", "b"]}, ("labelled throughout", "train.jsonl:2: no label")),
        ({"train.csv": ["a", "", "b"]}, ("labelled throughout", "train.csv:3: no label")),
        (
            {"train.jsonl": [1, 2], "test.jsonl": [1, None]},
            ("labelled throughout", "test.jsonl:2: no label"),
        ),
        ({"train.jsonl": [0.5, float("nan")]}, ("labelled throughout", "train.jsonl:2: no label")),
        ({"train.csv": ["0.5", "inf"]}, ("a finite number", "train.csv:3: inf")),
        (
            {"train.jsonl": [0.5, 1.5], "test.jsonl": [0.5, float("-inf")]},
            ("a finite number", "test.jsonl:2: -inf"),
        ),
        ({"train.jsonl": [0.5, 0.5]}, ("regression needs labels that differ", "0.5 in every row")),
        ({"train.jsonl": [1, 1]}, ("two classes or more", "only 1 in train")),
        ({"train.jsonl": [None, None]}, ("train split needs labels in column 'label'",)),
        (
            {"train.jsonl": '{"text": "a"}\n'},
            ("needs labels in column 'label'", "columns there: text"),
        ),
        ({"test.jsonl": [1, 2]}, ("task custom needs a train split", "test.jsonl")),
    ],
)
def test_custom_labels_that_are_refused(custom, files, parts):
    with refuses(*parts):
        custom(files)


@pytest.mark.parametrize(("train", "label"), [([-1, 1], 0), ([-2.0, 0.5], -1.0)])
def test_minus_one_is_a_custom_label_where_train_says_so(custom, train, label):
    assert labels_of(custom({"train.jsonl": train, "test.jsonl": [-1, -1]}).splits["test"]) == [
        label,
        label,
    ]


def test_classes_that_hardly_differ_are_said(tmp_path):
    data = open_labels(tmp_path / "data", ["pos", "pos ", "Pos", "neg"])
    assert any("classes that differ in case or blanks alone" in line for line in data.notices)
    assert any("'Pos' and 'pos' and 'pos '" in line for line in data.notices)
