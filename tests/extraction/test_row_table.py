"""The rows of a split: their texts by number, their roles and labels, and what tells them apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from glot_jax.extraction.row_table import RowTable, row_key
from glot_jax.texts import TASKS

PAIRS = dataclasses.replace(TASKS["stsb"], roles=("a", "b"), label_kind="regression")
SINGLE = dataclasses.replace(TASKS["cola"], roles=("text",), label_kind="classes")
UNLABELLED = dataclasses.replace(SINGLE, label_kind="none")


def test_arrays_say_which_texts_a_row_has_in_which_roles():
    table = RowTable(PAIRS)
    assert table.add([[1, 2], [3]], 0.5) == [0, 1]
    assert table.add([[1, 2], [4]], 1.0) == [0, 1]
    arrays = table.arrays()
    assert arrays["row_offsets.npy"].tolist() == [0, 2, 4]
    assert arrays["row_texts.npy"].tolist() == [0, 1, 2, 3]
    assert arrays["roles.npy"].tolist() == [0, 1, 0, 1]
    assert arrays["labels.npy"].tolist() == [0.5, 1.0]
    assert [array.dtype for array in arrays.values()] == [np.int64, np.int64, np.int8, np.float32]


def test_texts_beyond_the_last_role_repeat_it():
    table = RowTable(PAIRS)
    table.add([[1], [2], [3], [4]], 1.0)
    assert table.arrays()["roles.npy"].tolist() == [0, 1, 1, 1]


def test_equal_texts_share_a_number_only_where_that_is_asked_for():
    rows = [[[1, 2]], [[3]], [[1, 2]]]
    apart = RowTable(SINGLE)
    shared = RowTable(SINGLE, deduplicate=True)
    assert [apart.add(ids, 0) for ids in rows] == [[0], [0], [0]]
    assert [shared.add(ids, 0) for ids in rows] == [[0], [0], []]
    assert apart.arrays()["row_texts.npy"].tolist() == [0, 1, 2]
    assert shared.arrays()["row_texts.npy"].tolist() == [0, 1, 0]
    assert (apart.texts, apart.duplicates) == (3, 0)
    assert (shared.texts, shared.duplicates) == (2, 1)


def test_tasks_without_labels_have_no_array_of_them():
    table = RowTable(UNLABELLED)
    table.add([[1]], None)
    assert set(table.arrays()) == {"row_offsets.npy", "row_texts.npy", "roles.npy"}
    with pytest.raises(ValueError, match="row 0 of a labelled task has no label"):
        RowTable(SINGLE).add([[1]], None)


def test_the_hash_is_that_of_the_rows_and_their_order():
    def digest(rows):
        table = RowTable(SINGLE, digest=True)
        for ids, label in rows:
            table.add(ids, label)
        return table.sha256

    rows = [([[1, 2]], 0), ([[3]], 1)]
    assert digest(rows) == digest(rows)
    assert digest(rows) != digest(rows[::-1])
    assert RowTable(SINGLE).sha256 == ""


def test_keys_are_handed_over_once():
    table = RowTable(SINGLE, keys=True)
    table.add([[1]], 0)
    assert table.take_keys() == [row_key([[1]], 0)]
    assert table.take_keys() == []


def test_row_keys_tell_apart_what_a_store_tells_apart():
    assert row_key([[1, 2]], 0) != row_key([[1], [2]], 0)
    assert row_key([[1, 2]], 0) != row_key([[1, 2]], 1)
    assert row_key([[1, 2]], None) != row_key([[1, 2]], 0)
    assert row_key([np.array([1, 2])], 0) == row_key([[1, 2]], 0)
    # Scores are stored as float32.
    assert row_key([[1]], 0.1) == row_key([[1]], float(np.float32(0.1)))
    assert row_key([[1]], 0.1) != row_key([[1]], 0.2)


def test_several_classes_a_row_are_a_column_each():
    task = dataclasses.replace(SINGLE, label_kind="multilabel", classes=("a", "b", "c"))
    table = RowTable(task)
    for label in [(0, 2), (), (1,)]:
        table.add([[1]], label)
    labels = table.arrays()["labels.npy"]
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert row_key([[1]], (0, 2)) != row_key([[1]], (0,))
    assert RowTable(task).arrays()["labels.npy"].shape == (0, 3)
