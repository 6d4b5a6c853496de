"""Small integers with scales: what is written is read, and how much of a state is left."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import jax
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glot_jax.backbones.storage_dtypes import ROUNDINGS, _rotate
from glot_jax.batches.packed_states import unpacked
from glot_jax.store.scaled_states import (
    GROUP,
    Rotation,
    bytes_per_token,
    decode,
    norms,
    pack,
    scales_shape,
    unpack,
    values_shape,
)

WIDTHS = (1, 2, 3, 6, 50, 64, 96, 384, 576, 770)


@given(
    arrays.arrays(np.int8, arrays.array_shapes(min_dims=2, max_dims=2), elements=st.integers(-7, 7))
)
def test_packed_values_come_back(values):
    packed = pack(values)
    assert packed.shape == values_shape("int4", *values.shape)
    np.testing.assert_array_equal(unpack(packed, values.shape[1]), values)


@pytest.mark.parametrize("dim", WIDTHS)
def test_the_rotation_is_orthogonal_and_sylvesters(dim):
    rotation = Rotation.of_width(dim)
    matrix = rotation.rotate(np.eye(dim, dtype=np.float32))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(dim), atol=2e-6)
    size = rotation.block
    np.testing.assert_array_equal(rotation.matrix, scipy.linalg.hadamard(size))
    assert dim % size == 0
    assert GROUP % size == 0, "a block lies within a group"


def test_the_rotation_of_a_width_never_changes():
    # Stores hold rotated states: other signs would make noise of them.
    signs = np.sign(Rotation.of_width(384).signs[:16]).astype(int).tolist()
    assert signs == [-1, 1, -1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1, -1, -1]


@pytest.mark.parametrize("dim", WIDTHS)
def test_the_device_rotates_as_the_reader_rotates_back(dim):
    states = np.random.default_rng(1).normal(size=(5, dim)).astype(np.float32)
    turned = _rotate(torch.from_numpy(states)).numpy()
    np.testing.assert_allclose(turned, Rotation.of_width(dim).rotate(states), atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(dim=st.integers(1, 200), seed=st.integers(0, 1000), scale=st.floats(1e-6, 1e4))
def test_programs_read_what_the_host_reads_to_the_last_bit(dim, seed, scale):
    rng = np.random.default_rng(seed)
    values = pack(rng.integers(-7, 8, (6, dim)).astype(np.int8))
    scales = (scale * rng.random(scales_shape("int4", 6, dim))).astype(np.float16)
    ours = decode("int4", values, scales, dim)
    theirs = jax.jit(unpacked, static_argnums=2)(values, scales, dim)
    np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize("dim", WIDTHS)
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_what_is_left_of_a_state(dtype, dim):
    rng = np.random.default_rng(2)
    states = rng.normal(size=(40, dim)).astype(np.float32)
    # One value a hundred times the others, as language models have them.
    states[:, dim // 2] *= 100
    states[3] = 0
    values, scales, errors = (part.numpy() for part in ROUNDINGS[dtype](torch.from_numpy(states)))
    assert values.shape == values_shape(dtype, *states.shape)
    assert scales.shape == scales_shape(dtype, *states.shape)
    assert bytes_per_token(dtype, dim) == (values.nbytes + scales.nbytes) / len(states)
    left = decode(dtype, values, scales, dim)
    # The largest value of a group is 7 steps, or 127, and the error at most half of one.
    if dtype == "int4":
        rotation = Rotation.of_width(dim)
        apart = np.abs(rotation.rotate(left) - rotation.rotate(states))
        steps = np.repeat(scales.astype(np.float32), GROUP, axis=1)[:, :dim]
        assert np.all(apart <= 0.51 * steps + 1e-5)
    else:
        assert np.all(np.abs(left - states) <= 0.51 * scales.astype(np.float32)[:, None] + 1e-6)
    np.testing.assert_array_equal(left[3], 0)
    exact = np.linalg.norm(left.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms(dtype, values, scales, dim), exact, rtol=1e-5)
    # The errors that the manifest sums up are those of what is read.
    rest = np.delete(np.arange(40), 3)
    unit = states[rest] / np.linalg.norm(states[rest], axis=1, keepdims=True)
    read = left[rest] / np.linalg.norm(left[rest], axis=1, keepdims=True)
    np.testing.assert_allclose(errors[rest], 1 - (unit * read).sum(1), atol=2e-6)


def test_four_bits_keep_small_values_beside_a_large_one():
    """What the rotation is for: without it the small values of a group were all zero."""
    rng = np.random.default_rng(3)
    states = rng.normal(size=(200, 576)).astype(np.float32)
    states[:, 100] = 300
    values, scales, _ = ROUNDINGS["int4"](torch.from_numpy(states))
    left = decode("int4", values.numpy(), scales.numpy(), 576)
    small = np.delete(np.arange(576), 100)
    kept = np.corrcoef(left[:, small].ravel(), states[:, small].ravel())[0, 1]
    unrotated = np.round(states[:, 64:128] / (300 / 7))
    assert not unrotated[:, small[64:100] - 64].any()
    assert kept > 0.5


def test_about_a_quarter_of_float16():
    for dim in (384, 576, 4096):
        assert bytes_per_token("int4", dim) / bytes_per_token("float16", dim) == pytest.approx(
            0.266, abs=0.001
        )


@settings(max_examples=50, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 4), st.integers(1, 130)),
        elements=st.floats(-60000, 60000, width=32),
    )
)
def test_no_state_makes_a_value_that_is_not_finite(states):
    values, scales, errors = ROUNDINGS["int4"](torch.from_numpy(states))
    if torch.isfinite(scales).all():
        left = decode("int4", values.numpy(), scales.numpy(), states.shape[1])
        assert np.isfinite(left).all()
    assert torch.isfinite(errors[torch.isfinite(scales).all(-1)]).all()
