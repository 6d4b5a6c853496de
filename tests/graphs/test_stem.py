"""What stands between stored states and the graph.

Mixing, standardising, dropout, the learned threshold.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.graph_parts import adjacency_of
from support.token_states import pad, sentences
from support.typed import present

from glot_jax.batches.token_choice import EVERY_TOKEN, TokenChoice
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.graphs import Stem, backends
from glot_jax.graphs.blockwise import BlockwiseGraph
from glot_jax.graphs.dense import DenseGraph
from glot_jax.graphs.sparse import SparseGraph
from glot_jax.pooling import GNN_LAYERS, POOLERS

DIM = 12


def stem(layers: int | None = None, config: GraphConfig | None = None, **options) -> Stem:
    return Stem(
        DIM, config=config or GraphConfig(tau=0.5), layers=layers, rngs=nnx.Rngs(0), **options
    )


def layered(lengths: list[int], layers: int):
    """`hidden [batch, length, layers, dim]` and mask."""
    parts = [pad(sentences(lengths, DIM, seed=seed)) for seed in range(layers)]
    return jnp.asarray(np.stack([hidden for hidden, _ in parts], axis=2)), jnp.asarray(parts[0][1])


def test_mixing_starts_with_equal_weights_and_follows_the_softmax():
    hidden, mask = layered([5, 3], 3)
    of = stem(layers=3)
    np.testing.assert_allclose(of(hidden, mask).nodes, hidden.mean(axis=2), atol=1e-6)
    present(of.layer_scores)[...] = jnp.asarray([0.0, np.log(2.0), np.log(5.0)])
    np.testing.assert_allclose(present(of.layer_weights()), [1 / 8, 2 / 8, 5 / 8], atol=1e-6)
    np.testing.assert_allclose(
        of(hidden, mask).nodes, np.einsum("blnd,n->bld", hidden, [1 / 8, 2 / 8, 5 / 8]), atol=1e-6
    )


def test_a_mix_of_one_layer_links_and_holds_that_layer():
    hidden, mask = layered([5, 3], 3)
    of, alone = stem(layers=3), stem()
    present(of.layer_scores)[...] = jnp.asarray([0.0, 100.0, 0.0])
    for graph, expected in [(of(hidden, mask), alone(hidden[:, :, 1], mask))]:
        assert np.array_equal(adjacency_of(graph), adjacency_of(expected))
        np.testing.assert_allclose(graph.nodes, expected.nodes, atol=1e-6)


def test_mixing_weights_are_trained_and_the_graph_is_not_differentiated():
    hidden, mask = layered([5, 3], 2)
    of = stem(layers=2)
    graphdef, params, rest = nnx.split(of, nnx.Param, ...)
    pooler = POOLERS["glot"].from_config(
        DIM, PoolerConfig(hidden_dim=8), kind="encoder", rngs=nnx.Rngs(1)
    )

    def loss(params):
        return jnp.sum(jnp.sin(pooler(nnx.merge(graphdef, params, rest)(hidden, mask))))

    slope = nnx.to_pure_dict(jax.grad(loss)(params))["layer_scores"]
    # With the edges held fixed the loss is smooth: central differences agree.
    for k in range(2):
        step = np.zeros(2, np.float32)
        step[k] = 1e-2
        ends = [
            loss(jax.tree.map(lambda p, sign=sign, step=step: p + sign * step, params))
            for sign in (1, -1)
        ]
        assert abs((ends[0] - ends[1]) / 2e-2 - slope[k]) < 2e-3 * max(1, abs(slope[k]))
    assert abs(slope).max() > 1e-3


def test_random_edges_of_mixed_layers_do_not_move_with_the_weights():
    hidden, mask = layered([9, 7], 2)
    of = stem(layers=2, config=GraphConfig(graph="random", tau=0.5))
    before = adjacency_of(of(hidden, mask))
    present(of.layer_scores)[...] = jnp.asarray([0.0, 1e-4])
    assert np.array_equal(adjacency_of(of(hidden, mask)), before)
    assert 0 < before[0, ~np.eye(9, dtype=bool)].mean() < 1


def test_standardising_changes_features_and_never_the_graph():
    hidden, mask = (jnp.asarray(v) for v in pad(sentences([6, 4], DIM)))
    of = stem(standardise=True)
    before = of(hidden, mask)
    np.testing.assert_array_equal(before.nodes, hidden)
    tokens = np.asarray(hidden)[np.asarray(mask)]
    deviation = tokens.std(0)
    deviation[3] = 0  # a dimension that never moves is only centred
    of.set_statistics(tokens.mean(0), deviation)
    after = of(hidden, mask)
    nodes = np.asarray(after.nodes)[np.asarray(mask)]
    np.testing.assert_allclose(nodes.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(nodes.std(0), 3), 1, atol=1e-5)
    np.testing.assert_allclose(nodes[:, 3], tokens[:, 3] - tokens[:, 3].mean(), atol=1e-5)
    assert np.array_equal(adjacency_of(before), adjacency_of(after))
    with pytest.raises(UsageError, match="a stem must standardise to hold statistics"):
        stem().set_statistics(tokens.mean(0), deviation)


def test_layers_are_standardised_before_they_are_mixed():
    hidden, mask = layered([6, 4], 2)
    hidden = hidden.at[:, :, 1].multiply(100.0)
    of = stem(layers=2, standardise=True)
    tokens = np.asarray(hidden)[np.asarray(mask)]
    of.set_statistics(tokens.mean(0), tokens.std(0))
    expected = ((np.asarray(hidden) - tokens.mean(0)) / tokens.std(0)).mean(axis=2)
    np.testing.assert_allclose(of(hidden, mask).nodes, expected, atol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("backend", ["dense", "blockwise", "sparse"])
@pytest.mark.parametrize("name", ["glot", "mean", "first", "last", "max"])
def test_tokens_that_are_left_out_might_as_well_not_be_there(name, backend, side):
    """Graph and pooler give what they give for texts without these tokens."""
    texts = sentences([7, 5, 6], DIM)
    rng = np.random.default_rng(3)
    sunk = []
    for text in texts:
        # One at the start, and one within.
        sink = 500 + rng.normal(size=(2, DIM)).astype(np.float32)
        sunk.append(np.concatenate([sink[:1], text[:3], sink[1:], text[3:]]))
    config = GraphConfig(tau=0.5, backend=backend, edge_budget=512)
    pooler = POOLERS[name].from_config(
        DIM, PoolerConfig(hidden_dim=8, scorer_dim=8), kind="encoder", rngs=nnx.Rngs(1)
    )
    outputs = []
    for tokens, states in ((EVERY_TOKEN, texts), (TokenChoice(sink_limits=(100.0,)), sunk)):
        hidden, mask = map(jnp.asarray, pad(states, side=side))
        made = stem(config=config, tokens=tokens)
        outputs.append(np.asarray(pooler(made(hidden, mask))))
        counts = made.count_edges(hidden, mask)
        outputs.append(np.asarray(counts))
    np.testing.assert_allclose(outputs[2], outputs[0], atol=1e-5)
    np.testing.assert_array_equal(outputs[3], outputs[1])


@pytest.mark.parametrize("states", ["centred", "standardised"])
def test_linked_states_are_other_ones_and_features_are_not(states):
    hidden, mask = map(jnp.asarray, pad(sentences([7, 5], DIM)))
    mean = np.linspace(-1, 1, DIM)
    deviation = np.linspace(0.5, 2, DIM)
    made = stem(config=GraphConfig(tau=0.3, graph_states=states))
    made.set_graph_statistics(mean, deviation)
    scale = deviation if states == "standardised" else 1
    linked = jnp.asarray((np.asarray(hidden) - mean) / scale, jnp.float32)
    expected = stem(config=GraphConfig(tau=0.3))(linked, mask)
    graph = made(hidden, mask)
    np.testing.assert_array_equal(adjacency_of(graph), adjacency_of(expected))
    np.testing.assert_array_equal(graph.nodes, hidden)
    with pytest.raises(UsageError, match="centred or standardised states"):
        stem().set_graph_statistics(mean, deviation)


@pytest.mark.parametrize(("norm", "length"), [("l2", 1.0), ("rms", DIM**0.5)])
def test_every_token_is_scaled_by_itself_and_the_graph_is_not(norm, length):
    hidden, mask = pad(sentences([7, 5], DIM))
    hidden[0, 2] = 0
    hidden[1, 1] *= 1e25
    graph = stem(token_norm=norm)(jnp.asarray(hidden), jnp.asarray(mask))
    lengths = np.linalg.norm(np.asarray(graph.nodes), axis=-1)
    expected = np.where(np.abs(hidden).max(-1) > 0, length, 0)
    np.testing.assert_allclose(lengths, expected, rtol=1e-5)
    plain = stem()(jnp.asarray(hidden), jnp.asarray(mask))
    np.testing.assert_array_equal(adjacency_of(graph), adjacency_of(plain))


@pytest.mark.parametrize("rate", [0.3, 0.7])
def test_dropout_is_for_training_after_the_graph_and_keeps_the_mean(rate):
    hidden, mask = (jnp.asarray(v) for v in pad(sentences([40, 40], DIM)))
    of = stem(dropout=rate)
    np.testing.assert_array_equal(of(hidden, mask).nodes, hidden)
    graph = of(hidden, mask, train=True, rngs=nnx.Rngs(dropout=0))
    dropped = np.asarray(graph.nodes) == 0
    assert abs(dropped.mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / dropped.size)
    np.testing.assert_allclose(
        np.asarray(graph.nodes)[~dropped], np.asarray(hidden)[~dropped] / (1 - rate), rtol=1e-5
    )
    assert np.array_equal(adjacency_of(graph), adjacency_of(of(hidden, mask)))
    again, other = (
        of(hidden, mask, train=True, rngs=nnx.Rngs(dropout=seed)).nodes for seed in (0, 1)
    )
    assert np.array_equal(graph.nodes, again)
    assert not np.array_equal(graph.nodes, other)


LEARNED = GraphConfig(tau=0.5, learn_tau=True, temperature=(0.2, 0.05))


def test_a_learned_threshold_is_soft_in_training_and_hard_in_evaluation():
    hidden, mask = (jnp.asarray(v) for v in pad(sentences([6, 4], DIM), 7))
    of, hard = stem(config=LEARNED), stem()(hidden, mask)
    evaluated = of(hidden, mask)
    assert evaluated.weight is None
    assert np.array_equal(adjacency_of(evaluated), adjacency_of(hard))
    for progress, temperature in [(0.0, 0.2), (0.5, 0.1), (1.0, 0.05)]:
        graph = of(hidden, mask, train=True, progress=progress)
        states = np.asarray(hidden, np.float64)[0, :6]
        unit = states / np.linalg.norm(states, axis=1, keepdims=True)
        expected = 1 / (1 + np.exp(-(unit @ unit.T - 0.5) / temperature))
        np.fill_diagonal(expected, 1)
        np.testing.assert_allclose(graph.weight[0, :6, :6], expected, atol=1e-4)
        assert np.array_equal(adjacency_of(graph)[0], np.outer(np.arange(7) < 6, np.arange(7) < 6))


@pytest.mark.parametrize("gnn", GNN_LAYERS)
def test_soft_edges_at_temperature_zero_are_hard_edges(gnn):
    hidden, mask = (jnp.asarray(v) for v in pad(sentences([6, 1, 4], DIM), 7))
    of = stem(config=GraphConfig(tau=0.5, learn_tau=True, temperature=(1e-6, 1e-6)))
    pooler = POOLERS["glot"].from_config(
        DIM, PoolerConfig(gnn=gnn, hidden_dim=8), kind="encoder", rngs=nnx.Rngs(1)
    )
    np.testing.assert_allclose(
        pooler(of(hidden, mask, train=True)), pooler(stem()(hidden, mask)), atol=1e-4
    )


@pytest.mark.parametrize("gnn", ["gat", "gcn", "gin", "sage"])
def test_the_threshold_has_the_slope_of_central_differences(gnn):
    hidden, mask = (jnp.asarray(v) for v in pad(sentences([6, 4], DIM), 7))
    pooler = POOLERS["glot"].from_config(
        DIM, PoolerConfig(gnn=gnn, hidden_dim=8), kind="encoder", rngs=nnx.Rngs(1)
    )

    @jax.jit
    def loss(tau):
        of = stem(config=LEARNED)
        present(of.tau)[...] = tau
        return jnp.sum(jnp.sin(pooler(of(hidden, mask, train=True))))

    slope = jax.jit(jax.grad(loss))(jnp.float32(0.5))
    difference = (loss(jnp.float32(0.51)) - loss(jnp.float32(0.49))) / 0.02
    assert abs(slope) > 1e-3
    assert abs(slope - difference) < 0.02 * abs(slope) + 1e-3


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_soft_edges_are_finite_whatever_the_states(progress):
    hidden = np.random.default_rng(0).normal(size=(4, 6, DIM)).astype(np.float32)
    hidden[0] = 0
    hidden[1] = hidden[1, 0]
    hidden[2] *= 1e15
    mask = jnp.ones((4, 6), bool).at[3].set(False)
    of = stem(config=GraphConfig(tau=0.5, learn_tau=True, temperature=(0.1, 1e-4)))
    graphdef, params, rest = nnx.split(of, nnx.Param, ...)
    pooler = POOLERS["glot"].from_config(
        DIM, PoolerConfig(hidden_dim=8), kind="encoder", rngs=nnx.Rngs(1)
    )

    def loss(params):
        return jnp.sum(
            pooler(
                nnx.merge(graphdef, params, rest)(
                    jnp.asarray(hidden), mask, train=True, progress=progress
                )
            )
            / 1e15
        )

    value, slope = jax.value_and_grad(loss)(params)
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"learn_tau": True, "backend": "sparse"},
            (
                "--learn-tau needs --graph threshold and --backend dense; got --graph threshold"
                " --backend sparse"
            ),
        ),
        ({"learn_tau": True, "graph": "knn"}, "got --graph knn --backend auto"),
        ({"temperature": (0.1, 0.0)}, "--temperature must each be a positive number"),
        ({"tau": float("nan")}, r"--tau must be a cosine in \[-1, 1\]; got nan"),
    ],
)
def test_impossible_graphs_are_refused_where_they_are_born(arguments, message):
    with pytest.raises(UsageError, match=message):
        GraphConfig(**arguments)


def test_auto_takes_the_backend_that_fits_the_shape(monkeypatch):
    hidden, mask = (jnp.asarray(v) for v in pad(sentences([6, 4], DIM), 8))
    monkeypatch.setattr(backends, "DENSE_PAIRS", 2 * 8 * 8)
    of = stem(config=GraphConfig(tau=0.5, backend="auto"))
    assert isinstance(of(hidden, mask), DenseGraph)
    assert isinstance(of(hidden, mask, edge_budget=256), SparseGraph)
    monkeypatch.setattr(backends, "DENSE_PAIRS", 2 * 8 * 8 - 1)
    assert isinstance(of(hidden, mask), BlockwiseGraph)
    soft = stem(config=GraphConfig(tau=0.5, learn_tau=True))
    assert isinstance(soft(hidden, mask, train=True, edge_budget=256), DenseGraph)
    assert isinstance(soft(hidden, mask), BlockwiseGraph)
