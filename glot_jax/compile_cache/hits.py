"""How many programs were read instead of compiled."""

from __future__ import annotations

import threading

_HIT = "/jax/compilation_cache/cache_hits"


class _Counts(threading.local):
    """Of one thread: JAX tells of a program in the thread that asked for it."""

    hits = 0


_lock = threading.Lock()
_of_thread = _Counts()
_total = 0
_is_counting = False


def hits() -> int:
    """How many programs this process has read from a compile cache, since it uses one.

    Of every kind: also the small ones of operations outside `jit`.
    """
    return _total


def hits_of_thread() -> int:
    """`hits`, of the calling thread alone.

    What it grows by while a thread compiles tells what came from the cache, whatever other threads
    compile meanwhile:

        before = hits_of_thread()
        program = lowered.compile()
        was_read = hits_of_thread() > before
    """
    return _of_thread.hits


def count_hits() -> None:
    """Begin to count; further calls do nothing."""
    import jax

    global _is_counting
    with _lock:
        if _is_counting:
            return
        _is_counting = True
        jax.monitoring.register_event_listener(_listen)


def _listen(event: str, **_: str | int | float) -> None:
    global _total
    if event != _HIT:
        return
    _of_thread.hits += 1
    with _lock:
        _total += 1
