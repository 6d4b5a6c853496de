"""What this machine can do at most.

Floating-point operations and bytes per second, measured in this process.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

from glot_jax.training.xla_options import compiled

FULL = "float32 at full precision"
"""Key of float32 products that may not be rounded to TensorFloat-32, as GPUs do by default: the
cosine's.
"""

_SIDE = 4096  # of the square matrices that are multiplied
_COPIED = 256 * 1024**2  # bytes


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """What this machine reached in this process."""

    flops: dict[str, float]
    """Dtype, or FULL, -> floating-point operations per second of a 4096-cubed matmul."""
    bandwidth: float
    """Bytes per second, read and written, of a copy of 256 MiB."""


@functools.cache
def measure_ceilings(
    dtypes: tuple[str, ...] = ("float32", FULL),
    repeats: int = 5,
) -> Ceilings:
    """Measure a matmul of each dtype, and a copy.

    Of each the best run counts: a ceiling is what the machine can do when nobody disturbs it.

    Args:
        dtypes: names of dtypes, or FULL; see `ceilings_of`.
        repeats: runs of each.
    """
    rates = {}
    for dtype in dtypes:
        if dtype == FULL and jax.default_backend() == "cpu" and "float32" in rates:
            rates[FULL] = rates["float32"]  # a CPU rounds neither
        else:
            # A product and a sum for each of the matmul's terms.
            operations = 2 * _SIDE**3
            rates[dtype] = operations / _matmul_seconds(dtype, repeats)
    # Four bytes each.
    array = jnp.zeros(_COPIED // 4, jnp.float32)
    # Plus one, because JAX hands an unchanged argument back without a copy.
    seconds = _fastest(lambda values: values + 1, (array,), repeats)
    # Each byte is read once and written once.
    return Ceilings(rates, 2 * _COPIED / seconds)


def _matmul_seconds(dtype: str, repeats: int) -> float:
    precision = jax.lax.Precision.HIGHEST if dtype == FULL else None
    # Random: some devices are faster on zeros, which draw less power.
    shape = (_SIDE, _SIDE)
    matrix = jax.random.normal(jax.random.key(0), shape)
    matrix = matrix.astype("float32" if dtype == FULL else dtype)
    multiply = functools.partial(jnp.matmul, precision=precision)
    return _fastest(multiply, (matrix, matrix), repeats)


def _fastest(
    function: Callable,
    arguments: tuple,
    repeats: int,
) -> float:
    # As the trainer compiles, so that both are measured with the same options of XLA.
    call = compiled(jax.jit(function).lower(*arguments))
    # The first call finds cold caches, and memory that was never touched.
    jax.block_until_ready(call(*arguments))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(call(*arguments))
        seconds.append(time.perf_counter() - begin)
    # Other work makes a run longer, nothing makes it shorter.
    return min(seconds)


def ceilings_of(states_dtype: str, dtype: str) -> tuple[str, ...]:
    """The dtypes whose rates the floor of a head needs.

    In a fixed order, so that `measure_ceilings` measures each set once.

    Args:
        states_dtype: dtype of the token states, in which the cosines are taken.
        dtype: dtype of the head.
    """
    cosines = FULL if states_dtype == "float32" else states_dtype
    return tuple(sorted({dtype, "float32", cosines}))
