"""predictions.npz: what was written comes back, and damage is told."""

from __future__ import annotations

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.objectives.metrics import Predictions
from glot_jax.run_folders.predictions import FILE, read_predictions, write_predictions


def test_splits_come_back_in_their_order(tmp_path):
    splits = {
        "validation": Predictions(np.array([1, 0]), np.array([1, 1]), np.array([4, 7])),
        "test": Predictions(np.array([0.5]), np.array([0.25]), np.array([0])),
    }
    write_predictions(tmp_path, splits)
    again = read_predictions(tmp_path)
    assert list(again) == ["validation", "test"]
    for name, predictions in splits.items():
        for before, after in zip(predictions, again[name], strict=True):
            np.testing.assert_array_equal(before, after)


def test_a_file_that_is_missing_or_damaged_says_how_it_is_made_again(tmp_path):
    with pytest.raises(UsageError, match=r"must have predictions\.npz; got .*train\.py --resume"):
        read_predictions(tmp_path)
    (tmp_path / FILE).write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(UsageError, match=r"must be readable; got .*Delete it; glot evaluate"):
        read_predictions(tmp_path)
