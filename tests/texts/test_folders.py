"""Which file is which split: names, shards, places, and a notice for every other file."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest
from support.written_files import LABELLED, examples, refuses, says, task, write_all

from glot_jax.texts.folders import NAMES, find_splits, split_names
from glot_jax.texts.tasks import MNLI_SPLITS, TASKS

CSV = "text,label\na,0\nb,1\n"
ROWS = [{"sentence": f"row {row}", "label": row % 2} for row in range(6)]


def parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("split", "name"), [(split, name) for split, names in NAMES.items() for name in names]
)
def test_a_split_is_known_by_its_usual_names_in_any_case(tmp_path, split, name):
    train = (
        {}
        if split == "train"
        else {"train.jsonl": [{"text": "a", "label": 0}, {"text": "a", "label": 1}]}
    )
    for spelling in (name, name.upper(), name.title()):
        write_all(tmp_path / spelling, {f"{spelling}.csv": CSV, **train})
        assert examples(task(tmp_path / spelling), split) == [("a", 0), ("b", 1)]


def test_the_names_of_mnli():
    names = split_names(split for split, _ in MNLI_SPLITS)
    for name in ("dev_matched", "val-matched", "validation_matched", "valid.matched"):
        assert names[name] == "validation_matched"
    assert (names["test-mismatched"], names["train"], "dev" in names) == (
        "test_mismatched",
        "train",
        False,
    )


@pytest.mark.parametrize("place", ["", "data", "default", "cola", "train-folders"])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "jsonl.gz"])
def test_shards_are_one_split_in_their_order(tmp_path, place, suffix):
    for index in range(3):
        name = f"train-{index:05d}-of-00003"
        folder = tmp_path / place
        if place == "train-folders":
            folder = tmp_path / "Train"
            name = f"{index:04d}"
        part = ROWS[2 * index : 2 * index + 2]
        if suffix == "parquet":
            parquet(folder / f"{name}.parquet", part)
        else:
            write_all(folder, {f"{name}.{suffix}": "".join(json.dumps(row) + "\n" for row in part)})
    data = task(tmp_path, "cola")
    assert examples(data) == [(row["sentence"], row["label"]) for row in ROWS]
    assert [example.row for example in data.splits["train"]] == list(range(6))
    assert says(data, "read: train from ", f".{suffix} and 2 more")
    if place == "data":
        assert examples(task(tmp_path / "data", "cola")) == examples(data)


def test_all_shards_have_to_be_there(tmp_path):
    rows = [{"text": "a", "label": 0}, {"text": "b", "label": 1}]
    write_all(
        tmp_path,
        {
            "train-00000-of-00003-1a2b3c4d5e6f.jsonl": rows,
            "train-00002-of-00003-1a2b3c4d5e6f.jsonl": rows,
        },
    )
    with refuses(
        "a split has all of its shards", "without train-00001-of-00003.jsonl", "3 are announced"
    ):
        task(tmp_path)
    write_all(tmp_path, {"train-00001-of-00003-aaaaaaaaaaaa.jsonl": rows})
    assert len(task(tmp_path).splits["train"]) == 6
    write_all(tmp_path, {"train-00001-of-00003.jsonl": rows})
    with refuses("a shard is one file", "train-00001-of-00003.jsonl"):
        task(tmp_path)


def test_a_bad_row_of_a_shard_is_reported_with_the_shard(tmp_path):
    write_all(
        tmp_path,
        {
            "train-0-of-2.jsonl": [{"text": "a", "label": 0}],
            "train-1-of-2.jsonl": [{"text": "a", "label": 1}, {"text": 3, "label": 1}],
        },
    )
    with refuses("a text is a string", "train-1-of-2.jsonl:2: text = 3"):
        task(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        ("validation.jsonl", "validation.csv"),
        ("dev.csv", "DEV.jsonl"),
        ("dev.csv", "dev.csv.gz"),
        ("dev.csv", "dev-00000-of-00001.csv"),
        ("valid-0-of-1.csv", "val-0-of-1.csv"),
        ("dev.csv", "validation/part.csv"),
    ],
)
def test_two_files_for_one_split_are_an_error_that_names_both(tmp_path, files):
    write_all(tmp_path, {"train.csv": CSV, **dict.fromkeys(files, CSV)})
    first, second = (name.split("-")[0].split("/")[0] for name in files)
    with refuses("a split is one file", " and ", "Keep one of them") as caught:
        task(tmp_path)
    assert first in str(caught.value)
    assert second in str(caught.value)


def test_every_other_data_file_is_named(tmp_path):
    others = [
        "a.json",
        "eval.csv",
        "labels.txt",
        "more.xlsx",
        "test_matched.tsv",
        "train.zip",
        "x.arrow",
    ]
    write_all(
        tmp_path,
        {
            "train.csv": CSV,
            "dev.csv": CSV,
            **dict.fromkeys(others, "x"),
            "README.md": "",
            ".hidden.csv": "",
            "run.py": "",
        },
    )
    write_all(tmp_path, {"data/test.csv": CSV, "original/train.tsv": "x"})
    data = task(tmp_path)
    assert says(
        data,
        "not read: a.json, data/test.csv, eval.csv, labels.txt, more.xlsx, test_matched.tsv,"
        " train.zip, x.arrow (in ",
    )
    assert says(data, "read: train from train.csv, validation from dev.csv")
    assert list(data.splits) == ["train", "validation"]


def test_plain_names_say_nothing(tmp_path):
    write_all(tmp_path, {"train.csv.gz": CSV, "test.jsonl": [{"text": "a", "label": 1}]})
    assert task(tmp_path).notices == ()


def test_one_file_is_the_train_split(tmp_path):
    write_all(tmp_path, {"Reviews 2024.csv": CSV, "other.jsonl": [{"text": "z", "label": 1}]})
    data = task(tmp_path / "Reviews 2024.csv")
    assert examples(data) == [("a", 0), ("b", 1)]
    assert list(data.splits) == ["train"]
    assert says(data, "Reviews 2024.csv is the train split", "no validation split", "holdout")
    data = task(tmp_path / "Reviews 2024.csv", validation_file=tmp_path / "other.jsonl")
    assert (examples(data, "validation"), list(data.splits), data.notices) == (
        [("z", 1)],
        ["train", "validation"],
        (),
    )
    assert (
        task(tmp_path / "Reviews 2024.csv", text_columns=("text",), label_column=None).notices == ()
    )


def test_data_that_have_not_been_fetched_say_how(tmp_path):
    write_all(tmp_path, {"train.csv.dvc": "outs:\n- path: train.csv\n"})
    with refuses("--data holds {train,validation,test}", "with train.csv.dvc", "dvc pull"):
        task(tmp_path)


def test_where_one_file_does_not_go(tmp_path):
    write_all(
        tmp_path,
        {
            "train.csv": CSV,
            "x.docx": "x",
            "e.jsonl": [{"premise": "a", "hypothesis": "b", "label": 0}],
        },
    )
    with refuses("--validation-file stands beside --data FILE", "and the folder"):
        task(tmp_path, validation_file=tmp_path / "train.csv")
    with refuses("a data file is there", "none.csv, which does not exist"):
        task(tmp_path / "train.csv", validation_file=tmp_path / "none.csv")
    with refuses("--data is a folder or a file", "none.csv, which does not exist"):
        task(tmp_path / "none.csv")
    with refuses("unknown format of a data file", "'docx'", "csv"):
        task(tmp_path / "x.docx")
    # The names of the splits are the task's.
    data = task(tmp_path / "e.jsonl", "mnli", validation_file=tmp_path / "e.jsonl")
    assert list(data.splits) == ["train", "validation_matched"]
    assert list(task(tmp_path / "e.jsonl", "ax").splits) == ["test"]
    with refuses("--validation-file is for tasks that are trained", "task ax"):
        task(tmp_path / "e.jsonl", "ax", validation_file=tmp_path / "e.jsonl")


def test_a_text_a_line(tmp_path):
    write_all(tmp_path, {"train.txt": "one\ttwo\n\nthree"})
    data = task(tmp_path, text_columns=("text",), label_column=None)
    assert [example.texts for example in data.splits["train"]] == [("one\ttwo",), ("",), ("three",)]
    assert says(data, "train.txt: its first line names no columns, so every line is a text")
    write_all(tmp_path, {"train.txt": "id\ttext\n1\tone\n"})
    data = task(tmp_path, text_columns=("text",), label_column=None)
    assert [example.texts for example in data.splits["train"]] == [("one",)]
    with refuses("needs labels in column 'label'", "columns there: id, text"):
        task(tmp_path, **LABELLED)


@pytest.mark.parametrize("other", ["train.txt", "train.json", "training.csv", "train/extra.csv"])
def test_a_splits_own_name_comes_before_what_else_may_mean_it(tmp_path, other):
    write_all(tmp_path, {"train.jsonl": [{"text": "a", "label": 0}, {"text": "b", "label": 1}]})
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text("text,label\nc,0\nd,1\n")
    found = find_splits(tmp_path, TASKS["custom"])
    assert found.files == {"train": [tmp_path / "train.jsonl"]}
    if "/" not in other:
        assert any(f"not read: {other}" in line for line in found.notices)
