"""Programs that take moments to compile."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from glot_jax.compile_cache import hits_of_thread


def compiled(factor: float, options: dict | None = None) -> tuple[jax.stages.Compiled, bool]:
    """`x -> tanh(factor * x)` for eight numbers, and whether it came from the compile cache."""

    # Another function every time: JAX keeps what it has compiled by the function.
    def scaled(x: jax.Array) -> jax.Array:
        return jnp.tanh(factor * x)

    lowered = jax.jit(scaled).lower(jax.ShapeDtypeStruct((8,), jnp.float32))
    before = hits_of_thread()
    program = lowered.compile(options)
    return program, hits_of_thread() > before
