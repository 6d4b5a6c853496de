"""Memory that a training process keeps from one step to the next, on a CPU."""

from __future__ import annotations

import ctypes
import functools
import os

import jax

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of malloc.h
KEPT = (1 << 30, -1)
"""Thresholds of `set_thresholds`: blocks up to 1 GiB stay with the process."""


@functools.cache
def keep_memory() -> bool:
    """Let this process keep a step's memory for the next step. Called before the first array is made; whether it was done.

    XLA takes a step's temporary block from the C library and gives it back after the step, and glibc hands blocks over 32 MiB
    on to the system. At 32 x 128 tokens and dim 768 that maps and clears 25,000 pages a step, a third of its time on a
    virtual machine. So malloc's thresholds are raised, and steps on a CPU run in the thread that calls them: the heap of the
    main thread can grow, those of other threads end at 64 MiB. A GPU's steps are begun ahead as ever. What was used once is given
    back when the process ends.

    Nothing is done where the user has decided (`MALLOC_…`, `GLIBC_TUNABLES` on malloc, `JAX_CPU_ENABLE_ASYNC_DISPATCH`), nor
    with another C library than glibc. After JAX has made its CPU client only malloc changes, which gains nothing.
    """
    decided = any(name.startswith("MALLOC_") or name == "JAX_CPU_ENABLE_ASYNC_DISPATCH" for name in os.environ)
    if decided or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or not set_thresholds(*KEPT):
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True


def set_thresholds(mapped: int, trimmed: int) -> bool:
    """Blocks from `mapped` bytes on are the system's, and so is what is free at the heap's end beyond `trimmed` bytes (-1: nothing).

    False without glibc, where nothing changes.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 (raises where there is none)
        return bool(library.mallopt(_MMAP_THRESHOLD, mapped) and library.mallopt(_TRIM_THRESHOLD, trimmed))
    except (AttributeError, OSError, TypeError):
        return False
