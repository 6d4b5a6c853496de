"""Rounding of states is what storing and reading them gives."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch

from glot_jax.backbones.storage_dtypes import States, to_states
from glot_jax.inference.stored_rounding import stored_states


class Fixed:
    """A backbone whose states are given: one row for each token, whatever its id."""

    def __init__(self, *layers: object):
        self.layers = [torch.tensor(np.array(layer, np.float32)) for layer in layers]
        self.dim = self.layers[0].shape[-1]

    def states(self, token_ids: object, dtype: str = "float32") -> States:
        del token_ids
        hidden = {number: states[None] for number, states in enumerate(self.layers)}
        return to_states(hidden, None, dtype)


def rounded(backbone: Fixed, lengths: list[int], storage_dtype: str) -> dict[int, np.ndarray]:
    return stored_states(backbone, [[0] * length for length in lengths], storage_dtype)


VALUES = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("storage_dtype", "dtype"),
    [
        ("auto", np.float16),
        ("float16", np.float16),
        ("bfloat16", ml_dtypes.bfloat16),
        ("float32", np.float32),
    ],
)
def test_a_dtype_rounds_as_numpy_does(storage_dtype, dtype):
    result = rounded(Fixed(VALUES), [4, 5], storage_dtype)[0]
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, VALUES.astype(dtype))


def test_a_text_that_float16_cannot_hold_is_rounded_to_bfloat16_and_its_neighbours_are_not():
    loud = Fixed([[1.001, 2.0], [1.001, 70_000.0], [1.001, 3.0]])
    result = rounded(loud, [1, 2], "auto")[0]
    assert result.dtype == np.float32
    narrow = np.float32(np.float16(1.001))
    wide = np.float32(ml_dtypes.bfloat16(1.001))
    np.testing.assert_array_equal(result[:, 0], [narrow, wide, wide])
    assert np.isfinite(result).all()


def test_a_layer_that_is_loud_decides_for_all():
    result = rounded(Fixed([[1.001, 1.0]], [[1e5, 1.0]]), [1], "auto")
    assert result[0][0, 0] == np.float32(ml_dtypes.bfloat16(1.001))


def test_int8_has_a_scale_a_token():
    result = rounded(Fixed(VALUES), [9], "int8")[0]
    assert result.dtype == np.float16
    largest = np.abs(VALUES).max(axis=1, keepdims=True)
    assert (np.abs(result.astype(np.float32) - VALUES) <= largest / 127).all()
    loud = rounded(Fixed(VALUES * 1e6), [9], "int8")[0]
    assert loud.dtype == np.float32
    assert np.isfinite(loud).all()
