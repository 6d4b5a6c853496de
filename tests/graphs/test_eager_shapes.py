"""A loop over texts of many lengths without jit is told so, once."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import pytest

from glot_jax.graphs import eager_shapes
from glot_jax.graphs.eager_shapes import note_eager_shape


@pytest.fixture(autouse=True)
def no_shapes(monkeypatch):
    monkeypatch.setattr(eager_shapes, "_shapes", set())
    monkeypatch.setattr(eager_shapes, "SHAPES_BEFORE_WARNING", 3)


def test_the_fourth_shape_warns_and_the_fifth_does_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for length in (1, 2, 3, 3, 2, 1):
            note_eager_shape(jnp.zeros((1, length, 2)))
    with pytest.warns(UserWarning, match="4 different shapes outside of jax.jit.*TokenBatch"):
        note_eager_shape(jnp.zeros((1, 4, 2)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        note_eager_shape(jnp.zeros((1, 5, 2)))


def test_traced_shapes_are_not_counted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for length in range(1, 9):
            jax.eval_shape(note_eager_shape, jnp.zeros((1, length, 2)))
