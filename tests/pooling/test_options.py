"""What is unread is what no class says it reads."""

from __future__ import annotations

import dataclasses

import pytest

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.graphs import RULES
from glot_jax.pooling import GNN_LAYERS, POOLERS
from glot_jax.pooling.options import unread_options

GRAPH = {field.name for field in dataclasses.fields(GraphConfig)} - {"own"}


@pytest.mark.parametrize("name", POOLERS)
def test_only_a_pooler_that_looks_at_edges_reads_the_graph(name):
    unread = set(unread_options(GraphConfig(), PoolerConfig(pooler=name)))
    assert (unread >= GRAPH) != POOLERS[name].uses_edges


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("gnn", GNN_LAYERS)
def test_rules_and_layers_are_asked(rule, gnn):
    unread = set(unread_options(GraphConfig(graph=rule), PoolerConfig(gnn=gnn)))
    assert not unread & (RULES[rule].reads | GNN_LAYERS[gnn].reads)
    assert ("k" in unread) == (rule != "knn")
    assert ("heads" in unread) == (gnn != "gat")


def test_nothing_is_known_of_a_part_that_is_not_registered():
    assert unread_options(GraphConfig(), PoolerConfig(pooler="of-a-plugin")) == {}
