"""Opening stores: layers and splits."""

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore


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
