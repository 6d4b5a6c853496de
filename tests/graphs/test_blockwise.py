"""The blockwise backend: its bits, its blocks, and that its memory is what it promises.

That it computes what the others compute is a law (test_laws.py); here blocks are small, so that
there are several of them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from support.graph_parts import adjacency_of
from support.token_states import pad, sentences
from support.typed import present

from glot_jax import Glot, token_graph
from glot_jax.graphs import RULES, blockwise
from glot_jax.graphs.blockwise import block_rows
from glot_jax.graphs.row_blocks import pack, unpack


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blockwise, "PAIRS", 64)
    monkeypatch.setattr(blockwise, "_FEWEST_ROWS", 4)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 100), st.integers(0, 5))
def test_unpacking_undoes_packing(length, seed):
    edges = np.random.default_rng(seed).random((2, 3, length)) < 0.5
    bits = pack(jnp.asarray(edges))
    assert bits.shape == (2, 3, -(-length // 32))
    assert bits.dtype == jnp.uint32
    np.testing.assert_array_equal(unpack(bits, length), edges)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 64), st.integers(1, 100_000))
def test_blocks_hold_pairs_enough_and_no_more(batch, length):
    rows = block_rows(batch, length)
    assert rows & (rows - 1) == 0
    assert rows < 2 * length
    assert rows <= 128 or batch * length * rows <= blockwise.PAIRS


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("gnn", "options"),
    [("gat", {"heads": 2, "edge_term": True, "attention_dropout": 0.4}), ("gin", {}), ("sage", {})],
)
def test_several_blocks_are_the_dense_graph(rule, gnn, options):
    hidden, mask = pad(sentences([17, 1, 30, 0], 12), 37, "left")
    pooler = Glot(12, 8, 2, gnn=gnn, **options, rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(pooler, nnx.Param, ...)
    # Away from the start, where biases are zero and the edge term's slope is small.
    rng = np.random.default_rng(4)
    params, rest = (
        jax.tree.map(lambda p: p + 0.3 * rng.normal(size=p.shape).astype(np.float32), params),
        nnx.to_pure_dict(rest),
    )

    def loss(params, backend):
        graph = token_graph(hidden, mask, 0.5, graph=rule, k=3, backend=backend)
        rngs = nnx.Rngs(dropout=jax.random.key(3))
        return jnp.sum(jnp.sin(nnx.merge(graphdef, params, rest)(graph, train=True, rngs=rngs))), (
            adjacency_of(graph),
            graph.degree("exactly_one"),
        )

    results = {}
    for backend in ("dense", "blockwise"):
        (value, (adjacency, degree)), gradient = jax.jit(
            jax.value_and_grad(loss, has_aux=True), static_argnums=1
        )(params, backend)
        results[backend] = value, adjacency, degree, gradient
    (value, adjacency, degree, gradient), (value_, adjacency_, degree_, gradient_) = (
        results["dense"],
        results["blockwise"],
    )
    np.testing.assert_array_equal(adjacency_, adjacency)
    np.testing.assert_array_equal(degree_, degree)
    np.testing.assert_allclose(value_, value, rtol=1e-5)
    largest = max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(gradient))
    # Leaf by leaf, as far as rounding next to the largest of all allows: attention's own slopes are
    # small.
    for a, b in zip(jax.tree.leaves(gradient_), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(
            a, b, rtol=0, atol=1e-4 * float(jnp.abs(b).max()) + 2e-6 * largest
        )


@pytest.mark.usefixtures("small_blocks")
def test_its_edges_are_listed_for_jraph():
    hidden, mask = pad(sentences([7, 20], 12), 23)
    dense, listed = (
        token_graph(hidden, mask, 0.5, backend=backend).to_jraph()
        for backend in ("dense", "blockwise")
    )
    assert dense.n_edge.sum() > 27
    for a, b in zip(jax.tree.leaves(dense), jax.tree.leaves(listed), strict=True):
        np.testing.assert_array_equal(a, b)


def temporaries(length: int, backend: str, *, train: bool) -> int:
    """Bytes that XLA sets aside beyond arguments and results.

    For one text of 16-dimensional states.
    """
    pooler = Glot(16, 8, 2, scorer_dim=8, rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(pooler, nnx.Param, ...)

    def loss(params, hidden, mask):
        return jnp.sum(
            nnx.merge(graphdef, params, rest)(token_graph(hidden, mask, backend=backend))
        )

    shapes = (
        jax.ShapeDtypeStruct((1, length, 16), jnp.float32),
        jax.ShapeDtypeStruct((1, length), bool),
    )
    memory = present(
        jax.jit(jax.grad(loss) if train else loss)
        .lower(params, *shapes)
        .compile()
        .memory_analysis()
    )
    return memory.temp_size_in_bytes


@pytest.mark.parametrize("train", [False, True])
def test_memory_is_a_bit_per_pair_and_numbers_per_token(monkeypatch, train):
    monkeypatch.setattr(blockwise, "PAIRS", 1 << 18)
    length = 8192
    block = 4 * length * block_rows(1, length)
    allowed = length**2 / 8 + 20 * 4 * 16 * length + 3 * block
    assert temporaries(length, "blockwise", train=train) < allowed < length**2 / 2
    # The other side of the same scale: this is what the dense backend needs at a quarter of the
    # length.
    assert temporaries(length // 4, "dense", train=train) > 4 * (length // 4) ** 2
