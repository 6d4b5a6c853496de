"""How a label column is read: as classes or scores, and what was assumed is a line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.written_files import (
    labelled_rows,
    labels_config,
    open_labels,
    read_labels,
    refuses,
    says,
    task,
    write_all,
)

from glot_jax.errors import UsageError
from glot_jax.texts import open_task


@pytest.mark.parametrize(
    ("train", "classes"),
    [
        ({"train.jsonl": [True, False, True]}, ("false", "true")),
        ({"train.jsonl": ["true", False, "TRUE"]}, ("false", "true")),
        ({"train.csv": ["True", "False", "True"]}, ("False", "True")),
        ({"train.csv": ["TRUE", "FALSE", "TRUE"]}, ("FALSE", "TRUE")),
        ({"train.csv": ["true", "false", "true"]}, ("false", "true")),
        ({"train.csv": ["True", "FALSE", "true"]}, ("false", "true")),
    ],
)
@pytest.mark.parametrize(
    "other",
    [
        {"dev.jsonl": [True, False]},
        {"dev.csv": ["True", "False"]},
        {"dev.csv": ["true", "FALSE"]},
        {"dev.jsonl": ["TRUE", "false"]},
    ],
)
def test_truth_values_are_two_classes_however_they_are_spelled(labelled, train, classes, other):
    data = labelled({**train, **other})
    assert data.spec.classes == classes
    assert (read_labels(data), read_labels(data, "validation")) == ([1, 0, 1], [1, 0])


def test_a_third_name_makes_names_of_truth_values(labelled):
    data = labelled({"train.csv": ["True", "true", "maybe"], "dev.csv": ["true"]})
    assert (data.spec.classes, read_labels(data, "validation")) == (("True", "maybe", "true"), [2])
    with refuses("labels of one type", "bool (first", "str (first"):
        labelled({"train.csv": ["True", "False"], "dev.csv": ["maybe"]})
    with refuses("labels of one type", "bool (first", "int (first"):
        labelled({"train.csv": ["True", "False"], "dev.csv": ["2"]})


@pytest.mark.parametrize(
    "train",
    [
        {"train.csv": [0, 1, 2]},
        {"train.jsonl": [0, 1, 2]},
        {"train.csv": ["0.0", "1.0", "2.0"]},
        {"train.jsonl": [0.0, 1, 2.0]},
    ],
)
@pytest.mark.parametrize(
    "other",
    [
        {"dev.csv": ["1.0", "0.0"]},
        {"dev.jsonl": [1.0, 0.0]},
        {"dev.csv": [1, 0]},
        {"dev.jsonl": [1, 0]},
        {"dev.csv": ["1.", "0e0"]},
    ],
)
def test_whole_numbers_are_the_same_classes_as_ints_and_as_floats(labelled, train, other):
    data = labelled({**train, **other})
    assert (data.spec.label_kind, data.spec.classes) == ("classes", ("0", "1", "2"))
    assert (read_labels(data), read_labels(data, "validation")) == ([0, 1, 2], [1, 0])
    assert all(type(label) is int for label in read_labels(data, "validation"))
    floats = ".0" in str(train)
    assert (
        says(
            data, "labels 0, 1, 2 are written as floats", "whole and few", "--label-kind regression"
        )
        == floats
    )
    spelled_as_floats = any(spelling in str(other) for spelling in ("1.0", "1."))
    assert says(data, "validation: labels written as floats, 2, first", "train's classes") == (
        spelled_as_floats and not floats
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(-50, 50), min_size=2, max_size=60).filter(
        lambda labels: len({*labels}) > 1
    ),
    st.booleans(),
)
def test_few_whole_floats_are_classes_and_many_are_scores(labels, whole):
    import tempfile
    from pathlib import Path

    written = [float(label) for label in labels] if whole else [label + 0.5 for label in labels]
    with tempfile.TemporaryDirectory() as folder:
        write_all(Path(folder), {"train.jsonl": labelled_rows("train.jsonl", written)})
        spec = task(Path(folder)).spec
        classes = task(Path(folder), label_kind="classes")
        scores = task(Path(folder), label_kind="regression")
    assert (spec.label_kind == "classes") == (whole and len({*labels}) <= 20)
    assert [float(name) for name in classes.spec.classes] == sorted({*written})
    assert (scores.spec.label_kind, scores.spec.label_range) == (
        "regression",
        (min(written), max(written)),
    )
    assert all("." not in name for name in classes.spec.classes) == whole


def test_many_whole_floats_are_scores_and_a_line_says_so(labelled):
    data = labelled({"train.csv": [f"{value}.0" for value in range(21)]})
    assert data.spec.label_kind == "regression"
    assert says(data, "whole numbers written as floats", "more than 20", "--label-kind classes")
    assert labelled({"train.csv": [f"{value}.5" for value in range(21)]}).notices == ()


def test_the_kind_that_is_asked_for(labelled):
    ints = {"train.jsonl": [3, 1, 2], "dev.jsonl": [2.5]}
    data = labelled(ints, label_kind="regression")
    assert (data.spec.label_range, read_labels(data), read_labels(data, "validation")) == (
        (1.0, 3.0),
        [3.0, 1.0, 2.0],
        [2.5],
    )
    assert says(data, "labels are read as scores, since --label-kind regression says so")
    data = labelled(
        {"train.csv": ["0.5", "1", "1.0", "0.50"], "dev.jsonl": [1, 0.5]}, label_kind="classes"
    )
    assert (data.spec.classes, read_labels(data), read_labels(data, "validation")) == (
        ("0.5", "1"),
        [0, 1, 1, 0],
        [1, 0],
    )
    assert says(data, "labels are read as classes, since --label-kind classes says so")
    assert labelled({"train.csv": ["a", "b"]}, label_kind="classes").notices == ()
    with refuses("--label-kind regression needs numbers", "names, first in", "train.csv:2"):
        labelled({"train.csv": ["a", "b"]}, label_kind="regression")
    with refuses("finite", "train.jsonl:2: inf"):
        labelled({"train.jsonl": [0.5, float("inf")]}, label_kind="classes")


def test_where_the_kind_is_fixed(tmp_path):
    write_all(tmp_path, {"train.csv": "sentence,label\na,1\n"})
    with refuses("--label-kind needs --task custom with --label-column", "task cola"):
        task(tmp_path, "cola", label_kind="classes")
    with refuses("--label-kind needs --task custom with --label-column", "task custom"):
        task(tmp_path, text_columns=("sentence",), label_column=None, label_kind="classes")
    with refuses("--drop-unlabelled needs a task with labels"):
        task(tmp_path, text_columns=("sentence",), label_column=None, drop_unlabelled=True)


def test_a_word_among_numbers_is_an_error_and_several_a_notice(tmp_path):
    with pytest.raises(UsageError, match=r"numbers or names, not both; got .*train\.csv:4"):
        open_labels(tmp_path / "scores", [".5", "1.2", "?", "2.5"])
    data = open_labels(tmp_path / "asked", [".5", "1.2", "?", "2.5"], label_kind="classes")
    assert len(data.spec.classes) == 4
    with pytest.raises(
        UsageError, match=r"numbers or names, not both; got .*train\.csv:4.*label-kind"
    ):
        open_labels(tmp_path / "ints", ["0", "1", "?", "1"])
    data = open_labels(tmp_path / "ages", ["1", "2", "3+", "1", "3+"])
    assert any("3 are numbers and 2 are names (first" in line for line in data.notices)


@pytest.mark.parametrize(
    ("train", "other"),
    [
        (["True", "1", "False", "0"], ["1", "FALSE"]),
        (["True", "False"], ["1", "0"]),
        (["1", "0"], ["true", "False"]),
    ],
)
def test_true_and_1_are_one_class(tmp_path, train, other):
    folder = tmp_path / "data"
    open_labels(folder, train)
    (folder / "dev.csv").write_text("text,label\n" + "".join(f"t,{label}\n" for label in other))
    data = open_task(labels_config(folder))
    read = {name: [example.label for example in split] for name, split in data.splits.items()}
    assert read["train"] == [int(label in ("True", "1")) for label in train]
    assert read["validation"] == [1, 0]
