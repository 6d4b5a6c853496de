"""The sample of texts whose graphs are counted, and numbers that no text decides.

The counts themselves are checked against counts made by hand in test_describe.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import numpy as np
import pytest
from support.synthetic_stores import make_store

from glot_jax.errors import UsageError
from glot_jax.reporting.graph_census import Spread, draw_sample
from glot_jax.store import HiddenStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> HiddenStore:
    folder = tmp_path_factory.mktemp("census") / "store"
    return HiddenStore(make_store(folder, rows={"train": 12, "validation": 8}, empty_rows=[1]))


def test_a_sample_has_the_lengths_of_its_texts(store):
    sample = draw_sample(store, 7)
    assert (len(sample.locations), sample.stored) == (7, 20)
    for (split, text), length in zip(sample.locations, sample.lengths, strict=True):
        assert len(store[split].states(text)) == length
    order = [(store.splits.index(split), text) for split, text in sample.locations]
    assert order == sorted(set(order))


def test_a_larger_sample_keeps_what_a_smaller_one_drew(store):
    small = draw_sample(store, 7)
    assert set(small.locations) < set(draw_sample(store, 8).locations)
    assert len(draw_sample(store, 100).locations) == 20


class _Empty:
    """As much of a store as `draw_sample` looks at, without a text."""

    path = "nowhere"
    splits = ("train",)

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def __getitem__(self, split: str) -> type:
        return type("Split", (), {"text_lengths": np.array([], np.int64)})


def test_a_store_without_a_text_is_refused():
    with pytest.raises(UsageError, match="must be described from stored texts; got nowhere"):
        draw_sample(cast(HiddenStore, _Empty()), 1)


def test_a_spread_over_nothing_has_no_numbers():
    assert Spread.over(np.array([])) == Spread(None, None, None, None)
    spread = Spread.over(np.arange(101))
    assert (spread.mean, spread.q05, spread.q50, spread.q95) == (50, 5, 50, 95)
