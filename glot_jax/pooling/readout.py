"""The attention readout (paper section 3.2, step 3).

A small scorer weighs the tokens, their weighted sum is the sentence.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from glot_jax.graphs import TokenGraph
from glot_jax.graphs.axes import match_rank
from glot_jax.pooling.init import linear_param
from glot_jax.pooling.project import project
from glot_jax.pooling.work import StepWork


def default_scorer_dim(width: int) -> int:
    """Return the release's width of the scorer for refined tokens of `width`."""
    return max(128, width // 2)


class AttentionReadout(nnx.Module):
    """The readout of paper eq. 3.

    `m_i = v . tanh(W u_i + b) + b_v`, `pi = softmax(m)` over real tokens, `z = sum_i pi_i u_i`.

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
        # One kernel for all parts: its initialiser's bound is that of the whole width.
        width = sum(widths)
        self.widths = tuple(widths)
        self.scorer_dim = scorer_dim
        self.dtype = jnp.dtype(dtype)
        self.kernel = linear_param(rngs, (width, scorer_dim), width)
        self.bias = linear_param(rngs, (scorer_dim,), width)
        self.vector = linear_param(rngs, (scorer_dim,), scorer_dim)
        self.vector_bias = linear_param(rngs, (), scorer_dim)

    def weights(self, graph: TokenGraph, parts: Sequence[Array]) -> Float[Array, "*nodes"]:
        """Return pi, float32: a distribution over each sentence's real tokens."""
        scores = self.bias[...].astype(jnp.float32)
        # Split, not sliced: the gradient is then put together once, and not added up from padded
        # pieces.
        kernels = jax.lax.split(self.kernel[...], self.widths, axis=0)
        for part, kernel in zip(parts, kernels, strict=True):
            product = project(part, kernel, self.dtype, jnp.float32)
            # The first sum is of a vector and a matrix.
            scores = match_rank(scores, product) + product
        # tanh in float32, then rounded: its flat ends would swallow differences in bfloat16.
        activations = jnp.tanh(scores)
        activations = activations.astype(self.dtype)
        vector = self.vector[...].astype(self.dtype)
        scores = jnp.matmul(
            activations,
            vector,
            preferred_element_type=jnp.float32,
        )
        # b_v moves all scores alike, which no softmax sees: the paper's scorer has it.
        return graph.softmax(scores + self.vector_bias[...])

    def __call__(self, graph: TokenGraph, parts: Sequence[Array]) -> Float[Array, "batch pooled"]:
        """Return z, the parts' weighted sums side by side."""
        with jax.named_scope("readout"):
            weights = self.weights(graph, parts)
            # Summed first: what is concatenated is one vector a sentence, not one a token.
            sums = [graph.sentence_sum(part, weights) for part in parts]
            return jnp.concatenate(sums, axis=-1)

    def work(self, work: StepWork, *, frozen: Sequence[bool]) -> None:
        """Count the scorer's matmuls.

        Args:
            work: where to count.
            frozen: of each part, whether no gradient flows into it.
        """
        for width, is_frozen in zip(self.widths, frozen, strict=True):
            work.linear(width, self.scorer_dim, frozen=is_frozen)
