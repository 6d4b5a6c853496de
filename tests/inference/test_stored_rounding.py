"""Rounding of states is what storing and reading them gives."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from glot_jax.inference.stored_rounding import rounded


def states(*rows):
    return {0: np.array(rows, np.float32)}


@pytest.mark.parametrize(
    ("storage_dtype", "dtype"),
    [("auto", np.float16), ("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)],
)
def test_a_dtype_rounds_as_numpy_does(storage_dtype, dtype):
    values = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    result = rounded({3: values}, [4, 5], storage_dtype)[3]
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, values.astype(dtype))


def test_float32_stays():
    values = states([1.0000001, 2.0])
    assert rounded(values, [1], "float32")[0] is values[0]


def test_a_text_that_float16_cannot_hold_is_rounded_to_bfloat16_and_its_neighbours_are_not():
    values = states([1.001, 2.0], [1.001, 70_000.0], [1.001, 3.0])
    result = rounded(values, [1, 2], "auto")[0]
    assert result.dtype == np.float32
    narrow = np.float32(np.float16(1.001))
    wide = np.float32(ml_dtypes.bfloat16(1.001))
    np.testing.assert_array_equal(result[:, 0], [narrow, wide, wide])
    assert np.isfinite(result).all()


def test_a_layer_that_is_loud_decides_for_all():
    layers = {0: np.full((1, 2), 1.001, np.float32), 1: np.full((1, 2), 1e5, np.float32)}
    result = rounded(layers, [1], "auto")
    np.testing.assert_array_equal(result[0], np.float32(ml_dtypes.bfloat16(1.001)))


def test_int8_has_a_scale_a_token():
    values = np.random.default_rng(0).normal(size=(9, 5)).astype(np.float32)
    result = rounded({0: values}, [9], "int8")[0]
    assert result.dtype == np.float16
    largest = np.abs(values).max(axis=1, keepdims=True)
    assert (np.abs(result.astype(np.float32) - values) <= largest / 127).all()
    loud = rounded({0: values * 1e6}, [9], "int8")[0]
    assert loud.dtype == np.float32
    assert np.isfinite(loud).all()
