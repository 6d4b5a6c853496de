"""Vectors of a text without one token at a time, computed in batches of masks.

A token is taken out before the graph is built: nothing listens to it, and the readout gives it no
weight. Its influence on the states of the others, inside the backbone, stays.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from glot_jax.batches.padded_lengths import padded_length
from glot_jax.graphs.similarity import tokens_of
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.model import SentenceModel
from glot_jax.xla.cpu_options import compiled

_ROWS = 32
"""Masks of one batch."""


@dataclasses.dataclass(frozen=True)
class LookedAt:
    """What the pooling of one text looks like from inside."""

    weights: Float[np.ndarray, " tokens"]
    links: Bool[np.ndarray, "tokens tokens"]
    compared: Float[np.ndarray, "tokens dim"]
    """States whose cosines decide the links."""


class MaskedPooling:
    """Vectors of texts from which tokens are taken out, by the model of an encoder.

    Args:
        encoder: whose model pools. Its choice of tokens is made by the caller: what is given here
            takes part.
    """

    def __init__(self, encoder: SentenceEncoder):
        # A snapshot: what is trained on afterwards is not explained.
        self._graphdef, self._params = nnx.split(encoder.model)
        self._dim = encoder.dim
        self._executables: dict[tuple[Any, ...], Any] = {}
        self.compilations = 0

    def vectors(
        self, states: np.ndarray, masks: Bool[np.ndarray, "variants tokens"]
    ) -> Float[np.ndarray, "variants dim"]:
        """The vector of a text under each mask; zeros where a mask leaves no token.

        Args:
            states: [tokens, dim], or [tokens, layers, dim] where layers are mixed.
            masks: True at the tokens that stay.
        """
        vectors = np.zeros((len(masks), self._dim), np.float32)
        # As for a text without a token: nothing is pooled of nothing.
        rows = np.flatnonzero(masks.any(axis=1))
        hidden = _padded(states)
        length = hidden.shape[1]
        for first in range(0, len(rows), _ROWS):
            chosen = rows[first : first + _ROWS]
            # The last batch is filled up, so that it needs no program of its own.
            batch = np.zeros((_ROWS, length), bool)
            batch[: len(chosen), : masks.shape[1]] = masks[chosen]
            pooled = self._run(_vectors, hidden, batch)
            vectors[chosen] = np.asarray(pooled)[: len(chosen)]
        return vectors

    def look(self, states: np.ndarray) -> LookedAt:
        """Weights and links of a text of at least one token."""
        count = len(states)
        hidden = _padded(states)
        mask = np.zeros((1, hidden.shape[1]), bool)
        mask[0, :count] = True
        weights, links, compared = self._run(_look, hidden, mask)
        return LookedAt(
            np.asarray(weights, np.float64)[0, :count],
            np.asarray(links)[0, :count, :count],
            np.asarray(compared, np.float64)[0, :count],
        )

    def _run(self, program: Any, hidden: np.ndarray, mask: np.ndarray) -> Any:  # noqa: ANN401
        # Not left to jit, so that programs are counted and compiled with our options.
        key = (program, hidden.shape, str(hidden.dtype))
        if key not in self._executables:
            # Bound, not passed: a graph definition is no array.
            jitted = jax.jit(functools.partial(program, self._graphdef))
            lowered = jitted.lower(self._params, hidden, mask)
            self._executables[key] = compiled(lowered, (len(mask), mask.shape[1]))
            self.compilations += 1
        return self._executables[key](self._params, hidden, mask)


def _padded(states: np.ndarray) -> np.ndarray:
    """The states as a batch of one, at a length that few programs cover."""
    widths = [(0, 0)] * states.ndim
    widths[0] = (0, padded_length(len(states)) - len(states))
    return np.pad(states, widths)[None]


def _vectors(
    graphdef: nnx.GraphDef[SentenceModel],
    params: nnx.State,
    hidden: Array,
    masks: Array,
) -> Array:
    model = nnx.merge(graphdef, params)
    # One text under many masks: it is sent to the device once.
    repeated = jnp.broadcast_to(hidden, (len(masks), *hidden.shape[1:]))
    graph = model.stem.linked(repeated, masks)
    return model.vectors(graph)


def _look(
    graphdef: nnx.GraphDef[SentenceModel],
    params: nnx.State,
    hidden: Array,
    mask: Array,
) -> tuple[Array, Array, Array]:
    model = nnx.merge(graphdef, params)
    graph = model.stem.linked(hidden, mask)
    weights = model.pooler.token_weights(graph)
    linking = model.stem.linking(hidden, mask)
    # From the rule itself: a pooler that reads no edges has a graph of loops alone.
    tokens = tokens_of(linking.hidden, linking.mask)
    sentences = linking.sentences(tokens)
    links = linking.link(tokens, tokens, sentences)
    links = linking.controlled(links, tokens)
    return weights, links, linking.hidden.astype(jnp.float32)
