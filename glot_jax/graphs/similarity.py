"""Which tokens are linked: the cosine of raw states and the rules that read it (paper section 3.2, step 1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Shaped


class Pairs(NamedTuple):
    """What a rule may look at, for `rows` receiving tokens i against all `length` sending tokens j of a sentence.

    A rule that ignores a field costs nothing: the compiler drops what computes it.
    """

    similarity: Float[Array, "*batch rows length"]
    """cos(x_i, x_j), float32; 0 where either state is the zero vector."""
    diagonal: Bool[Array, "*batch rows length"]
    """i is j."""
    nonzero: Bool[Array, "*batch rows length"]
    """Neither x_i nor x_j is the zero vector."""


def threshold(pairs: Pairs, tau: float) -> Bool[Array, "*batch rows length"]:
    """S_ij > tau, strictly; a non-zero token is linked to itself by definition, a zero vector to nothing."""
    if tau >= 1:
        return jnp.zeros_like(pairs.diagonal)  # a rounded cosine of 1.0000001 must not pass
    return ((pairs.similarity > tau) | pairs.diagonal) & pairs.nonzero


def self_only(pairs: Pairs, tau: float) -> Bool[Array, "*batch rows length"]:
    """Control: every token sees itself alone, so the graph adds nothing."""
    return pairs.diagonal


def complete(pairs: Pairs, tau: float) -> Bool[Array, "*batch rows length"]:
    """Control: every token sees every token of its sentence, so the similarities add nothing."""
    return jnp.ones_like(pairs.diagonal)


Rule = Callable[[Pairs, float], Array]
RULES: dict[str, Rule] = {"threshold": threshold, "self": self_only, "complete": complete}


def scale_of(hidden: Float[Array, "*batch dim"]) -> Float[Array, "*batch 1"]:
    """The power of two just above a token's largest entry (1 for a zero vector): dividing by it is exact."""
    largest = jnp.max(jnp.abs(hidden.astype(jnp.float32)), axis=-1, keepdims=True)
    _, exponent = jnp.frexp(largest)
    # Two factors, because 2^127 and beyond are no float32 although their quotients are.
    return jnp.where(largest > 0, jnp.ldexp(jnp.float32(1), jnp.clip(exponent, -126, 126)), 1.0)


class Directions(NamedTuple):
    """States ready for a dot product, and the factor that turns it into a cosine."""

    states: Shaped[Array, "*batch length dim"]
    inverse_norm: Float[Array, "*batch length"]


def directions(hidden: Shaped[Array, "*batch length dim"]) -> Directions:
    """Scale states so that neither norm nor dot product overflows; 16-bit floats of range 65504 stay as stored.

    No gradient flows: the graph is a constant of the head (a hard rule has none).
    """
    hidden = jax.lax.stop_gradient(hidden)
    if hidden.dtype != jnp.float16:
        scaled = hidden.astype(jnp.float32) / scale_of(hidden)
        hidden = scaled.astype(hidden.dtype)
    norm = jnp.sqrt(jnp.sum(jnp.square(hidden.astype(jnp.float32)), axis=-1))
    return Directions(hidden, 1.0 / jnp.maximum(norm, 1e-8))


def similarity(
    rows: Directions, columns: Directions
) -> Float[Array, "*batch rows length"]:
    """cos(x_i, x_j) in float32 from states as stored: products of 16-bit entries are exact in a float32 accumulator."""
    products = jnp.einsum(
        "...id,...jd->...ij", rows.states, columns.states,
        precision=jax.lax.Precision.HIGHEST, preferred_element_type=jnp.float32,
    )
    return products * rows.inverse_norm[..., :, None] * columns.inverse_norm[..., None, :]


def link(
    rows: Directions,
    columns: Directions,
    row_mask: Bool[Array, "*batch rows"],
    column_mask: Bool[Array, "*batch length"],
    first_row: Array | int,
    rule: Rule,
    tau: float,
) -> Bool[Array, "*batch rows length"]:
    """Edges j -> i of a block of receiving tokens `first_row + i`, between real tokens only."""
    row_count, length = row_mask.shape[-1], column_mask.shape[-1]
    position = first_row + jnp.arange(row_count)
    diagonal = jnp.broadcast_to(position[:, None] == jnp.arange(length), (*row_mask.shape, length))
    nonzero = jnp.any(rows.states != 0, axis=-1)[..., :, None] & jnp.any(columns.states != 0, axis=-1)[..., None, :]
    allowed = rule(Pairs(similarity(rows, columns), diagonal, nonzero), tau)
    return allowed & row_mask[..., :, None] & column_mask[..., None, :]
