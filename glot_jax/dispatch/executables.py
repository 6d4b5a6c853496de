"""Compiled programs by key: compiled on other threads, waited for where they are needed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from glot_jax.compile_cache import hits_of_thread

Key = tuple[Any, ...]
"""What a program is compiled for; begins with its name."""

_WORKERS = 4
"""Programs compiled at once, at most: each needs some hundred MB while it is compiled."""


class Executables:
    """Programs by key, each compiled once.

    Iterating gives the keys in the order in which they were asked for.

    Attributes:
        from_cache: how many were read from the compile cache instead.
        compile_seconds: how long `get` waited for programs. What is compiled while something else
            runs takes none of it.
    """

    def __init__(self) -> None:
        self.compile_seconds = 0.0
        self.from_cache = 0
        self._programs: dict[Key, Future[jax.stages.Compiled]] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._programs)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._programs)

    def ahead(self, key: Key, build: Callable[[], jax.stages.Compiled]) -> None:
        """Have a program compiled on another thread, after those that were asked for before."""
        if key in self._programs:
            return
        if self._threads is None:
            # XLA compiles without Python's lock: as many at once as there are cores for.
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
            self._threads = ThreadPoolExecutor(min(cores, _WORKERS), "compile")
        self._programs[key] = self._threads.submit(self._counted, build)

    def get(self, key: Key, build: Callable[[], jax.stages.Compiled]) -> jax.stages.Compiled:
        """The program, compiled here and now if nobody has asked for it before.

        What compiling raises is raised here.
        """
        program = self._programs.get(key)
        # Ready programs are the common case, once a step: nothing is timed there.
        if program is not None and program.done() and not program.cancelled():
            return program.result()
        begin = time.perf_counter()
        if program is None or program.cancel() or program.cancelled():
            # Nobody has begun it: this thread would only wait for one that has other work before.
            program = Future()
            self._programs[key] = program
            try:
                program.set_result(self._counted(build))
            except BaseException:
                # Asked for again, it is tried again.
                del self._programs[key]
                raise
        compiled = program.result()
        self.compile_seconds += time.perf_counter() - begin
        return compiled

    def _counted(self, build: Callable[[], jax.stages.Compiled]) -> jax.stages.Compiled:
        # Of this thread: others compile at the same time.
        before = hits_of_thread()
        compiled = build()
        with self._lock:
            self.from_cache += hits_of_thread() - before
        return compiled

    def finished(self) -> dict[Key, jax.stages.Compiled]:
        """The programs that are compiled by now."""
        ready = {}
        for key, program in self._programs.items():
            if program.done() and not program.cancelled() and program.exception() is None:
                ready[key] = program.result()
        return ready

    def cancel(self) -> None:
        """Begin no further program: a process that ends would first wait for all of them."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
        for key, program in list(self._programs.items()):
            if program.cancelled():
                del self._programs[key]
