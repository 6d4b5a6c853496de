"""Splits and rows without labels: skipped, left out, or an error with its line."""

from __future__ import annotations

import pytest
from support.written_files import (
    COLA,
    examples,
    read_labels,
    refuses,
    says,
)

NO_LABELS = [
    [{"sentence": "a", "label": -1}] * 3,
    [{"sentence": "a", "label": None}] * 3,
    [{"sentence": "a"}] * 3,
    [{"sentence": "a", "label": ""}, {"sentence": "a"}, {"sentence": "a", "label": -1.0}],
]


@pytest.mark.parametrize("rows", NO_LABELS)
def test_a_split_without_any_label_is_skipped_with_a_notice(load, rows):
    data = load({"train.jsonl": COLA, "test.jsonl": rows})
    assert list(data.splits) == ["train"]
    assert len(data.notices) == 1
    assert data.notices[0].startswith("test: skipped, none of its 3 rows has a label")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("test.csv", "sentence,label\na,-1\nb,\n"),
        ("test.tsv", "index\tsentence\n0\ta\n1\tb\n"),
        ("test.parquet", [{"sentence": "a", "label": -1}, {"sentence": "b", "label": -1}]),
        ("test.parquet", [{"sentence": "a"}, {"sentence": "b"}]),
    ],
)
def test_the_same_in_the_other_formats(load, name, content):
    data = load({"train.jsonl": COLA, name: content})
    assert list(data.splits) == ["train"]
    assert "none of its 2 rows" in data.notices[0]


def test_a_notice_tells_a_missing_column_from_missing_labels(load):
    files = {
        "train.jsonl": COLA,
        "validation.csv": "sentence,lable\na,1\n",
        "test.jsonl": NO_LABELS[0],
    }
    validation, test = load(files).notices
    assert "has no column 'label'; columns there: sentence, lable" in validation
    assert "all are empty, null or -1" in test


@pytest.mark.parametrize("rows", NO_LABELS)
def test_a_train_split_without_labels_is_an_error(load, rows):
    with refuses("train split needs labels in column 'label'", "train.jsonl"):
        load({"train.jsonl": rows})


@pytest.mark.parametrize("gap", [-1, -1.0, None, ""])
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_gap_among_labels_is_an_error_with_its_line_and_counts(load, gap, split):
    files = {
        "train.jsonl": COLA,
        f"{split}.jsonl": [*COLA[:4], *[{"sentence": "a", "label": gap}] * 2],
    }
    counts = f"rows of {split} without one: 2, with one: 4"
    with refuses("labelled throughout or not at all", f"{split}.jsonl:5: no label", counts):
        load(files)


@pytest.mark.parametrize("train", [["a", "b"], [0, 1], [0.5, 1.5], [True, False]])
@pytest.mark.parametrize("test", [[-1, -1], [None, None], [-1, None]])
def test_a_custom_split_without_labels_is_skipped(custom, train, test):
    data = custom({"train.jsonl": train, "test.jsonl": test})
    assert list(data.splits) == ["train"]
    assert "test: skipped, none of its 2 rows has a label" in data.notices[0]


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
        assert read_labels(data, split) == read_labels(whole, split)
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
