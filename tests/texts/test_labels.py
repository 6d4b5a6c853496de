"""What a label column means: train decides, other splits are read as it says, and what was assumed
is a line.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.written_files import examples, refuses, says, table, task, write_all

from glot_jax.config.extract import ExtractConfig
from glot_jax.texts import TaskSpec, open_task


def content(name: str, labels: list) -> str:
    """Rows with these labels; of a .csv they are spellings."""
    if name.endswith(".csv"):
        return table([["text", "label"], *(["t", label] for label in labels)])
    return "".join(json.dumps({"text": "t", "label": label}) + "\n" for label in labels)


@pytest.fixture
def labelled(tmp_path):
    def labelled(files, **options):
        for old in tmp_path.iterdir():
            old.unlink()
        return task(
            write_all(tmp_path, {name: content(name, labels) for name, labels in files.items()}),
            **options,
        )

    return labelled


def read(data, split="train"):
    return [label for _, label in examples(data, split)]


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
    assert (read(data), read(data, "validation")) == ([1, 0, 1], [1, 0])


def test_a_third_name_makes_names_of_truth_values(labelled):
    data = labelled({"train.csv": ["True", "true", "maybe"], "dev.csv": ["true"]})
    assert (data.spec.classes, read(data, "validation")) == (("True", "maybe", "true"), [2])
    with refuses("two label types", "bool (first", "str (first"):
        labelled({"train.csv": ["True", "False"], "dev.csv": ["maybe"]})
    with refuses("two label types", "bool (first", "int (first"):
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
    assert (read(data), read(data, "validation")) == ([0, 1, 2], [1, 0])
    assert all(type(label) is int for label in read(data, "validation"))
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
        write_all(Path(folder), {"train.jsonl": content("train.jsonl", written)})
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
    assert (data.spec.label_range, read(data), read(data, "validation")) == (
        (1.0, 3.0),
        [3.0, 1.0, 2.0],
        [2.5],
    )
    assert says(data, "labels are read as scores, since --label-kind regression says so")
    data = labelled(
        {"train.csv": ["0.5", "1", "1.0", "0.50"], "dev.jsonl": [1, 0.5]}, label_kind="classes"
    )
    assert (data.spec.classes, read(data), read(data, "validation")) == (
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
    with refuses("--label-kind is for --task custom with --label-column", "task cola"):
        task(tmp_path, "cola", label_kind="classes")
    with refuses("--label-kind is for --task custom with --label-column", "task custom"):
        task(tmp_path, text_columns=("sentence",), label_column=None, label_kind="classes")
    with refuses("--drop-unlabelled is for tasks with labels"):
        task(tmp_path, text_columns=("sentence",), label_column=None, drop_unlabelled=True)


# --------------------------------------------------------------------------------------------------
# Rows without a label


@pytest.mark.parametrize("gap", [None, "", "  "])
@pytest.mark.parametrize("labels", [["a", "b"], [0, 1], [0.0, 1.0], [0.5, 1.5], [True, False]])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rows_without_a_label_are_left_out_on_request_only(labelled, suffix, labels, gap):
    files = {
        f"train.{suffix}": [labels[0], gap, gap, labels[1]],
        f"dev.{suffix}": [labels[1], gap],
        f"test.{suffix}": [gap, gap],
    }
    lines = {"csv": 3, "jsonl": 2}[suffix]
    with refuses(
        "labelled throughout or not at all",
        f"train.{suffix}:{lines}: no label",
        "--drop-unlabelled",
    ):
        labelled(files)
    data = labelled(files, drop_unlabelled=True)
    whole = labelled({f"train.{suffix}": labels, f"dev.{suffix}": labels[1:]})
    assert data.spec == whole.spec
    for split in ("train", "validation"):
        assert read(data, split) == read(whole, split)
        assert [example.row for example in data.splits[split]] == list(
            range(len(data.splits[split]))
        )
    data = labelled(files, drop_unlabelled=True)
    assert says(
        data, "rows of train without a label, of 4, left out: 2, first ", f"train.{suffix}:{lines}"
    )
    assert says(data, "rows of validation without a label, of 2, left out: 1, first ")
    assert says(data, "test: skipped, none of its 2 rows has a label")


def test_a_sample_is_of_the_rows_that_are_left(labelled):
    data = labelled(
        {"train.jsonl": [None, 0, 1, None, 0, 1]}, drop_unlabelled=True, max_train_rows=3
    )
    assert len(examples(data)) == 3
    assert says(data, "train: 3 of 4 rows, seed 42")


# --------------------------------------------------------------------------------------------------
# A store that there is


@pytest.mark.parametrize(
    ("classes", "written"),
    [
        (("0", "1"), [1.0, 0]),
        (("0", "1"), [1, 0]),
        (("False", "True"), [True, "FALSE"]),
        (("false", "true"), ["True", False]),
        (("0.5", "1"), [1.0, 0.5]),
        (("01", "x"), ["x", "01"]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_classes_of_a_store_are_matched(tmp_path, suffix, classes, written):
    spec = TaskSpec(
        "custom", ("text",), ("text",), "label", "classes", classes, metrics=("accuracy", "f1")
    )
    write_all(tmp_path, {f"train.{suffix}": content(f"train.{suffix}", written)})
    options = {"text_columns": ("text",), "label_column": "label"}
    data = open_task(
        ExtractConfig(backbone="m", task="custom", out=tmp_path / "out", data=tmp_path, **options),
        spec=spec,
    )
    assert (read(data), data.spec) == ([1, 0], spec)
    with refuses("the store holds classes", "--label-kind regression"):
        open_task(
            ExtractConfig(
                backbone="m",
                task="custom",
                out=tmp_path / "out",
                data=tmp_path,
                label_kind="regression",
                **options,
            ),
            spec=spec,
        )
    write_all(tmp_path, {f"train.{suffix}": content(f"train.{suffix}", [written[0], None])})
    config = ExtractConfig(
        backbone="m",
        task="custom",
        out=tmp_path / "out",
        data=tmp_path,
        drop_unlabelled=True,
        **options,
    )
    assert read(open_task(config, spec=spec)) == [1]
