"""Reading stores: rows, texts and layers."""

import ml_dtypes
import numpy as np
import pytest
from support.synthetic_stores import PAIRS, SCORES, make_store

from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore


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
    assert split.labels.dtype == np.float32
    assert isinstance(split[0].label, float)


def test_layers_are_chosen_by_index_and_from_the_end(store):
    last, first = HiddenStore(store), HiddenStore(store, layer=0)
    assert (last.layers, first.layers, last.stored_layers) == ((2,), (0,), (0, 2))
    np.testing.assert_array_equal(
        last["train"].states(0), HiddenStore(store, layer=-1)["train"].states(0)
    )
    np.testing.assert_array_equal(
        first["train"].states(0), HiddenStore(store, layer=-3)["train"].states(0)
    )
    assert np.any(last["train"].states(0) != first["train"].states(0))
    both = HiddenStore(store, layers=(2, 0))
    assert both.layers == (2, 0)
    length = both["train"].text_lengths[5]
    assert both["train"][5].hidden.shape == (length, 2, 8)
    np.testing.assert_array_equal(both["train"].states(5)[:, 1], first["train"].states(5))
    np.testing.assert_array_equal(both["train"].read_all()[:, 0], last["train"].read_all())
    assert HiddenStore(store, layers=[2])["train"].read_all().shape[1:] == (1, 8)


@pytest.mark.parametrize("choice", [{"layer": 1}, {"layer": -4}, {"layer": 3}, {"layers": (0, 1)}])
def test_a_layer_that_is_not_stored_is_refused_with_those_that_are(store, choice):
    with pytest.raises(UsageError, match=r"Stored: 0, 2\."):
        HiddenStore(store, **choice)


def test_a_store_is_opened_with_layer_or_layers(store):
    with pytest.raises(UsageError, match="Give one of them"):
        HiddenStore(store, layer=0, layers=(2,))
    with pytest.raises(UsageError, match="at least one"):
        HiddenStore(store, layers=())


def test_splits_are_listed_and_unknown_ones_refused(store):
    opened = HiddenStore(store)
    assert list(opened) == list(opened.splits) == ["train", "validation"]
    assert "train" in opened
    assert "test" not in opened
    with pytest.raises(UsageError, match=r"'test'\. Known: train, validation"):
        opened["test"]


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
