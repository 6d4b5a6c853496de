"""Memory that a training process keeps from one step to the next, on a CPU."""

from __future__ import annotations

import ctypes
import functools
import os

import jax

# Parameters of mallopt, from malloc.h.
_MMAP_THRESHOLD = -3
_TRIM_THRESHOLD = -1
_LARGEST_KEPT = 1 << 30  # bytes of a block


@functools.cache
def keep_memory() -> bool:
    """Let this process keep a step's memory for the next step.

    To be called before the first array is made. XLA takes a step's temporary block from the C
    library and gives it back after the step, and glibc hands blocks over 32 MiB on to the system.
    At 32 x 128 tokens and dim 768 that maps and clears 25,000 pages a step, a quarter of its time
    on a virtual machine. So malloc keeps blocks up to 1 GiB, and steps on a CPU run in the thread
    that calls them, one after another: the heap of the main thread can grow, those of other threads
    end at 64 MiB. A GPU's steps are begun ahead as ever. What was used once is given back when the
    process ends.

    Nothing is done where the user has decided (`MALLOC_…`, `GLIBC_TUNABLES` on malloc,
    `JAX_CPU_ENABLE_ASYNC_DISPATCH`), nor with another C library than glibc. After JAX has made its
    CPU client only malloc changes, which gains nothing.

    Returns:
        True if the allocator was changed.
    """
    if _user_has_decided():
        return False
    # Without malloc's part the other one only costs: steps would follow one another for nothing.
    if not _keep_blocks():
        return False
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    return True


def _user_has_decided() -> bool:
    for name in os.environ:
        if name.startswith("MALLOC_"):
            return True
    if "JAX_CPU_ENABLE_ASYNC_DISPATCH" in os.environ:
        return True
    # One variable for all of glibc: `name=value` pairs with colons between them.
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc" in tunables


def _keep_blocks() -> bool:
    """Tell malloc not to give large blocks back; False where the C library is not glibc."""
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018 (raises where there is none)
        # mallopt returns 1 where it did what it was told.
        if not library.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT):
            return False
        # -1: the top of the heap is never given back, however much of it is free.
        return bool(library.mallopt(_TRIM_THRESHOLD, -1))
    except (AttributeError, OSError, TypeError):
        return False
