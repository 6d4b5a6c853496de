"""The ways to compute a token graph, and the choice among them."""

from __future__ import annotations

from typing import Protocol

import jax
from jaxtyping import Array

from glot_jax.graphs.axes import Size
from glot_jax.graphs.blockwise import blockwise_graph
from glot_jax.graphs.dense import dense_graph
from glot_jax.graphs.linking import Linking
from glot_jax.graphs.sparse import sparse_graph
from glot_jax.graphs.token_graph import TokenGraph


class Backend(Protocol):
    """A function that links a batch by its rule; see `dense_graph` for its arguments."""

    def __call__(
        self,
        linking: Linking,
        nodes: Array,
        *,
        edge_budget: int | None = None,
        temperature: Array | None = None,
    ) -> TokenGraph:
        """Return the graph of a batch."""
        ...


BACKENDS: dict[str, Backend] = {
    "dense": dense_graph,
    "sparse": sparse_graph,
    "blockwise": blockwise_graph,
}
"""The three ways to compute one and the same graph."""

DENSE_PAIRS = 1 << 26
"""Pairs of tokens (texts x length²) of a batch up to which dense is taken: 4 texts of 4,096 tokens.
On two EPYC cores, 16,384 tokens a batch, dense's training step is 1.2 times as fast as blockwise's
at 2,048 tokens, and blockwise's 1.15 to 1.2 times as fast at 8,192, at dim 384, 768 and 4096
(benchmarks/head.py). On a Xeon an earlier blockwise was behind up to 8,192. Dense's memory here is
0.9 GB against 0.2 GB."""


def auto_graph(
    linking: Linking,
    nodes: Array,
    *,
    edge_budget: int | None = None,
    temperature: Array | None = None,
) -> TokenGraph:
    """Link a batch on the backend that fits its shape.

    Sparse where a budget of edges was measured to be small enough (by the trainer, from the store's
    density), dense for short texts and soft edges, blockwise for long ones. A symbolic shape
    (jax.export) that may be short or long is computed densely.
    """
    backend: Backend = dense_graph
    # The other two backends hold no weights of edges, and see no sentence whole.
    if temperature is None and linking.control is None:
        # Here a budget is a measurement: the stem passes none of the config to "auto".
        if edge_budget is not None:
            backend = sparse_graph
        elif _is_long(*linking.mask.shape):
            backend = blockwise_graph
    return backend(
        linking,
        nodes,
        edge_budget=edge_budget,
        temperature=temperature,
    )


def _is_long(batch: Size, length: Size) -> bool:
    """Tell whether a batch has more pairs than dense is taken for."""
    try:
        return batch * length**2 > DENSE_PAIRS
    except jax.errors.InconclusiveDimensionOperation:
        # Blockwise must know its shape as numbers, so what is undecided is dense.
        return False


# "auto" is no backend of its own: tests that compare all backends go through BACKENDS.
SELECTABLE: dict[str, Backend] = {**BACKENDS, "auto": auto_graph}
"""What `--backend` may name."""
