"""Glot and Mlp: a class is taken where a name is, and a plugin's parts live in one file."""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import pytest
from flax import nnx
from support.graph_parts import adjacency_of
from support.pooled import DIM, graph_of

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.graphs import RULES, Rule, TokenGraph, token_graph
from glot_jax.pooling import (
    GNN_LAYERS,
    POOLERS,
    Glot,
    GNNLayer,
    LayerOptions,
    Mean,
    Mlp,
    Pooler,
    unread_options,
)
from glot_jax.pooling.layers import DEFAULT_OPTIONS
from glot_jax.pooling.work import StepWork


class Sum(GNNLayer):
    """`sum_{j in N(i)} u_j W`, a layer that the package does not have."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        options: LayerOptions = DEFAULT_OPTIONS,
        *,
        rngs: nnx.Rngs,
    ):
        super().__init__(dim, hidden_dim, options, rngs=rngs)
        self.kernel = nnx.Param(jnp.ones((dim, hidden_dim)) / dim)

    def propagate(
        self,
        graph: TokenGraph,
        nodes: jax.Array,
        *,
        train: bool = False,
        rngs: nnx.Rngs | None = None,
    ) -> jax.Array:
        del train, rngs
        return graph.sum(nodes @ self.kernel[...])

    def work(self, work: StepWork, *, frozen: bool) -> None:
        work.linear(self.dim, self.hidden_dim, frozen=frozen)
        work.mix(self.hidden_dim, weighted=False)


class Middle(Pooler):
    """Twice the mean."""

    reads = frozenset({"scorer_dim"})

    def __init__(self, dim: int):
        self.pooled_dim = dim

    def weights(self, graph: TokenGraph) -> jax.Array:
        return 2 * graph.softmax(jnp.zeros_like(graph.node_mask, jnp.float32))


def test_a_layer_class_is_taken_where_a_name_is():
    _, graph = graph_of("dense")
    named = Glot(DIM, 8, 1, gnn="sage", rngs=nnx.Rngs(0))
    given = Glot(DIM, 8, 1, gnn=GNN_LAYERS["sage"], rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(named(graph), given(graph))
    foreign = Glot(DIM, 8, 1, gnn=Sum, rngs=nnx.Rngs(0))
    assert foreign(graph).shape == (5, foreign.pooled_dim)


def test_registered_parts_are_found_by_name(monkeypatch):
    tables = ((POOLERS, "middle", Middle), (GNN_LAYERS, "plus", Sum))
    for table, name, part in tables:
        monkeypatch.setitem(table, name, part)
    rule = Rule(lambda pairs, _options: pairs.similarity > 0, frozenset({"window"}))
    monkeypatch.setitem(RULES, "positive", rule)
    states, _ = graph_of("dense")
    config = PoolerConfig(pooler="middle")
    pooler = POOLERS["middle"].from_config(DIM, config, kind="encoder", rngs=nnx.Rngs(0))
    graph = token_graph(states[0][None].astype(np.float32), np.ones((1, 5), bool), graph="positive")
    np.testing.assert_allclose(pooler(graph), 2 * Mean(DIM)(graph), atol=1e-6)
    usual = token_graph(graph.nodes, graph.node_mask)
    assert not np.array_equal(adjacency_of(graph), adjacency_of(usual))
    assert "scorer_dim" not in unread_options(GraphConfig(), config)
    unread = unread_options(GraphConfig(graph="positive"), PoolerConfig(gnn="plus"))
    assert "tau" in unread
    assert "heads" in unread
    assert "window" not in unread


def test_a_graphs_tuple_is_refused_with_the_way_to_a_graph():
    none = jnp.zeros(0, int)
    graphs = jraph.GraphsTuple(None, None, None, None, None, n_node=none, n_edge=none)
    glot = Glot(DIM, 8, rngs=nnx.Rngs(0))
    # Past the checks of types that the tests alone have.
    for call in (Pooler.__call__, Pooler.token_weights):
        unchecked = getattr(call, "__wrapped__", call)
        with pytest.raises(UsageError, match=r"Glot must be given a TokenGraph; got GraphsTuple.*"):
            unchecked(glot, cast(TokenGraph, graphs))


def test_mlp_reads_what_decides_the_size_of_the_glot_it_matches():
    read = Mlp.fields_read(PoolerConfig(pooler="mlp"))
    assert {"gnn", "hidden_dim", "heads", "edge_term"} <= read
    assert not read & {"attention_dropout", "residual", "virtual_node"}
    assert Mlp.fields_read(PoolerConfig(pooler="mlp", num_layers=0)) == {
        "num_layers",
        "jk",
        "scorer_dim",
    }


def test_an_option_that_no_layer_reads_is_refused():
    with pytest.raises(
        UsageError, match="options of GCN must be ones that it reads: none; got heads=2"
    ):
        Glot(DIM, 8, gnn="gcn", heads=2, rngs=nnx.Rngs(0))


def test_a_name_belongs_to_one_part():
    with pytest.raises(UsageError, match="must have a name of its own; got 'mean'"):
        POOLERS.register("mean")(Middle)
    assert POOLERS.register("mean")(Mean) is Mean


@pytest.mark.parametrize("name", POOLERS)
def test_every_pooler_says_what_it_reads(name):
    fields = set(PoolerConfig.__dataclass_fields__)
    assert POOLERS[name].fields_read(PoolerConfig(pooler=name)) <= fields
    for layer in GNN_LAYERS.values():
        assert layer.reads <= fields
