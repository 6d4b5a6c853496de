"""Laws that every pooler obeys on every backend, whatever its parameters."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.graph_parts import adjacency_of
from support.token_states import pad, sentences
from support.typed import of_kind

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.graphs import BACKENDS, RULES, Stem
from glot_jax.pooling import GNN_LAYERS, POOLERS, Glot
from glot_jax.pooling.token_gnn import JumpingKnowledge

DIM, TAU = 12, 0.5
LENGTHS, LONGEST = [5, 1, 7, 3], 11

DESIGNS: list[tuple[JumpingKnowledge, int, int, bool]] = [
    ("cat", 2, 1, False),
    ("max", 3, 2, True),
    ("mean", 2, 4, False),
    ("none", 1, 1, True),
    ("cat", 0, 1, False),
]
"""Jumping knowledge, layers, heads, whether there is an edge term."""
GLOTS = {
    f"glot-{jk}-k{layers}-h{heads}{'-edge' if edge else ''}": PoolerConfig(
        jk=jk, num_layers=layers, heads=heads, edge_term=edge, hidden_dim=8
    )
    for jk, layers, heads, edge in DESIGNS
} | {
    f"glot-{gnn}": PoolerConfig(gnn=gnn, jk="cat" if gnn != "gine" else "mean", hidden_dim=8)
    for gnn in GNN_LAYERS
    if gnn != "gat"
}
GLOTS["glot-beyond"] = PoolerConfig(residual=True, virtual_node=True, hidden_dim=8)
CONFIGS = {
    name: PoolerConfig(pooler=name, hidden_dim=8, heads=2) for name in POOLERS if name != "glot"
} | GLOTS
EDGELESS = [
    name for name in CONFIGS if name not in GLOTS
]  # they never look at an edge, so at no rule
ALL = [
    (name, rule, backend)
    for name, rule, backend in itertools.product(CONFIGS, RULES, BACKENDS)
    if name in GLOTS or rule == "threshold"
]
# A cover: every pooler meets every backend; of the glots, every GNN every rule, and every rule
# every backend.
WITH_EVERY_RULE = {"glot-cat-k2-h1"} | {f"glot-{gnn}" for gnn in GNN_LAYERS}
COVER = [(name, "threshold", backend) for name in EDGELESS for backend in BACKENDS] + [
    (name, rule, list(BACKENDS)[(i + j) % len(BACKENDS)])
    for i, name in enumerate(GLOTS)
    for j, rule in enumerate(RULES)
    if name in WITH_EVERY_RULE or (i + j) % 3 == 0
]


def cases(law):
    # One worker for all laws of a case: it traces and compiles once.
    parameters = [
        pytest.param(
            *case,
            id="-".join(case),
            marks=[
                pytest.mark.xdist_group("-".join(case)),
                *([] if case in COVER else [pytest.mark.slow]),
            ],
        )
        for case in ALL
    ]
    return pytest.mark.parametrize(("name", "rule", "backend"), parameters)(law)


@functools.cache
def build(name: str, rule: str, backend: str, projection: int | None = None):
    """(params, apply, run) of a pooler behind a stem.

    `apply(params, hidden, mask)` pools eagerly; `run` is compiled and adds the gradient.

    `run(params, hidden, mask, cotangent)` gives (pooled, gradient of sum(pooled * cotangent)).
    """
    config, graph = CONFIGS[name], GraphConfig(graph=rule, tau=TAU, k=3, window=1, backend=backend)
    stem = Stem(DIM, config=graph, projection_dim=projection, rngs=nnx.Rngs(1))
    pooler = POOLERS[config.pooler].from_config(
        stem.node_dim, config, kind="encoder", rngs=nnx.Rngs(2)
    )
    graphdef, params, rest = nnx.split((stem, pooler), nnx.Param, ...)
    # Every parameter away from its start: zero biases would hide a forgotten one.
    rng = np.random.default_rng(4)
    params = jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32), params)

    def apply(params, hidden, mask):
        stem, pooler = nnx.merge(graphdef, params, rest)
        return pooler(stem(hidden, mask))

    def run(params, hidden, mask, cotangent):
        def loss(params):
            pooled = apply(params, hidden, mask)
            return jnp.sum(pooled * cotangent), pooled

        gradient, pooled = jax.grad(loss, has_aux=True)(params)
        return pooled, gradient

    return params, apply, jax.jit(run), run, pooler.pooled_dim


def case(name: str, rule: str, backend: str):
    """A function from padded states [4, 11, dim] to (pooled, gradient).

    It is compiled once for all laws.
    """
    params, _, run, _, width = build(name, rule, backend)
    cotangent = np.random.default_rng(0).normal(size=(len(LENGTHS), width)).astype(np.float32)

    def pooled(
        hidden: np.ndarray, mask: np.ndarray, rows: slice | np.ndarray = slice(None)
    ) -> tuple[jax.Array, Any]:
        return run(params, hidden, mask, cotangent[rows])

    return pooled


def assert_close(actual, expected, tolerance=2e-5):
    """Leaf by leaf, relative to the largest entry of all leaves."""
    largest = max(
        [float(np.abs(leaf).max(initial=0)) for leaf in jax.tree.leaves(expected)] + [1e-3]
    )
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(
            np.asarray(a) / largest, np.asarray(b) / largest, rtol=0, atol=tolerance
        )


@cases
def test_padding_changes_nothing(name, rule, backend):
    states, run = sentences(LENGTHS, DIM), case(name, rule, backend)
    expected = run(*pad(states, 7))
    for side, fill in [("left", 0.0), ("right", 5.0), ("left", -3.0)]:
        assert_close(run(*pad(states, LONGEST, side, fill)), expected)


@cases
def test_company_and_order_change_nothing(name, rule, backend):
    states, run = sentences(LENGTHS, DIM), case(name, rule, backend)
    pooled, gradient = run(*pad(states, LONGEST))
    order = np.array([2, 0, 3, 1])
    assert_close(run(*pad([states[i] for i in order], LONGEST), order), (pooled[order], gradient))
    # Each sentence with nothing but padding beside it: gradients add up, vectors stay.
    slopes = []
    for row, alone in enumerate(states):
        batch = [alone if i == row else alone[:0] for i in range(len(states))]
        single, slope = run(*pad(batch, LONGEST))
        assert_close(single[row], pooled[row])
        slopes.append(slope)
    assert_close(jax.tree.map(lambda *of: sum(of), *slopes), gradient)


@cases
def test_token_order_changes_nothing(name, rule, backend):
    states, run = sentences(LENGTHS, DIM), case(name, rule, backend)
    rng = np.random.default_rng(1)
    shuffled = [of[rng.permutation(len(of))] for of in states]
    pooled, expected = run(*pad(shuffled, LONGEST))[0], run(*pad(states, LONGEST))[0]
    layers = name in GLOTS and CONFIGS[name].num_layers > 0
    ordered = name in ("cls", "first", "last", "weighted-mean") or (
        layers and rule in ("window", "random")
    )
    assert np.allclose(pooled, expected, rtol=1e-5, atol=2e-5) != ordered


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        pytest.param(
            name, rule, marks=[] if name in EDGELESS or (i + j) % 3 == 0 else [pytest.mark.slow]
        )
        for i, name in enumerate(CONFIGS)
        for j, rule in enumerate(RULES)
        if name in GLOTS or rule == "threshold"
    ],
)
def test_backends_agree(name, rule):
    hidden, mask = pad(sentences(LENGTHS, DIM), LONGEST)
    first, *others = [case(name, rule, backend)(hidden, mask) for backend in BACKENDS]
    for other in others:
        assert_close(other, first)


TRAINED = {
    "gat-dropout": PoolerConfig(heads=2, attention_dropout=0.4, dropout=0.3, hidden_dim=8),
    "gin": PoolerConfig(gnn="gin", hidden_dim=8),
    "gine": PoolerConfig(gnn="gine", jk="mean", hidden_dim=8),
    "beyond": PoolerConfig(gnn="sage", residual=True, virtual_node=True, dropout=0.3, hidden_dim=8),
}


@pytest.mark.parametrize("name", TRAINED)
def test_backends_agree_in_training(name):
    """Vectors, gradients and running statistics.

    With the same tokens and the same attention dropped.
    """
    config, lengths = TRAINED[name], [5, 1, 7, 0, 3]
    hidden, mask = (jnp.asarray(v) for v in pad(sentences(lengths, DIM), LONGEST, "left"))
    results = []
    for backend in BACKENDS:
        stem = Stem(
            DIM,
            config=GraphConfig(tau=TAU, backend=backend),
            dropout=config.dropout,
            rngs=nnx.Rngs(1),
        )
        pooler = POOLERS["glot"].from_config(DIM, config, kind="encoder", rngs=nnx.Rngs(2))
        graphdef, params, rest = nnx.split(pooler, nnx.Param, ...)
        rest = nnx.to_pure_dict(rest)

        @jax.jit
        def run(params, stem=stem, graphdef=graphdef, rest=rest):
            def loss(params):
                pooler, rngs = (
                    nnx.merge(graphdef, params, rest),
                    nnx.Rngs(dropout=jax.random.key(3)),
                )
                pooled = pooler(stem(hidden, mask, train=True, rngs=rngs), train=True, rngs=rngs)
                return jnp.sum(jnp.sin(pooled)), (pooled, nnx.state(pooler, nnx.BatchStat))

            return jax.grad(loss, has_aux=True)(params)

        gradient, (pooled, statistics) = run(params)
        results.append((pooled, gradient, statistics))
        evaluated = pooler(stem(hidden, mask))
        assert not np.allclose(evaluated, pooled, atol=1e-3)
    for other in results[1:]:
        for part, expected in zip(other, results[0], strict=True):
            assert_close(part, expected)


@pytest.mark.parametrize(
    ("name", "backend"),
    [("adapool", "dense"), *(("glot-max-k3-h2-edge", backend) for backend in BACKENDS)],
)
def test_jit_changes_nothing(name, backend):
    hidden, mask = (jnp.asarray(v) for v in pad(sentences(LENGTHS, DIM), LONGEST))
    params, apply, _, run, width = build(name, "threshold", backend, 6)
    cotangent = np.random.default_rng(0).normal(size=(len(LENGTHS), width)).astype(np.float32)
    with jax.disable_jit():
        eager = run(params, hidden, mask, cotangent)
    assert_close(jax.jit(run)(params, hidden, mask, cotangent), eager)
    pooled, pull = jax.vjp(jax.jit(lambda p: apply(p, hidden, mask)), params)
    assert_close((pooled, pull(jnp.asarray(cotangent))[0]), eager)


@cases
def test_odd_sentences_are_finite(name, rule, backend):
    run = case(name, rule, backend)
    hidden = np.random.default_rng(3).normal(size=(8, LONGEST, DIM)).astype(np.float32)
    mask = np.ones((8, LONGEST), bool)
    mask[0] = False  # no token at all: an empty text
    mask[1, 1:] = False  # one token
    hidden[2] = hidden[2, 0]  # equal tokens
    hidden[3] = 0  # zero vectors
    hidden[4, 1:] = 0  # some zero vectors
    hidden[5] *= 1e15  # huge
    hidden[6] *= 1e-30  # tiny; squares of it are zero
    hidden[7, :, 0] = 1e4  # nearly parallel
    for part in (slice(0, 4), slice(4, 8)):
        pooled, gradient = run(hidden[part], mask[part])
        assert np.isfinite(pooled).all()
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        if part.start == 0:
            assert np.all(pooled[0] == 0)


def test_edges_of_huge_states_are_those_of_small_ones():
    hidden, mask = pad(sentences([6, 6], DIM))
    stem = Stem(DIM, config=GraphConfig(tau=TAU), rngs=nnx.Rngs(0))
    small, huge = (
        adjacency_of(stem(jnp.asarray(hidden * scale), jnp.asarray(mask))) for scale in (1, 1e20)
    )
    assert 0 < small.mean() < 1
    assert np.array_equal(small, huge)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_layers_and_a_constant_scorer_give_the_mean(backend):
    params, apply, *_ = build("glot-cat-k0-h1", "threshold", backend)
    hidden, mask = (jnp.asarray(v) for v in pad(sentences(LENGTHS, DIM)))
    pooled = apply(jax.tree.map(jnp.zeros_like, params), hidden, mask)
    assert_close(pooled, hidden.sum(1) / mask.sum(1, keepdims=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_layers_and_a_scorer_that_sees_only_the_first_token_give_cls(backend):
    states = sentences(LENGTHS, DIM)
    for of in states:
        of[:, 0] = -1  # a flag the scorer reads: first tokens carry +1
        of[0, 0] = 1
    stem = Stem(DIM, config=GraphConfig(backend=backend), rngs=nnx.Rngs(1))
    pooler = POOLERS["glot"].from_config(
        DIM, CONFIGS["glot-cat-k0-h1"], kind="encoder", rngs=nnx.Rngs(0)
    )
    readout = of_kind(pooler, Glot).readout
    readout.kernel[...] = jnp.zeros_like(readout.kernel[...]).at[0, 0].set(50.0)
    readout.bias[...] = jnp.zeros_like(readout.bias[...])
    readout.vector[...] = jnp.zeros_like(readout.vector[...]).at[0].set(50.0)
    hidden, mask = (jnp.asarray(v) for v in pad(states))
    assert_close(pooler(stem(hidden, mask)), hidden[:, 0])


@pytest.mark.parametrize("name", CONFIGS)
def test_token_weights_say_what_was_pooled(name):
    """Weights of linear poolers rebuild the vector; all weights of a sentence add up to 1.

    Those of the sum by the root of the length add up to that root.
    """
    hidden, mask = pad(sentences(LENGTHS, DIM), 9, "left")
    config = CONFIGS[name]
    graph = Stem(DIM, config=GraphConfig(tau=TAU), rngs=nnx.Rngs(1))(
        jnp.asarray(hidden), jnp.asarray(mask)
    )
    pooler = POOLERS[config.pooler].from_config(DIM, config, kind="encoder", rngs=nnx.Rngs(2))
    weights = np.asarray(pooler.token_weights(graph))
    total = np.sqrt(mask.sum(1)) if name == "mean-sqrt-len" else np.ones(len(mask))
    np.testing.assert_allclose(weights.sum(1), total, atol=1e-5)
    assert np.all(weights[~mask] == 0)
    if name not in ("max", "adapool-attention", "pma", "latent-attention") and (
        config.pooler not in ("glot", "mlp") or config.jk == "cat"
    ):
        assert_close(pooler(graph)[:, :DIM], np.einsum("bl,bld->bd", weights, hidden))


def test_last_token_of_a_decoder_is_the_last_real_one():
    states = sentences(LENGTHS, DIM)
    pooler = POOLERS["cls"].from_config(
        DIM, PoolerConfig(pooler="cls"), kind="decoder", rngs=nnx.Rngs(0)
    )
    for side, backend in itertools.product(("left", "right"), BACKENDS):
        hidden, mask = (jnp.asarray(v) for v in pad(states, 9, side))
        graph = Stem(DIM, config=GraphConfig(backend=backend), rngs=nnx.Rngs(1))(hidden, mask)
        assert_close(pooler(graph), np.stack([of[-1] for of in states]))
