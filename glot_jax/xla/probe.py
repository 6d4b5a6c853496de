"""How long a miniature of a training step takes with each set of XLA's options.

The miniature has the products of a head at a run's sizes: cosines of a text's tokens, a projection
of the states, messages along the edges, a layer, and the gradients of the last three. It compiles
in a tenth of the time of the step itself.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glot_jax.xla.cpu_options import EIGEN, XLA, compiled_with

_SECONDS = 0.4
"""For the runs of both programs together; compiling them takes about as long."""
_LEAST_ROUNDS = 5
_MOST_SPREAD = 1.25
"""Of undisturbed runs: their median over the fastest."""


@dataclasses.dataclass(frozen=True)
class ProbeShape:
    """Sizes of the miniature."""

    texts: int
    length: int
    """Tokens of every text."""
    dim: int
    """Width of the states."""
    hidden: int
    """Width of the layers."""
    linked: bool
    """Whether tokens are compared and linked."""

    @property
    def name(self) -> str:
        """The sizes in one word."""
        kind = "graph" if self.linked else "tokens"
        return f"{kind}-{self.texts}x{self.length}x{self.dim}-{self.hidden}"


@dataclasses.dataclass(frozen=True)
class ProbeSeconds:
    """Seconds of the miniature step in every round, in which both were run."""

    eigen: tuple[float, ...]
    xla: tuple[float, ...]

    @property
    def is_disturbed(self) -> bool:
        """Whether the machine did other work meanwhile: nothing follows from what was measured."""
        for runs in (self.eigen, self.xla):
            if statistics.median(runs) > _MOST_SPREAD * min(runs):
                return True
        return False


def measure_probe(shape: ProbeShape) -> ProbeSeconds:
    """Compile the miniature with Eigen's products and with XLA's own choice, and time both."""
    lowered, arguments = _lowered(shape)
    calls = []
    for options in (EIGEN, XLA):
        program = compiled_with(lowered, options)
        # The first run finds cold caches, and memory that was never touched.
        jax.block_until_ready(program(*arguments))
        calls.append(program)
    times: list[list[float]] = [[], []]
    begin = time.perf_counter()
    # In turns, so that what disturbs the machine disturbs both.
    while len(times[0]) < _LEAST_ROUNDS or time.perf_counter() - begin < _SECONDS:
        for spent, program in zip(times, calls, strict=True):
            started = time.perf_counter()
            jax.block_until_ready(program(*arguments))
            spent.append(time.perf_counter() - started)
    return ProbeSeconds(eigen=tuple(times[0]), xla=tuple(times[1]))


def _lowered(shape: ProbeShape) -> tuple[jax.stages.Lowered, tuple[Any, ...]]:
    rng = np.random.default_rng(0)

    def random(*sizes: int) -> jax.Array:
        drawn = rng.standard_normal(sizes, np.float32)
        return jnp.asarray(drawn / np.sqrt(sizes[-1]))

    states = random(shape.texts, shape.length, shape.dim)
    weights = {
        "project": random(shape.dim, shape.hidden),
        "layer": random(shape.hidden, shape.hidden),
    }
    step: Callable[..., Any] = jax.value_and_grad(_linked_loss if shape.linked else _loss)
    # The states are an argument, because of a constant XLA would compute the products beforehand.
    return jax.jit(step).lower(weights, states), (weights, states)


# No softmax, no edges: what poolers without a graph multiply.
def _loss(weights: dict[str, jax.Array], states: jax.Array) -> jax.Array:
    nodes = jax.nn.relu(states @ weights["project"]) @ weights["layer"]
    return jnp.mean(jnp.square(nodes))


def _linked_loss(weights: dict[str, jax.Array], states: jax.Array) -> jax.Array:
    exact = jax.lax.Precision.HIGHEST
    # As the stem takes them: at full precision, and towards the states there is no gradient.
    cosines = jnp.einsum("bld,bmd->blm", states, states, precision=exact)
    nodes = states @ weights["project"]
    # As in attention: a score of source and target, where there is an edge.
    scores = jnp.sum(nodes, axis=-1)
    logits = jax.nn.leaky_relu(scores[:, :, None] + scores[:, None, :])
    attention = jax.nn.softmax(jnp.where(cosines > 0, logits, -1e9))
    refined = jax.nn.relu(attention @ nodes) @ weights["layer"]
    return jnp.mean(jnp.square(refined))
