"""Shards written whole or not at all:

`ShardWriter`, and `WriterThread`, which does it while the next states are computed.
"""

from __future__ import annotations

import concurrent.futures
import io
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import numpy as np

from glot_jax import disk
from glot_jax.files import TEMPORARY, explain_write_error, file_sha256, make_folders, refuse_link
from glot_jax.store.arrays import DTYPES, stored_dtype
from glot_jax.store.manifest import (
    EXTRACT_AGAIN,
    RECORD,
    ShardRecord,
    record_bytes,
    scales_name,
    shard_files,
    shard_name,
    states_name,
)

Value = TypeVar("Value")


class ShardWriter:
    """Write one shard as a folder that appears under its name only when it is complete.

    For extraction only.

        dtypes = {6: "float16"}
        with ShardWriter(split_folder, 0, lengths, token_ids, dim=384, dtypes=dtypes) as shard:
            shard.put(6, start, states)  # start: first token of `states` within the shard
            record = shard.finish(truncated=0, empty=0, max_abs=3.2)

    `lengths` int32 [texts] and `token_ids` int32 [tokens] are in text order; `put` may fill the
    states in any order. Leaving the block without `finish` removes what was written. A full disk is
    a UsageError naming shard and shortfall.
    """

    def __init__(
        self,
        split: Path,
        index: int,
        lengths: np.ndarray,
        token_ids: np.ndarray,
        *,
        dim: int,
        dtypes: Mapping[int, str],
    ):
        self.folder = split / shard_name(index)
        self._temporary = split / (TEMPORARY + shard_name(index))
        self._index, self._lengths, self._token_ids, self._dim = index, lengths, token_ids, dim
        self._dtypes = {layer: dtypes[layer] for layer in sorted(dtypes)}
        self._files: dict[str, tuple[int, int]] = {}
        """Name -> (descriptor, first byte of the data)."""
        self._ended = False

    @property
    def bytes(self) -> int:
        """Bytes of the shard's states."""
        return sum(
            len(self._token_ids) * self._dim * DTYPES[logical].itemsize
            for logical in self._dtypes.values()
        )

    def __enter__(self) -> ShardWriter:
        self.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abandon()
        explain_write_error(error, self.folder, self.bytes, again=EXTRACT_AGAIN)

    def open(self) -> None:
        """Start the shard's files; what an earlier attempt left is replaced."""
        tokens = len(self._token_ids)
        refuse_link(self.folder.parent)
        try:
            make_folders(self.folder.parent)
            disk.remove(self._temporary)
            disk.make_folder(self._temporary)
            for name, array in (("lengths.npy", self._lengths), ("token_ids.npy", self._token_ids)):
                file, data = self._start(name, np.dtype(np.int32), array.shape)
                disk.write(file, np.ascontiguousarray(array, np.int32).data, data)
            for layer, logical in self._dtypes.items():
                self._start(
                    states_name(layer, self._index), stored_dtype(logical), (tokens, self._dim)
                )
                if logical == "int8":
                    self._start(scales_name(layer, self._index), np.dtype(np.float16), (tokens,))
        except BaseException as error:
            self._fail(error)

    def _start(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> tuple[int, int]:
        """Create an .npy file with its header; descriptor and first byte of the data."""
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header,
            {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
        )
        self._files[name] = (disk.create(self._temporary / name), header.tell())
        disk.write(self._files[name][0], header.getvalue(), 0)
        return self._files[name]

    def put(
        self, layer: int, start: int, states: np.ndarray, scales: np.ndarray | None = None
    ) -> None:
        """Store `states` [tokens, dim] (dtype as on disk, contiguous) as the shard's tokens from
        `start` on; int8 with `scales` [tokens].
        """
        if not states.size:
            return
        file, data = self._files[states_name(layer, self._index)]
        try:
            disk.write(file, states.data, data + start * self._dim * states.itemsize)
            if scales is not None:
                file, data = self._files[scales_name(layer, self._index)]
                disk.write(file, scales.data, data + start * scales.itemsize)
        except BaseException as error:
            self._fail(error)

    def finish(
        self,
        *,
        truncated: int,
        empty: int,
        max_abs: float,
        cosine_error: dict[str, float] | None = None,
    ) -> ShardRecord:
        """Write the record, make everything durable, and give the folder its name."""
        names = shard_files(self._dtypes, self._index)
        try:
            # Layers are hashed side by side: one thread hashes slower than a good disk writes.
            with ThreadPoolExecutor(min(4, len(names))) as pool:
                files = dict(zip(names, pool.map(self._seal, names), strict=True))
            record = ShardRecord(
                texts=len(self._lengths),
                tokens=len(self._token_ids),
                truncated=truncated,
                empty=empty,
                dim=self._dim,
                dtypes={str(layer): logical for layer, logical in self._dtypes.items()},
                max_abs=max_abs,
                files=files,
                cosine_error=cosine_error,
            )
            content = record_bytes(record)
            self._files[RECORD] = (disk.create(self._temporary / RECORD), 0)
            disk.write(self._files[RECORD][0], content, 0)
            disk.sync(self._files[RECORD][0])
            disk.close(self._files.pop(RECORD)[0])
            disk.sync_folder(self._temporary)
            disk.rename(self._temporary, self.folder)
            self._ended = True
            disk.sync_folder(self.folder.parent)
        except BaseException as error:
            self._fail(error)
        return record

    def _seal(self, name: str) -> dict[str, Any]:
        """Close a file whose bytes are on the disk; its size and hash."""
        path = self._temporary / name
        file, _ = self._files[name]
        disk.sync(file)
        del self._files[name]
        disk.close(file)
        return {"sha256": file_sha256(path), "bytes": path.stat().st_size}

    def abandon(self) -> None:
        """Remove what was written, unless the shard is finished."""
        if self._ended:
            return
        self._ended = True
        for file, _ in self._files.values():
            try:
                disk.close(file)
            except OSError:
                # What is about to be removed need not have reached the disk.
                continue
        self._files = {}
        disk.remove(self._temporary)

    def _fail(self, error: BaseException) -> NoReturn:
        self.abandon()
        explain_write_error(error, self.folder, self.bytes, again=EXTRACT_AGAIN)
        raise error


class WriterThread:
    """Writes shards on threads of its own while the caller computes the next states: one puts, two
    seal what is complete.

        with WriterThread() as thread:
            thread.begin(shard)
            thread.put(lambda: shard.put(6, start, states), states.nbytes)
            record = thread.finish(shard, truncated=0, empty=0, max_abs=3.2)
            record = thread.result(record)              # waits until the shard is on the disk

    An error of a thread is raised at the caller's next call, and nothing is written after it.
    `capacity` is the bytes of states that may wait; no more than `unsealed` shards are open at
    once, each with all its files. Leaving the block waits for what was handed over; shards that
    were begun and not finished go.
    """

    def __init__(self, capacity: int = 256 * 1024**2, unsealed: int = 4):
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="shard-writer")
        # Hashing and fsync of one shard need not wait for the next one's states, nor these for it.
        self._sealers = ThreadPoolExecutor(2, thread_name_prefix="shard-sealer")
        self._open: list[ShardWriter] = []
        self._slots = threading.BoundedSemaphore(unsealed)
        self._error: BaseException | None = None
        self._capacity, self._waiting, self._room = capacity, 0, threading.Condition()

    def __enter__(self) -> WriterThread:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown()
        self._sealers.shutdown()
        for shard in self._open:
            shard.abandon()
        if error is None:
            self._raise()

    def begin(self, shard: ShardWriter) -> None:
        """Open `shard`; its calls to `put` and `finish` follow.

        Waits while too many are being sealed.
        """
        while not self._slots.acquire(timeout=0.05):
            self._raise()
        self._open.append(shard)
        self._submit(shard.open)

    def put(self, action: Callable[[], None], size: int) -> None:
        """Run `action`, which puts `size` bytes of states into the shard that was begun last.

        Waits while too much waits.
        """
        with self._room:
            # One piece larger than the capacity passes alone.
            self._room.wait_for(
                lambda: (
                    self._error is not None
                    or self._waiting == 0
                    or self._waiting + size <= self._capacity
                )
            )
            self._waiting += size
        self._submit(action, size)

    def finish(self, shard: ShardWriter, **counts: Any) -> Future[ShardRecord]:
        """Seal `shard`, whose record `result` waits for."""
        sealed: Future[ShardRecord] = Future()
        # Through the first thread, behind the states that still wait.
        self._submit(lambda: self._sealers.submit(self._seal, shard, counts, sealed))
        return sealed

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
            concurrent.futures.wait([sealed], timeout=0.05)
        return sealed.result()

    def _seal(
        self, shard: ShardWriter, counts: dict[str, Any], sealed: Future[ShardRecord]
    ) -> None:
        try:
            record = shard.finish(**counts)
            self._open.remove(shard)
            self._slots.release()
            sealed.set_result(record)
        except BaseException as error:
            self._error = error
            sealed.set_exception(error)

    def _submit(self, action: Callable[[], Value], size: int = 0) -> Future[Value]:
        self._raise()
        return self._pool.submit(self._run, action, size)

    def _run(self, action: Callable[[], Value], size: int) -> Value:
        try:
            if self._error is not None:
                raise self._error
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
