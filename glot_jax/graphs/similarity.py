"""The cosine of raw token states (paper section 3.2, step 1), safe from overflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32, Shaped

from glot_jax.graphs.axes import Size
from glot_jax.moved import moved_name

_Built = TypeVar("_Built")

_SMALLEST_ORDINARY = 2.0**-50
_LARGEST_ORDINARY = 2.0**50
"""Squares of norms between which a product of two states, and every entry of it that counts, is a
normal float32.
"""


class Tokens(NamedTuple):
    """Real and padding tokens of whole sentences, or of a block of their rows.

    They are ready to be linked.
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

    def pad_rows(self, count: Size) -> Tokens:
        """Append `count` padding tokens to every sentence."""
        # Zeros are right for every field: a token that is masked, and the zero vector.
        return Tokens(*(pad_axis(field, count, axis=1) for field in self))


def pad_axis(
    values: Array,
    count: Size,
    axis: int,
    fill: Size = 0,
) -> Array:
    """Append `count` entries of `fill` along `axis`."""
    # What is padded goes to the end alone: the index of an entry stays what it was.
    widths = [(0, 0)] * values.ndim
    widths[axis] = (0, count)
    return jnp.pad(values, widths, constant_values=fill)


def scale_of(hidden: Float[Array, "*batch dim"]) -> Float[Array, "*batch 1"]:
    """Return the power of two just above a token's largest entry; 1 for a zero vector.

    Dividing by it is exact.
    """
    sizes = jnp.abs(hidden.astype(jnp.float32))
    largest = jnp.max(sizes, axis=-1, keepdims=True)
    # The mantissa is in [0.5, 1), so 2^exponent is just above.
    _, exponent = jnp.frexp(largest)
    # 2^127 and beyond are no float32, although quotients by them are.
    within = jnp.clip(exponent, -126, 126)
    power = jnp.ldexp(jnp.float32(1), within)
    return jnp.where(largest > 0, power, 1.0)


def tokens_of(
    hidden: Shaped[Array, "*batch length dim"],
    mask: Bool[Array, "*batch length"],
) -> Tokens:
    """Make states ready to be linked. No gradient flows: the graph is a constant of the head."""
    hidden = jax.lax.stop_gradient(hidden)
    if hidden.dtype != jnp.float16:
        exact = hidden.astype(jnp.float32)
        scaled = exact / scale_of(hidden)
        # As stored: 16-bit states stay 16 bits wide, and a power of two has changed no digit.
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
    """Return `build(tokens_of(hidden, mask))`.

    On a CPU there is no scaled copy of the states wherever no token needs one. A power of two
    changes no digit: while neither squares nor products leave the range of float32, scaled and
    plain states have the same cosines.

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
        # Of padding any finite value goes: its pairs are masked.
        needs_none = jnp.all(~mask | is_ordinary)
        # `cond` takes one boolean: a single token that needs it has the whole batch scaled.
        return jax.lax.cond(
            needs_none,
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
    # In float32 before squaring: the square of a float16 above 255 is infinite in float16.
    squares = jnp.square(hidden.astype(jnp.float32))
    return jnp.sum(squares, axis=-1)


def _tokens(
    hidden: Array,
    mask: Array,
    square: Array,
) -> Tokens:
    norm = jnp.sqrt(square)
    # A zero vector's products are 0, and so are its cosines: the floor only keeps 1 / 0 away.
    inverse_norm = 1.0 / jnp.maximum(norm, 1e-8)
    count = jnp.cumsum(mask, axis=-1, dtype=jnp.int32)
    return Tokens(
        hidden,
        inverse_norm,
        mask,
        rank=count - 1,
        nonzero=norm > 0,
    )


def similarity(
    rows: Tokens,
    columns: Tokens,
) -> Float[Array, "*batch rows length"]:
    """Return the cosines in float32, from states as stored.

    Products of 16-bit entries are exact in a float32 accumulator.
    """
    # At full precision: a GPU multiplies float32 as TensorFloat-32 unless told not to, and cosines
    # near tau would fall on the other side of it.
    products = jnp.einsum(
        "...id,...jd->...ij",
        rows.states,
        columns.states,
        precision=jax.lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    # Norms are divided out behind the product: states that were normalised before it would have
    # been rounded to 16 bits once more.
    by_row = rows.inverse_norm[..., :, None]
    by_column = columns.inverse_norm[..., None, :]
    return products * by_row * by_column


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
