"""Reading a split: rows, texts and all of it."""

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from support.synthetic_stores import PAIRS, SCORES, make_store

from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore, read_manifest
from glot_jax.store.split_reader import Selection, SplitReader


def test_a_row_has_states_token_ids_and_label(store):
    split = HiddenStore(store)["train"]
    row = split[7]
    assert row.hidden.shape == (split.text_lengths[7], 8)
    assert row.hidden.dtype == np.float16
    assert row.token_ids.shape == row.hidden.shape[:1]
    assert row.token_ids.dtype == np.int32
    assert row.label == 1
    assert isinstance(row.label, int)


def test_rows_texts_and_read_all_agree(store):
    split = HiddenStore(store)["train"]
    everything = split.read_all()
    assert everything.shape == (split.tokens, 8)
    assert split.text_offsets[-1] == split.tokens == split.text_lengths.sum()
    for text in range(len(split.text_lengths)):
        span = slice(split.text_offsets[text], split.text_offsets[text + 1])
        np.testing.assert_array_equal(split.states(text), everything[span])
        np.testing.assert_array_equal(split[text].hidden, everything[span])


def test_rows_count_from_the_end_and_stop_there(store):
    split = HiddenStore(store)["validation"]
    np.testing.assert_array_equal(split[-1].hidden, split[11].hidden)
    for row in (12, -13):
        with pytest.raises(IndexError, match="validation, which has 12 rows"):
            split[row]
    for text in (12, -1):
        with pytest.raises(IndexError, match="12 texts"):
            split.states(text)


def test_a_pair_is_read_through_texts(tmp_path):
    split = HiddenStore(make_store(tmp_path / "pairs", PAIRS))["train"]
    row = split[3]
    assert split.texts_per_row == len(row.texts) == 2
    assert split.roles[:4].tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(row.texts[1][0], split.states(7))
    with pytest.raises(UsageError, match=r"row of 2\. Use row\.texts"):
        _ = row.hidden
    with pytest.raises(UsageError, match=r"row of 2\. Use row\.texts"):
        _ = row.token_ids


def test_regression_labels_are_floats(tmp_path):
    split = HiddenStore(make_store(tmp_path / "scores", SCORES))["train"]
    assert split.labels is not None
    assert split.labels.dtype == np.float32
    assert isinstance(split[0].label, float)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_every_storage_dtype_comes_back(tmp_path, dtype):
    split = HiddenStore(make_store(tmp_path / dtype, dtype=dtype))["train"]
    expected = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}[dtype]
    assert split.dtype == split[0].hidden.dtype == split.read_all().dtype == np.dtype(expected)
    raw = np.load(tmp_path / dtype / "train/shard-00000/hidden-L2-00000.npy", allow_pickle=False)
    assert raw.dtype == (np.uint16 if dtype == "bfloat16" else expected)
    assert 0.1 < np.abs(split.read_all().astype(np.float32)).max() < 100


def test_an_empty_text_has_no_states(tmp_path):
    split = HiddenStore(make_store(tmp_path / "store", empty_rows=(0, 5)))["train"]
    assert split[0].hidden.shape == (0, 8)
    assert split[0].token_ids.shape == (0,)
    assert split.text_lengths[5] == 0


def test_states_are_read_only_views(store):
    with pytest.raises(ValueError, match="read-only"):
        HiddenStore(store)["train"].states(0)[:] = 0


def test_shards_of_several_dtypes_are_read_as_float32(store):
    manifest = read_manifest(store)
    train = manifest.splits["train"]
    mixed = dataclasses.replace(train.shards[0], dtypes={"0": "float32", "2": "float32"})
    record = dataclasses.replace(train, shards=(mixed, *train.shards[1:]))
    selection = Selection((2,), 8, stack=False, trust=True)
    assert SplitReader(store / "train", record, selection).dtype == np.float32
    assert SplitReader(store / "train", train, selection).dtype == np.float16


@pytest.mark.parametrize(("peak", "dtype"), [(64_999.0, np.float16), (65_001.0, np.float32)])
def test_int8_states_come_back_as_float16_where_they_fit(store, peak, dtype):
    train = read_manifest(store).splits["train"]
    shard = dataclasses.replace(train.shards[0], dtypes={"2": "int8"})
    record = dataclasses.replace(train, shards=(shard,), max_abs=peak)
    selection = Selection((2,), 8, stack=False, trust=True)
    assert SplitReader(store / "train", record, selection).dtype == dtype


def test_rows_of_several_lengths_have_no_number_of_texts(store):
    reader = HiddenStore(store)["train"]
    reader.row_offsets = np.array([0, 1, 3])
    with pytest.raises(UsageError, match=r"all rows must have the same number.*Use row_offsets"):
        _ = reader.texts_per_row
