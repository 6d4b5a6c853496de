"""Memory: what a process keeps from one step to the next, and what is said where there is none."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator

import jax

from glot_jax.errors import UsageError

# Parameters of mallopt, from malloc.h.
_MMAP_THRESHOLD = -3
_TRIM_THRESHOLD = -1
_LARGEST_KEPT = 1 << 30  # bytes of a block

EXHAUSTED = "RESOURCE_EXHAUSTED"
"""What XLA's error of a device without memory begins with, whatever else it says."""


@contextlib.contextmanager
def told_of_memory(fix: str) -> Iterator[None]:
    """Say of a device that is out of memory what to lower, in place of XLA's traceback.

    It may come from a step, from reading what a step has returned, from states that are placed, or
    from a program that is loaded.

    Args:
        fix: what to lower.

    Raises:
        UsageError: the device is out of memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        lines = str(error).strip().splitlines()
        # XLA's other errors are no want of memory, and show where they come from.
        if EXHAUSTED not in str(error):
            raise
        raise UsageError(
            rule="the device's memory must hold the token states, the head and a step",
            got=lines[0],
            fix=fix,
        ) from error


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
