"""The cosine of raw token states (paper section 3.2, step 1), safe from overflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, Shaped

from glot_jax.moved import moved_name

_Built = TypeVar("_Built")

_SMALLEST_ORDINARY = 2.0**-50
_LARGEST_ORDINARY = 2.0**50
"""Squares of norms between which a product of two states, and every entry of it that counts, is a
normal float32.
"""


class Tokens(NamedTuple):
    """Real and padding tokens of whole sentences, or of a block of their rows, ready to be
    linked.
    """

    states: Shaped[Array, "*batch length dim"]
    """Scaled by powers of two so that neither norm nor dot product overflows; float16 as stored."""
    inverse_norm: Float[Array, "*batch length"]
    """Turns a dot product of `states` into a cosine."""
    mask: Bool[Array, "*batch length"]
    """True at real tokens."""
    rank: Int32[Array, "*batch length"]
    """Real tokens before this one."""
    nonzero: Bool[Array, "*batch length"]
    """Not the zero vector."""

    def pad_rows(self, count: Any) -> Tokens:
        """Append `count` padding tokens to every sentence."""
        return Tokens(*(pad_axis(field, count, axis=1) for field in self))


def pad_axis(
    values: Array,
    count: Any,
    axis: int,
    fill: Any = 0,
) -> Array:
    """Append `count` entries of `fill` along `axis`."""
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, count)
    return jnp.pad(values, widths, constant_values=fill)


def scale_of(hidden: Float[Array, "*batch dim"]) -> Float[Array, "*batch 1"]:
    """Return the power of two just above a token's largest entry (1 for a zero vector): dividing by
    it is exact.
    """
    largest = jnp.max(jnp.abs(hidden.astype(jnp.float32)), axis=-1, keepdims=True)
    _, exponent = jnp.frexp(largest)
    # 2^127 and beyond are no float32, although quotients by them are.
    power = jnp.ldexp(jnp.float32(1), jnp.clip(exponent, -126, 126))
    return jnp.where(largest > 0, power, 1.0)


def tokens_of(
    hidden: Shaped[Array, "*batch length dim"], mask: Bool[Array, "*batch length"]
) -> Tokens:
    """Make states ready to be linked. No gradient flows: the graph is a constant of the head."""
    hidden = jax.lax.stop_gradient(hidden)
    if hidden.dtype != jnp.float16:
        scaled = hidden.astype(jnp.float32) / scale_of(hidden)
        hidden = scaled.astype(hidden.dtype)
    # Scaled, the largest entry's square is .25 or more (float16's least: 3.6e-15), so only a zero
    # vector has norm 0.
    return _tokens(hidden, mask, _square_of_norm(hidden))


def with_tokens(
    build: Callable[[Tokens], _Built],
    hidden: Shaped[Array, "*batch length dim"],
    mask: Bool[Array, "*batch length"],
    *,
    compares_states: bool,
) -> _Built:
    """Return `build(tokens_of(hidden, mask))`, on a CPU without a scaled copy of the states
    wherever no token needs one.

    A power of two changes no digit: while neither squares nor products leave the range of float32,
    scaled and plain states have the same cosines.

    Args:
        build: what makes edges of the tokens.
        hidden: raw states.
        mask: True at real tokens.
        compares_states: False if `build` looks at no state: then there is nothing to choose.
    """

    def scaled(hidden: Array, mask: Array) -> _Built:
        return build(tokens_of(hidden, mask))

    def plain_where_possible(hidden: Array, mask: Array) -> _Built:
        square = _square_of_norm(hidden)
        is_ordinary = (square > _SMALLEST_ORDINARY) & (square < _LARGEST_ORDINARY)
        return jax.lax.cond(
            jnp.all(~mask | is_ordinary),
            lambda: build(_tokens(hidden, mask, square)),
            lambda: scaled(hidden, mask),
        )

    hidden = jax.lax.stop_gradient(hidden)
    # float16 squares never leave float32's range, so nothing is scaled and nothing saved.
    if hidden.dtype == jnp.float16 or not compares_states:
        return scaled(hidden, mask)
    # On a GPU states are scaled always: a branch there waits for the host.
    return jax.lax.platform_dependent(
        hidden,
        mask,
        cpu=plain_where_possible,
        default=scaled,
    )


def _square_of_norm(hidden: Array) -> Array:
    return jnp.sum(jnp.square(hidden.astype(jnp.float32)), axis=-1)


def _tokens(hidden: Array, mask: Array, square: Array) -> Tokens:
    norm = jnp.sqrt(square)
    rank = jnp.cumsum(mask, axis=-1, dtype=jnp.int32) - 1
    return Tokens(
        hidden,
        1.0 / jnp.maximum(norm, 1e-8),
        mask,
        rank,
        norm > 0,
    )


def similarity(rows: Tokens, columns: Tokens) -> Float[Array, "*batch rows length"]:
    """Return the cosines in float32, from states as stored: products of 16-bit entries are exact in
    a float32 accumulator.
    """
    products = jnp.einsum(
        "...id,...jd->...ij",
        rows.states,
        columns.states,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    return products * rows.inverse_norm[..., :, None] * columns.inverse_norm[..., None, :]


_MOVED = {
    "BLOCK_PAIRS": "graphs.linking",
    "Pairs": "graphs.rules",
    "RULES": "graphs.rules",
    "Sentences": "graphs.rules",
    "count_edges": "graphs.linking",
    "pairs_of": "graphs.linking",
}
"""Name of 0.1 -> module of today."""


def __getattr__(name: str) -> object:
    """Answer for names that have moved, for one release."""
    return moved_name(__name__, name, _MOVED)
