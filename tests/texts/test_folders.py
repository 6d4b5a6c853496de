"""Which file is which split: names, shards, places, and a notice for every other file."""

from __future__ import annotations

import json

import pyarrow
import pyarrow.parquet
import pytest
from support.written_files import examples, refuses, says, task, write_all

from glot_jax.texts.folders import find_splits
from glot_jax.texts.tasks import TASKS

CSV = "text,label\na,0\nb,1\n"


ROWS = [{"sentence": f"row {row}", "label": row % 2} for row in range(6)]


def parquet(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize("subfolder", ["", "data", "default", "cola", "train-folders"])
@pytest.mark.parametrize("suffix", ["parquet", "jsonl", "jsonl.gz"])
def test_shards_are_one_split_in_their_order(tmp_path, subfolder, suffix):
    for index in range(3):
        name = f"train-{index:05d}-of-00003"
        folder = tmp_path / subfolder
        if subfolder == "train-folders":
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
    if subfolder == "data":
        assert examples(task(tmp_path / "data", "cola")) == examples(data)


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


def test_data_that_have_not_been_fetched_say_how(tmp_path):
    write_all(tmp_path, {"train.csv.dvc": "outs:\n- path: train.csv\n"})
    with refuses("--data must hold {train,validation,test}", "with train.csv.dvc", "dvc pull"):
        task(tmp_path)


@pytest.mark.parametrize("other", ["train.txt", "train.json", "training.csv", "train/extra.csv"])
def test_a_splits_own_name_comes_before_what_else_may_mean_it(tmp_path, other):
    write_all(tmp_path, {"train.jsonl": [{"text": "a", "label": 0}, {"text": "b", "label": 1}]})
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_text("text,label\nc,0\nd,1\n")
    splits = find_splits(tmp_path, TASKS["custom"])
    assert splits.files == {"train": [tmp_path / "train.jsonl"]}
    if "/" not in other:
        assert any(f"not read: {other}" in line for line in splits.notices)
