"""The least time a step can take on this machine: its unavoidable products and bytes over what was
measured here.

`floor = sum over matmuls of flops / (rate of a 4096-cubed matmul of that dtype) + bytes / (copy
bandwidth)`, the bytes being the states, read once, and Adam's traffic. Products towards frozen
states are not in it, the whole Gram matrix is; nor are exponentials, masks, softmaxes and anything
else that a perfect compiler would hide behind the products.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from glot_jax.config.train import GraphConfig, PoolerConfig

FULL = "float32 at full precision"
"""Key of float32 products that may not be rounded to TensorFloat-32, as GPUs do by default: the
cosine's.
"""


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """What this machine reached in this process."""

    flops: dict[str, float]
    """Dtype, or FULL, -> floating-point operations per second of a 4096-cubed matmul."""
    bandwidth: float
    """Bytes per second, read and written, of a copy of 256 MiB."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What one step cannot do without."""

    flops: dict[str, float]
    """Dtype -> floating-point operations of its matmuls."""
    bytes: float

    def seconds(self, ceilings: Ceilings) -> float:
        return (
            sum(flops / ceilings.flops[dtype] for dtype, flops in self.flops.items())
            + self.bytes / ceilings.bandwidth
        )


def work_of(
    graph: GraphConfig,
    pooler: PoolerConfig,
    *,
    dim: int,
    lengths: Sequence[int] | np.ndarray,
    states_dtype: str,
    parameters: int,
    train: bool,
) -> Work:
    """Work on texts of these real lengths [texts]; padding is no work.

    Args:
        graph, pooler: settings of the head; an mlp's hidden_dim is its own, not that of the glot it
            stands in for.
        dim: width of the states.
        lengths: real tokens of each text of the step.
        states_dtype: dtype of the states, in which the Gram matrix is taken.
        parameters: trained numbers, head of the task included.
        train: a training step; else one forward pass.
    """
    lengths = np.asarray(lengths, np.float64)
    tokens, pairs = lengths.sum(), np.square(lengths).sum()
    products = _Products(tokens, pairs, train)
    width, vectors = dim, 0.0
    if pooler.projection_dim:
        products.linear(dim, pooler.projection_dim, frozen=True)
        width = pooler.projection_dim
    if pooler.pooler in ("glot", "mlp"):
        _gnn(products, pooler, width, frozen=not pooler.projection_dim)
    elif pooler.pooler == "adapool":
        products.linear(width, pooler.scorer_dim or 128, frozen=not pooler.projection_dim)
    elif pooler.pooler == "adapool-attention":
        # Per text: W_q (of a mean of frozen states), W_k, W_v and W_o; per token and head: one
        # product to ask, one to add up.
        once = 11 + bool(pooler.projection_dim) if train else 4
        vectors = len(lengths) * 2 * width * width * once
        products.total += (
            (2 if not train else 6 if pooler.projection_dim else 4)
            * 2
            * tokens
            * width
            * pooler.heads
        )
    flops = {pooler.dtype: products.total}
    if vectors:
        flops["float32"] = flops.get("float32", 0.0) + vectors
    if (
        pooler.pooler == "glot"
        and pooler.num_layers
        and graph.graph in ("threshold", "knn", "random")
    ):
        kind = FULL if states_dtype == "float32" else states_dtype
        flops[kind] = flops.get(kind, 0.0) + 2 * pairs * dim
    size = tokens * dim * jnp.dtype(states_dtype).itemsize
    # Adam reads parameter, gradient and two moments, and writes parameter and moments.
    return Work(flops, size + (7 * 4 * parameters if train else 4 * parameters))


class _Products:
    """Adds up matmuls: one forward, one towards the parameters, one towards the input unless that
    is frozen.
    """

    def __init__(self, tokens: float, pairs: float, train: bool):
        self.tokens, self.pairs, self.train, self.total = tokens, pairs, train, 0.0

    def linear(self, inputs: int, outputs: int, *, frozen: bool = False) -> None:
        self.total += (
            (1 if not self.train else 2 if frozen else 3) * 2 * self.tokens * inputs * outputs
        )

    def mix(self, width: int, *, weighted: bool) -> None:
        """Neighbours' values added up; attention also has weights, towards which a product leads
        back.
        """
        self.total += (1 if not self.train else 3 if weighted else 2) * 2 * self.pairs * width


_LINEARS: Mapping[str, int] = {"gat": 1, "gcn": 1, "gin": 1, "gine": 1, "sage": 2}


def _gnn(products: _Products, pooler: PoolerConfig, width: int, frozen: bool) -> None:
    hidden, glot = pooler.hidden_dim, pooler.pooler == "glot"
    for layer in range(pooler.num_layers):
        inputs, still = (width, frozen) if layer == 0 else (hidden, False)
        for _ in range(_LINEARS[pooler.gnn] if glot else 1):
            # GINE's own edge term lies below its first product, so something is learned on that
            # side.
            products.linear(inputs, hidden, frozen=still and not (glot and pooler.gnn == "gine"))
        if glot:
            if pooler.gnn in ("gin", "gine"):
                products.linear(hidden, hidden)
            # GINE adds up before its product, over the width that comes in; from frozen states
            # nothing flows back but to its edge term.
            products.mix(inputs if pooler.gnn == "gine" else hidden, weighted=pooler.gnn == "gat")
            if pooler.residual and inputs != hidden:
                products.linear(inputs, hidden, frozen=still)
    parts = {"cat": [width] + [hidden] * pooler.num_layers}.get(
        pooler.jk, [hidden if pooler.num_layers else width]
    )
    scorer = pooler.scorer_dim or max(128, sum(parts) // 2)
    for index, part in enumerate(parts):
        products.linear(
            part,
            scorer,
            frozen=frozen
            and index == 0
            and part == width
            and (pooler.jk == "cat" or not pooler.num_layers),
        )
