"""The choice of a backend, and symbolic shapes: a head is exported for every batch and length."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export
from support.token_states import pad, sentences

from glot_jax.errors import UsageError
from glot_jax.graphs import token_graph
from glot_jax.pooling import Glot

DIM = 12


def exported(backend: str, graph: str = "threshold", constraints: tuple[str, ...] = ()):
    glot = Glot(DIM, 8, rngs=nnx.Rngs(0))

    @jax.jit
    def pool(hidden, mask):
        return glot(token_graph(hidden, mask, 0.5, backend=backend, graph=graph, k=3))

    batch, length = export.symbolic_shape("batch, length", constraints=constraints)
    hidden = jax.ShapeDtypeStruct((batch, length, DIM), jnp.float32)
    mask = jax.ShapeDtypeStruct((batch, length), jnp.bool_)
    return pool, export.export(pool)(hidden, mask)


@pytest.mark.parametrize(
    ("backend", "graph", "constraints"),
    [
        ("auto", "threshold", ()),
        ("sparse", "threshold", ()),
        ("dense", "random", ()),
        ("dense", "knn", ("length >= 3",)),
    ],
)
def test_one_export_serves_every_batch_and_length(backend, graph, constraints):
    pool, serialisable = exported(backend, graph, constraints)
    for lengths, longest in (([5, 1, 7], 9), ([2], 4)):
        hidden, mask = pad(sentences(lengths, DIM), longest, "left")
        expected = pool(hidden, mask)
        np.testing.assert_allclose(serialisable.call(hidden, mask), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("backend", "graph", "message"),
    [
        ("blockwise", "threshold", "must know batch and length as numbers"),
        ("dense", "knn", "must be known to be at least k"),
    ],
)
def test_what_cannot_be_symbolic_is_said(backend, graph, message):
    with pytest.raises(UsageError, match=message):
        exported(backend, graph)
