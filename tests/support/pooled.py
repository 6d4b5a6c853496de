"""Poolers against formulas in float64, over sentences of several lengths, one of them empty."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from glot_jax.graphs import TokenGraph, token_graph
from glot_jax.pooling import Pooler
from support.token_states import pad, sentences

DIM = 12
LENGTHS = [5, 1, 7, 0, 3]
LENGTH = 9

Module = TypeVar("Module", bound=nnx.Module)


def graph_of(backend: str) -> tuple[list[np.ndarray], TokenGraph]:
    """States in float64, and their graph; padded on the left, with what must not be read."""
    states = sentences(LENGTHS, DIM)
    hidden, mask = pad(states, LENGTH, "left", fill=3.0)
    graph = token_graph(hidden, mask, tau=0.5, backend=backend)
    return [state.astype(np.float64) for state in states], graph


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def layer_norm(values: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    normal = (values - values.mean()) / np.sqrt(values.var() + 1e-5)
    return normal * weights[f"{name}.scale"] + weights[f"{name}.bias"]


def randomised(module: Module) -> Module:
    """The module with every parameter away from its start: a zero bias would hide a missing one."""
    rng = np.random.default_rng(4)

    def move(parameter: jax.Array) -> jax.Array:
        return parameter + jnp.asarray(0.3 * rng.normal(size=parameter.shape), jnp.float32)

    nnx.update(module, jax.tree.map(move, nnx.state(module, nnx.Param)))
    return module


def parameters(module: nnx.Module) -> dict[str, np.ndarray]:
    """Dotted name -> float64 array."""
    state = nnx.to_flat_state(nnx.state(module, nnx.Param))
    return {".".join(map(str, path)): np.asarray(leaf[...], np.float64) for path, leaf in state}


def assert_formula(
    pooler: Pooler, backend: str, formula: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Compare a pooler with the formula of one sentence's states; zeros without tokens."""
    states, graph = graph_of(backend)
    pooled = np.asarray(pooler(graph))
    assert pooled.dtype == np.float32
    assert pooled.shape == (len(states), pooler.pooled_dim)
    for row, tokens in enumerate(states):
        expected = formula(tokens) if len(tokens) else np.zeros(pooler.pooled_dim)
        np.testing.assert_allclose(pooled[row], expected, atol=3e-5)
