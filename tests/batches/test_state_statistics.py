"""Mean and deviation of the states of some rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.synthetic_stores import CLASSES, PAIRS, make_store

from glot_jax.batches.state_statistics import state_statistics
from glot_jax.store import HiddenStore

LAYERS = (0, 1, 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    return make_store(folder / "store", PAIRS, layers=LAYERS, empty_rows=[3])


def test_statistics_in_pieces_are_those_of_the_whole(store, monkeypatch):
    reader = HiddenStore(store, layers=LAYERS)["train"]
    whole = state_statistics(reader, np.arange(len(reader)))
    monkeypatch.setattr("glot_jax.batches.state_statistics._CHUNK", 50)
    for part, expected in zip(state_statistics(reader, np.arange(len(reader))), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-12)


def test_statistics_of_no_token_change_nothing(tmp_path):
    store = make_store(
        tmp_path / "store", CLASSES, rows={"train": 4, "validation": 4}, empty_rows=[0, 1]
    )
    mean, deviation = state_statistics(HiddenStore(store)["train"], np.array([0, 1]))
    assert np.all(mean == 0)
    assert np.all(deviation == 1)
