"""Files with the names that people give to splits, whole or in shards."""

from __future__ import annotations

import pytest
from support.written_files import examples, refuses, task, write_all

from glot_jax.texts.split_files import NAMES, split_names
from glot_jax.texts.tasks import MNLI_SPLITS

CSV = "text,label\na,0\nb,1\n"


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
        "a split must have all of its shards",
        "without train-00001-of-00003.jsonl",
        "3 are announced",
    ):
        task(tmp_path)
    write_all(tmp_path, {"train-00001-of-00003-aaaaaaaaaaaa.jsonl": rows})
    assert len(task(tmp_path).splits["train"]) == 6
    write_all(tmp_path, {"train-00001-of-00003.jsonl": rows})
    with refuses("a shard must be one file", "train-00001-of-00003.jsonl"):
        task(tmp_path)


def test_a_bad_row_of_a_shard_is_reported_with_the_shard(tmp_path):
    write_all(
        tmp_path,
        {
            "train-0-of-2.jsonl": [{"text": "a", "label": 0}],
            "train-1-of-2.jsonl": [{"text": "a", "label": 1}, {"text": 3, "label": 1}],
        },
    )
    with refuses("a text must be a string", "train-1-of-2.jsonl:2: text = 3"):
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
    with refuses("a split must be one file", " and ", "Keep one of them") as caught:
        task(tmp_path)
    assert first in str(caught.value)
    assert second in str(caught.value)
