"""The graph's share of the time of one text (paper Table 10).

Graph construction, backbone and head are timed apart.

Every call is waited for, so a time is what one batch takes and not the reciprocal of a throughput.
States and masks lie on the device when the clock starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.graphs import Stem, TokenGraph
from glot_jax.graphs.from_states import require_k_within
from glot_jax.profiling import frozen_backbone
from glot_jax.profiling.frozen_backbone import load_per_core, ms_text, timing_text
from glot_jax.profiling.pooler_cost import head_cost
from glot_jax.profiling.timing import Timing, time_latency
from glot_jax.reporting.tables import Column, Table, table_console
from glot_jax.xla.cpu_options import compiled


@dataclasses.dataclass(frozen=True)
class GraphCost:
    """Times of one text of one length."""

    backbone: str
    load_per_core: float
    """One-minute average before the backbone was loaded."""
    length: int
    """In tokens."""
    repeats: int
    graph: Timing
    """Construction of the graph alone."""
    forward: Timing
    """The backbone's forward pass."""
    head: Timing
    """GLOT's defaults, on a graph that was built before."""

    @property
    def total_ms(self) -> float:
        """Sum of the medians."""
        return self.graph.median_ms + self.forward.median_ms + self.head.median_ms

    @property
    def overhead_percent(self) -> float:
        """Share of the graph in the total."""
        return 100 * self.graph.median_ms / self.total_ms

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; spreads are quartiles [25 %, 75 %]."""
        return {
            "backbone": self.backbone,
            "load_per_core": self.load_per_core,
            "length": self.length,
            "repeats": self.repeats,
            "graph_ms": self.graph.median_ms,
            "forward_ms": self.forward.median_ms,
            "head_ms": self.head.median_ms,
            "graph_spread_ms": list(self.graph.spread_ms),
            "forward_spread_ms": list(self.forward.spread_ms),
            "head_spread_ms": list(self.head.spread_ms),
            "total_ms": self.total_ms,
            "overhead_percent": self.overhead_percent,
        }


def run_graph_cost(
    backbone: str = "minilm",
    lengths: Sequence[int] = (128, 512),
    repeats: int = 20,
    *,
    seed: int = 0,
) -> list[GraphCost]:
    """Time one text of each length and print the times as a table.

    Backbone, graph construction and GLOT's head are timed apart.

    Args:
        backbone: name on the Hub or a local folder.
        lengths: in tokens.
        repeats: measurements of each time.
        seed: of the random texts.

    Raises:
        UsageError: a length beyond the backbone's positions, or a backbone that cannot be run.
    """
    # Before the backbone is loaded: loading is work of our own.
    load = load_per_core()
    frozen = frozen_backbone.load_frozen(backbone, lengths, repeats)
    costs = []
    for length in lengths:
        ids = frozen_backbone.random_texts(frozen, 1, length, seed)
        # Apart, not end to end: the table is about shares.
        forward = frozen_backbone.time_forward(frozen, ids, repeats)
        states = frozen_backbone.states_of(frozen, ids)
        graph = graph_cost(states.hidden, states.mask, GraphConfig(), repeats)
        # GLOT's defaults: the paper's table has no other head.
        head = head_cost(
            states.hidden,
            states.mask,
            GraphConfig(),
            PoolerConfig(),
            repeats,
            kind=frozen.kind,
        )
        cost = GraphCost(
            backbone=frozen.source.name,
            load_per_core=load,
            length=length,
            repeats=repeats,
            graph=graph,
            forward=forward,
            head=head,
        )
        costs.append(cost)
    table = Table.by_columns(_COLUMNS, costs, f"load per core before: {load:.2f}")
    title = f"Time of one text, {frozen.source.name}; ms, median (25–75 %) of {repeats}"
    table_console().print(table.to_console(title))
    return costs


def graph_cost(
    hidden: ArrayLike,
    mask: ArrayLike,
    graph: GraphConfig,
    repeats: int = 20,
) -> Timing:
    """Time the construction of the graph and nothing else: cosines, rule, edges.

    Paper Table 10, "Graph Const.".

    Args:
        hidden: states [batch, length, dim] of any float dtype.
        mask: [batch, length] bool, True at real tokens.
        graph: its rule and backend; `auto` is dense or blockwise, by the shape, since nobody counts
            edges here.
        repeats: measurements.

    Raises:
        UsageError: unknown names, or a k above the length.
    """
    hidden = jnp.asarray(hidden)
    mask = jnp.asarray(mask)
    # Before tracing, where the error would come out of a compiled function.
    require_k_within(graph, mask.shape[1])
    stem = Stem(hidden.shape[-1], config=graph, rngs=nnx.Rngs(0))

    # The nodes are left out of the results, or their copy would be timed too.
    def edges(hidden: jax.Array, mask: jax.Array) -> list[jax.Array]:
        return edges_of(stem(hidden, mask))

    texts, length = mask.shape
    lowered = jax.jit(edges).lower(hidden, mask)
    build = compiled(lowered, (texts, length))
    return time_latency(lambda: build(hidden, mask), repeats)


def edges_of(graph: TokenGraph) -> list[jax.Array]:
    """Every array of a graph but its nodes.

    Dense has the adjacency among them, blockwise its bits, sparse the lists of edges.
    """
    # Found by identity, because every kind of graph has other fields.
    return [leaf for leaf in jax.tree.leaves(graph) if leaf is not graph.nodes]


_COLUMNS: list[Column[GraphCost]] = [
    Column("tokens", lambda cost: f"{cost.length:,}", align="left"),
    Column("graph", lambda cost: timing_text(cost.graph)),
    Column("backbone forward", lambda cost: timing_text(cost.forward)),
    Column("head", lambda cost: timing_text(cost.head)),
    Column("total", lambda cost: ms_text(cost.total_ms)),
    Column("graph / total", lambda cost: f"{cost.overhead_percent:.2f} %"),
]
