"""Memory that a training process keeps from one step to the next, on a CPU."""

from __future__ import annotations

import ctypes
import functools
import os

import jax

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of malloc.h


@functools.cache
def keep_memory() -> bool:
    """Let this process keep a step's memory for the next step. Called before the first array is
    made; whether it was done.

    XLA takes a step's temporary block from the C library and gives it back after the step, and
    glibc hands blocks over 32 MiB on to the system. At 32 x 128 tokens and dim 768 that maps and
    clears 25,000 pages a step, a quarter of its time on a virtual machine. So malloc keeps blocks
    up to 1 GiB, and steps on a CPU run in the thread that calls them, one after another: the heap
    of the main thread can grow, those of other threads end at 64 MiB. A GPU's steps are begun ahead
    as ever. What was used once is given back when the process ends.

    Nothing is done where the user has decided (`MALLOC_…`, `GLIBC_TUNABLES` on malloc,
    `JAX_CPU_ENABLE_ASYNC_DISPATCH`), nor with another C library than glibc. After JAX has made its
    CPU client only malloc changes, which gains nothing.
    """
    decided = any(
        name.startswith("MALLOC_") or name == "JAX_CPU_ENABLE_ASYNC_DISPATCH" for name in os.environ
    )
    if decided or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 (raises where there is none)
        if not (library.mallopt(_MMAP_THRESHOLD, 1 << 30) and library.mallopt(_TRIM_THRESHOLD, -1)):
            return False
    except (AttributeError, OSError, TypeError):
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True
