"""Splits are samples that a seed decides, and the same at every iteration."""

import pytest
from support.written_files import (
    SUFFIXES,
    labels_of,
    texts_of,
)


def many(rows):
    return [{"sentence": f"{row}", "label": row % 2} for row in range(rows)]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_sample_is_seeded_ordered_and_without_repeats(load, suffix):
    files = {f"train.{suffix}": many(100), f"validation.{suffix}": many(50)}
    data = load(files, max_train_rows=30)
    numbers = [int(text) for text in texts_of(data.splits["train"])]
    assert len(numbers) == len(set(numbers)) == len(data.splits["train"]) == 30
    assert numbers == sorted(numbers) != list(range(30))
    assert labels_of(data.splits["train"]) == [number % 2 for number in numbers]
    assert [example.row for example in data.splits["train"]] == list(range(30))
    assert data.notices == ("train: 30 of 100 rows, seed 42",)
    assert len(data.splits["validation"]) == 50
    assert texts_of(load(files, max_train_rows=30).splits["train"]) == [
        str(number) for number in numbers
    ]
    assert texts_of(load(files, max_train_rows=30, sample_seed=7).splits["train"]) != [
        str(number) for number in numbers
    ]


@pytest.mark.parametrize("limit", [100, 101])
def test_a_limit_that_is_not_reached_changes_nothing(load, limit):
    data = load({"train.jsonl": many(100)}, max_train_rows=limit)
    assert texts_of(data.splits["train"]) == [str(row) for row in range(100)]
    assert data.notices == ()


def test_a_task_has_a_default_limit_that_the_user_may_raise(load):
    rows = [{"question": "q", "sentence": str(row), "label": row % 2} for row in range(20_010)]
    data = load({"train.jsonl": rows}, "qnli")
    assert len(data.splits["train"]) == sum(1 for _ in data.splits["train"]) == 20_000
    assert data.notices == ("train: 20000 of 20010 rows, seed 42",)
    assert len(load({}, "qnli", max_train_rows=30_000).splits["train"]) == 20_010
