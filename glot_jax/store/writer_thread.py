"""Shards written on threads of their own while the next states are computed."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from glot_jax.store.records import ShardRecord
from glot_jax.store.writer import ShardCounts, ShardWriter

Value = TypeVar("Value")

_PATIENCE = 0.05
"""Seconds between two looks at whether another thread failed."""


class WriterThread:
    """Writes shards while the caller computes the next states.

    One thread puts states, two seal the shards that are complete.

        with WriterThread() as thread:
            thread.begin(shard)
            thread.put(lambda: shard.put(6, start, states), states.nbytes)
            sealed = thread.finish(shard, counts)
            record = thread.result(sealed)              # waits until the shard is on the disk

    An error of a thread is raised at the caller's next call, and nothing is written after it.
    Leaving the block waits for what was handed over; shards that were begun and not finished are
    removed.

    Args:
        capacity: bytes of states that may wait.
        unsealed: shards that may be open at once, each with all its files.
        keep: is given the folder and the record of each shard that is finished, on the threads that
            seal; the shard counts as finished when it returns.
    """

    def __init__(
        self,
        capacity: int = 256 * 1024**2,
        unsealed: int = 4,
        keep: Callable[[Path, ShardRecord], None] | None = None,
    ):
        self._keep = keep
        self._putter = ThreadPoolExecutor(1, thread_name_prefix="shard-writer")
        # Hashing and fsync of one shard need not wait for the next one's states, nor these for it.
        self._sealers = ThreadPoolExecutor(2, thread_name_prefix="shard-sealer")
        self._open: list[ShardWriter] = []
        # Bounded: a slot that is given back twice is an error, not one more open shard.
        self._slots = threading.BoundedSemaphore(unsealed)
        self._error: BaseException | None = None
        self._capacity = capacity
        self._waiting = 0
        """Bytes of states that were handed over and are not written yet."""
        self._room = threading.Condition()

    def __enter__(self) -> WriterThread:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # In this order: what the first thread still does hands shards to the others.
        self._putter.shutdown()
        self._sealers.shutdown()
        for shard in self._open:
            shard.abandon()
        if error is None:
            self._raise()

    def begin(self, shard: ShardWriter) -> None:
        """Open `shard`; the calls of `put` and `finish` for it follow.

        Waits while too many shards are being sealed.
        """
        while not self._slots.acquire(timeout=_PATIENCE):
            # A sealer that failed never gives its slot back.
            self._raise()
        self._open.append(shard)
        self._submit(shard.open)

    def put(self, action: Callable[[], None], size: int) -> None:
        """Run `action`, which puts `size` bytes of states into the shard that was begun last.

        Waits while too many bytes wait already.
        """
        with self._room:
            self._room.wait_for(lambda: self._has_room(size))
            self._waiting += size
        self._submit(action, size)

    def _has_room(self, size: int) -> bool:
        # After an error nothing is written any more: `_submit` raises it.
        if self._error is not None:
            return True
        # One piece larger than the capacity passes alone.
        if self._waiting == 0:
            return True
        return self._waiting + size <= self._capacity

    def finish(self, shard: ShardWriter, counts: ShardCounts) -> Future[ShardRecord]:
        """Seal `shard`; `result` waits for its record."""
        sealed: Future[ShardRecord] = Future()

        def seal() -> None:
            self._sealers.submit(self._seal, shard, counts, sealed)

        # Through the first thread, behind the states that still wait.
        self._submit(seal)
        return sealed

    def keep(self, folder: Path, record: ShardRecord) -> Future[ShardRecord]:
        """Have a shard kept that an earlier process has finished; `result` waits for it."""
        self._raise()
        return self._sealers.submit(self._kept, folder, record)

    def _kept(self, folder: Path, record: ShardRecord) -> ShardRecord:
        try:
            # Nothing is kept after an error.
            self._raise()
            if self._keep is not None:
                self._keep(folder, record)
        except BaseException as error:
            self._error = error
            raise
        return record

    def abandon(self, shard: ShardWriter) -> None:
        """Take back a shard that was begun."""
        self._submit(shard.abandon).result()
        self._open.remove(shard)
        self._slots.release()

    def result(self, sealed: Future[ShardRecord]) -> ShardRecord:
        """The record of a shard that `finish` was called for."""
        while not sealed.done():
            # After an error elsewhere this one is never sealed.
            self._raise()
            concurrent.futures.wait([sealed], timeout=_PATIENCE)
        return sealed.result()

    def _seal(
        self,
        shard: ShardWriter,
        counts: ShardCounts,
        sealed: Future[ShardRecord],
    ) -> None:
        try:
            record = shard.finish(counts)
            if self._keep is not None:
                self._keep(shard.folder, record)
            self._open.remove(shard)
            self._slots.release()
            sealed.set_result(record)
        except BaseException as error:
            self._error = error
            sealed.set_exception(error)

    def _submit(self, action: Callable[[], Value], size: int = 0) -> Future[Value]:
        self._raise()
        return self._putter.submit(self._run, action, size)

    def _run(self, action: Callable[[], Value], size: int) -> Value:
        try:
            # Handed over before the error was known: nothing is written after it.
            self._raise()
            return action()
        except BaseException as error:
            self._error = error
            raise
        finally:
            with self._room:
                self._waiting -= size
                self._room.notify()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
