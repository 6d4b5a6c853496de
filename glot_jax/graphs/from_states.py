"""`token_graph`: states in hand -> their graph, without a config and without a trained part."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from glot_jax.config.train import GraphConfig
from glot_jax.errors import UsageError
from glot_jax.graphs.axes import Size
from glot_jax.graphs.eager_shapes import note_eager_shape
from glot_jax.graphs.stem import Stem
from glot_jax.graphs.token_graph import TokenGraph


def token_graph(
    hidden: ArrayLike,
    mask: ArrayLike,
    tau: float = 0.6,
    *,
    backend: str = "auto",
    graph: str = "threshold",
    k: int = 8,
    window: int = 4,
    graph_seed: int = 0,
    edge_budget: int | None = None,
) -> TokenGraph:
    """Return the token graph of a batch (paper section 3.2, step 1).

    There is an edge where cos(x_i, x_j) > tau, both tokens real.

    Args:
        hidden: token states [batch, length, dim], any float dtype; the cosine is taken from them as
            they are.
        mask: [batch, length] bool, True = real token.
        tau: threshold in [-1, 1].
        backend: "dense", "sparse", "blockwise", or "auto".
        graph: rule of the edges, a name of RULES.
        k: number of the rule knn.
        window: number of the rule window.
        graph_seed: number of the rule random.
        edge_budget: sparse only, edges the whole batch may hold.

    Raises:
        UsageError: for an unknown name, a tau outside [-1, 1], a k above the batch's length, or
            shapes that do not fit.
    """
    hidden = jnp.asarray(hidden)
    mask = jnp.asarray(mask)
    # Boolean, and not the 0 and 1 that tokenizers give: everywhere in this package a mask is.
    is_mask = mask.shape == hidden.shape[:2] and mask.dtype == bool
    if hidden.ndim != 3 or not is_mask:
        raise UsageError(
            rule="token_graph must be given hidden [batch, length, dim] and a boolean mask "
            "[batch, length]",
            got=f"hidden {hidden.shape}, mask {mask.shape} {mask.dtype}",
            fix="Use True at real tokens.",
        )
    config = GraphConfig(
        graph=graph,
        tau=tau,
        k=k,
        window=window,
        graph_seed=graph_seed,
        backend=backend,
        edge_budget=edge_budget,
    )
    require_k_within(config, mask.shape[1])
    note_eager_shape(hidden)
    # With all its optional parts off a stem has no parameter, so the seed decides nothing.
    stem = Stem(
        hidden.shape[-1],
        config=config,
        dtype=_feature_dtype(hidden),
        rngs=nnx.Rngs(0),
    )
    return stem(hidden, mask)


def require_k_within(config: GraphConfig, length: Size) -> None:
    """Refuse a k above the largest padded length.

    It would be the complete graph under another name. Shorter texts link all they have.

    Args:
        config: the rule and its k.
        length: an int, or the symbolic dimension of an export.

    Raises:
        UsageError: the rule is knn and its k is above `length`.
    """
    if config.graph == "knn" and _is_above(config.k, length):
        raise UsageError(
            rule=f"--k must be at most the longest padded text, {length} tokens",
            got=config.k,
            fix=f"Choose 1 to {length}, or --graph complete.",
        )


def _is_above(k: int, length: Size) -> bool:
    try:
        return k > length
    except jax.errors.InconclusiveDimensionOperation:
        # A symbolic length (jax.export): the rule itself says what it must be told.
        return False


def _feature_dtype(hidden: Array) -> str:
    # float16 is a format to store in: sums over tokens would overflow it.
    if hidden.dtype == jnp.float16:
        return "float32"
    return str(hidden.dtype)
