"""What a label column means.

Train decides, other splits are read as it says, and what was assumed is a line.
"""

from __future__ import annotations

import pytest
from support.written_files import (
    COLA,
    LABELLED,
    SUFFIXES,
    labelled_rows,
    labels_of,
    read_folder,
    read_labels,
    refuses,
    write_all,
)

from glot_jax.config.extract import ExtractConfig
from glot_jax.texts import TaskSpec, open_task


@pytest.mark.parametrize(
    ("written", "label"), [(1, 1), (0, 0), (1.0, 1), ("acceptable", 1), ("unacceptable", 0)]
)
def test_spellings_of_a_class(load, written, label):
    labels = labels_of(load({"train.jsonl": [{"sentence": "a", "label": written}]}).splits["train"])
    assert labels == [label]
    assert type(labels[0]) is int


@pytest.mark.parametrize(
    ("written", "label"), [("1", 1), (" 0 ", 0), ("1.0", 1), ("acceptable", 1)]
)
def test_spellings_of_a_class_in_a_csv(load, written, label):
    assert labels_of(
        load({"train.csv": [{"sentence": "a", "label": written}]}).splits["train"]
    ) == [label]


@pytest.mark.parametrize(
    "wrong", [2, -2, 0.5, "1", "yes", True, [1], {"a": 1}, float("inf"), 10**400]
)
def test_what_is_no_class_is_refused(load, wrong):
    with refuses(
        "class from 0 to 1 or its name (0 = unacceptable, 1 = acceptable)", "train.jsonl:3: "
    ):
        load({"train.jsonl": [*COLA[:2], {"sentence": "a", "label": wrong}]})


@pytest.mark.parametrize(
    ("wrong", "shown"),
    [
        ("2", "2"),
        ("0.5", "0.5"),
        ("yes", "'yes'"),
        ("inf", "inf"),
        ("1_0", "'1_0'"),
        ("١", "'١'"),
        ("9" * 5000, "inf"),
    ],
)
def test_what_is_no_class_in_a_csv_is_refused(load, wrong, shown):
    with refuses("class from 0 to 1", f"train.csv:2: {shown}"):
        load({"train.csv": [{"sentence": "a", "label": wrong}]})


def pair(label):
    return {"sentence1": "a", "sentence2": "b", "label": label}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_scores_are_floats_within_their_range(load, suffix):
    labels = labels_of(
        load({f"train.{suffix}": [pair(0.0), pair(5.0), pair(3.25)]}, "stsb").splits["train"]
    )
    assert labels == [0.0, 5.0, 3.25]
    assert all(type(label) is float for label in labels)
    location = {"jsonl": "2", "csv": "3", "tsv": "3", "parquet": "row 2"}[suffix]
    with refuses("must be a number from 0 to 5", f"train.{suffix}:{location}: 5.5"):
        load({f"train.{suffix}": [pair(5.0), pair(5.5)]}, "stsb")


@pytest.mark.parametrize("wrong", [float("inf"), "3", True, 10**400])
def test_what_is_no_score_is_refused(load, wrong):
    with refuses("label of stsb must be a finite number", "train.jsonl:2: "):
        load({"train.jsonl": [pair(4), pair(wrong)]}, "stsb")


@pytest.mark.parametrize(
    ("classes", "written"),
    [
        (("0", "1"), [1.0, 0]),
        (("0", "1"), [1, 0]),
        (("False", "True"), [True, "FALSE"]),
        (("false", "true"), ["True", False]),
        (("0.5", "1"), [1.0, 0.5]),
        (("01", "x"), ["x", "01"]),
        (("01", "02"), ["02", "01"]),
        (("none", "some"), ["some", "none"]),
        (("NA", "nan"), ["nan", "NA"]),
    ],
)
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_classes_of_a_store_are_matched(tmp_path, suffix, classes, written):
    spec = TaskSpec(
        "custom", ("text",), ("text",), "label", "classes", classes, metrics=("accuracy", "f1")
    )
    write_all(tmp_path, {f"train.{suffix}": labelled_rows(f"train.{suffix}", written)})
    options = {"text_columns": ("text",), "label_column": "label"}
    data = open_task(
        ExtractConfig(backbone="m", task="custom", out=tmp_path / "out", data=tmp_path, **options),
        spec=spec,
    )
    assert (read_labels(data), data.spec) == ([1, 0], spec)
    with refuses("labels for this store must be classes", "--label-kind regression"):
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
    write_all(tmp_path, {f"train.{suffix}": labelled_rows(f"train.{suffix}", [written[0], None])})
    config = ExtractConfig(
        backbone="m",
        task="custom",
        out=tmp_path / "out",
        data=tmp_path,
        drop_unlabelled=True,
        **options,
    )
    assert read_labels(open_task(config, spec=spec)) == [1]


def of_a_store(tmp_path, classes, name, written, **options):
    """Labels of further rows for a store with these classes."""
    spec = TaskSpec("custom", ("text",), ("text",), "label", "classes", classes)
    write_all(tmp_path, {name: labelled_rows(name, written)})
    config = ExtractConfig(
        backbone="m",
        task="custom",
        out=tmp_path / "out",
        data=tmp_path,
        text_columns=("text",),
        label_column="label",
        **options,
    )
    return read_labels(open_task(config, spec=spec))


def test_further_rows_have_the_classes_of_the_first_ones(tmp_path):
    # Two strings in JSON, hence two classes: the table that comes later merges them no more.
    first = {"train.jsonl": labelled_rows("train.jsonl", ["1", "01", "1"])}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    write_all(tmp_path / "one", first)
    data = read_folder(tmp_path / "one", "custom", **LABELLED)
    assert data.spec.classes == ("01", "1")
    assert of_a_store(tmp_path / "two", ("01", "1"), "train.csv", ["01", "1"]) == [0, 1]


def test_truth_values_may_be_written_as_numbers(tmp_path, labelled):
    spellings = ["true", "01", "0", "+1", "1.00", "FALSE"]
    truths = [1, 1, 0, 1, 1, 0]
    data = labelled({"train.csv": spellings})
    assert data.spec.classes == ("false", "true")
    assert read_labels(data) == truths
    (tmp_path / "more").mkdir()
    assert of_a_store(tmp_path / "more", ("False", "True"), "train.csv", spellings) == truths


def test_rows_without_a_label_are_left_out_where_no_class_is_called_so(tmp_path):
    options = {"drop_unlabelled": True}
    rows = ["some", "none", "", "NaN"]
    for name, classes, labels in (
        ("named", ("none", "some"), [1, 0]),
        ("plain", ("many", "some"), [1]),
    ):
        (tmp_path / name).mkdir()
        assert of_a_store(tmp_path / name, classes, "train.csv", rows, **options) == labels
