"""Which settings of graph and pooler a head reads, by what their classes say."""

from __future__ import annotations

import dataclasses
from typing import Any

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.graphs import RULES
from glot_jax.pooling.layers import GNN_LAYERS
from glot_jax.pooling.pooler import POOLERS

_EVERY_HEAD = frozenset(
    {"pooler", "projection_dim", "token_norm", "standardise", "dropout", "dtype", "own"}
)
"""Fields of PoolerConfig that the stem reads, that choose the pooler, or that hold options of a
plugin, of which only those of the chosen parts are kept.
"""


def unread_options(graph: GraphConfig, pooler: PoolerConfig) -> dict[str, Any]:
    """Return the options that a head of these settings does not read, with their values.

    They are GLOT's own with another pooler, and the like. Of a pooler, layer or rule that is not
    registered nothing is known, so nothing is unread.
    """
    # The plugin that registers it may be missing here.
    if pooler.pooler not in POOLERS:
        return {}
    if pooler.gnn not in GNN_LAYERS or graph.graph not in RULES:
        return {}
    pooler_class = POOLERS[pooler.pooler]
    read = _EVERY_HEAD | pooler_class.fields_read(pooler)
    # Where no edge is looked at, nothing that decides the edges is.
    if pooler_class.reads_edges(pooler):
        read |= _graph_fields_read(graph)
    values = {**dataclasses.asdict(graph), **dataclasses.asdict(pooler)}
    return {name: value for name, value in values.items() if name not in read}


def _graph_fields_read(graph: GraphConfig) -> frozenset[str]:
    """Return the GraphConfig fields that decide the edges and how they are computed."""
    # Which rule and which backend always matter where edges are read.
    read = RULES[graph.graph].reads | {"graph", "backend", "control"}
    if graph.control != "none":
        read |= {"graph_seed"}
    if graph.learn_tau:
        read |= {"temperature"}
    # "auto" takes the sparse backend where a budget was measured to be small.
    if graph.backend in ("auto", "sparse"):
        read |= {"edge_budget"}
    return read
