"""The attention readout: a small scorer weighs the tokens, their weighted sum is the sentence
(paper section 3.2, step 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.graphs import TokenGraph
from glot_jax.pooling.init import torch_linear
from glot_jax.pooling.project import project
from glot_jax.pooling.work import StepWork


def default_scorer_dim(width: int) -> int:
    """Return the release's width of the scorer for refined tokens of `width`."""
    return max(128, width // 2)


class AttentionReadout(nnx.Module):
    """`m_i = v . tanh(W u_i + b) + b_v`, `pi = softmax(m)` over real tokens, `z = sum_i pi_i u_i`
    (paper eq. 3).

    A token u_i comes as parts of the given widths. Their products with W are added up, never
    concatenated: the first part is usually the frozen states, and the backward pass of a
    concatenation would compute a gradient towards them.
    """

    def __init__(
        self,
        widths: Sequence[int],
        scorer_dim: int,
        *,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        width = sum(widths)
        self.widths = tuple(widths)
        self.scorer_dim = scorer_dim
        self.dtype = jnp.dtype(dtype)
        self.kernel = nnx.Param(torch_linear(rngs.params(), (width, scorer_dim), width))
        self.bias = nnx.Param(torch_linear(rngs.params(), (scorer_dim,), width))
        self.vector = nnx.Param(torch_linear(rngs.params(), (scorer_dim,), scorer_dim))
        self.vector_bias = nnx.Param(torch_linear(rngs.params(), (), scorer_dim))

    def weights(self, graph: TokenGraph, parts: Sequence[Array]) -> Float[Array, "*nodes"]:
        """Return pi, float32: a distribution over each sentence's real tokens."""
        scores = self.bias[...].astype(jnp.float32)
        # Split, not sliced: the gradient is then put together once, and not added up from padded
        # pieces.
        kernels = jax.lax.split(self.kernel[...], self.widths, axis=0)
        for part, kernel in zip(parts, kernels, strict=True):
            scores = scores + project(part, kernel, self.dtype, jnp.float32)
        # tanh in float32, then rounded: its flat ends would swallow differences in bfloat16.
        activations = jnp.tanh(scores).astype(self.dtype)
        scores = jnp.matmul(
            activations,
            self.vector[...].astype(self.dtype),
            preferred_element_type=jnp.float32,
        )
        return graph.softmax(scores + self.vector_bias[...])

    def __call__(self, graph: TokenGraph, parts: Sequence[Array]) -> Float[Array, "batch pooled"]:
        """Return z, the parts' weighted sums side by side."""
        with jax.named_scope("readout"):
            weights = self.weights(graph, parts)
            return jnp.concatenate([graph.sentence_sum(part, weights) for part in parts], axis=-1)

    def work(self, work: StepWork, *, frozen: Sequence[bool]) -> None:
        """Count the scorer's matmuls; `frozen` says of each part whether no gradient flows into
        it.
        """
        for width, is_frozen in zip(self.widths, frozen, strict=True):
            work.linear(width, self.scorer_dim, frozen=is_frozen)
