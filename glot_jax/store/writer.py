"""Shards written whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import io
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, NoReturn

import numpy as np

from glot_jax import disk
from glot_jax.errors import UsageError
from glot_jax.files import TEMPORARY, explain_write_error, file_sha256, make_folders
from glot_jax.store.arrays import stored_dtype
from glot_jax.store.integrity import FileRecord
from glot_jax.store.layout import (
    EXTRACT_AGAIN,
    RECORD,
    refuse_link,
    scales_name,
    shard_files,
    shard_name,
    states_name,
)
from glot_jax.store.norms import LayerNorms, norms_of, positions_in
from glot_jax.store.records import ShardRecord, record_bytes
from glot_jax.store.scaled_states import bytes_per_token, is_scaled, scales_shape, values_shape

_HASHING_THREADS = 4

_INT32 = np.dtype(np.int32)
_FLOAT16 = np.dtype(np.float16)


@dataclasses.dataclass(frozen=True)
class ShardCounts:
    """Fields of a shard's record that its arrays do not show; see `ShardRecord`."""

    truncated: int
    empty: int
    max_abs: float
    cosine_error: dict[str, float] | None = None


class _OpenFile(NamedTuple):
    """An .npy file that is being filled."""

    descriptor: int
    data: int
    """First byte behind the header."""


class ShardWriter:
    """Write one shard as a folder that appears under its name only when it is complete.

    For extraction only.

        dtypes = {6: "float16"}
        with ShardWriter(split_folder, 0, lengths, token_ids, dim=384, dtypes=dtypes) as shard:
            shard.put(6, start, states)  # start: first token of `states` within the shard
            record = shard.finish(ShardCounts(truncated=0, empty=0, max_abs=3.2))

    `put` may fill the states in any order. Leaving the block without `finish` removes what was
    written.

    Args:
        split: folder of the split.
        index: number of the shard.
        lengths: int32 [texts], in text order.
        token_ids: int32 [tokens], in text order.
        dim: width of a state.
        dtypes: layer -> logical dtype.

    Raises:
        UsageError: the disk refused; for a full disk with the shard and the bytes that are missing.
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
        # A name of this attempt: a writer that was thought to be dead may still write its own.
        attempt = f"{TEMPORARY}{secrets.token_hex(4)}-"
        self._temporary = split / (attempt + shard_name(index))
        self._index = index
        self._lengths = lengths
        self._token_ids = token_ids
        self._dim = dim
        self._dtypes = {layer: dtypes[layer] for layer in sorted(dtypes)}
        self._files: dict[str, _OpenFile] = {}
        # Of the states as they are stored: equal shards have equal records.
        self._norms = {layer: np.zeros(len(token_ids), np.float32) for layer in self._dtypes}
        self._ended = False

    @property
    def bytes(self) -> int:
        """Bytes of the shard's states."""
        # Lengths and token ids are left out: they are small beside the states.
        tokens = len(self._token_ids)
        return sum(tokens * bytes_per_token(name, self._dim) for name in self._dtypes.values())

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
        self._explain(error)

    def open(self) -> None:
        """Start the shard's files."""
        tokens = len(self._token_ids)
        refuse_link(self.folder.parent)
        try:
            make_folders(self.folder.parent)
            disk.make_folder(self._temporary)
            self._write_array("lengths.npy", self._lengths)
            self._write_array("token_ids.npy", self._token_ids)
            # Every file exists before the first state: a limit on open files shows before the model
            # has run.
            for layer, logical in self._dtypes.items():
                states = states_name(layer, self._index)
                shape = values_shape(logical, tokens, self._dim)
                self._start(states, stored_dtype(logical), shape)
                if is_scaled(logical):
                    scales = scales_name(layer, self._index)
                    self._start(scales, _FLOAT16, scales_shape(logical, tokens, self._dim))
        except BaseException as error:
            self._fail(error)

    def _write_array(self, name: str, array: np.ndarray) -> None:
        file = self._start(name, _INT32, array.shape)
        content = np.ascontiguousarray(array, _INT32)
        disk.write(file.descriptor, content.data, file.data)

    def _start(
        self,
        name: str,
        dtype: np.dtype,
        shape: tuple[int, ...],
    ) -> _OpenFile:
        """Create an .npy file with its header."""
        # Written by hand, because np.save would need the states that are not computed yet.
        fields = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": shape,
        }
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, fields)
        # Remembered before anything is written, so that `abandon` closes it.
        descriptor = disk.create(self._temporary / name)
        file = _OpenFile(descriptor, header.tell())
        self._files[name] = file
        disk.write(file.descriptor, header.getvalue(), 0)
        return file

    def put(
        self,
        layer: int,
        start: int,
        states: np.ndarray,
        scales: np.ndarray | None = None,
    ) -> None:
        """Store states of one layer.

        Args:
            layer: the layer.
            start: token of the shard that the first of them belongs to.
            states: [tokens, dim], contiguous, with the dtype that they have on disk; of int4
                packed.
            scales: float16 [tokens], for int8 states; [tokens, groups] for int4.
        """
        if not states.size:
            # A batch of empty texts; an empty buffer has no address to write from.
            return
        norms = self._norms[layer]
        norms[start : start + len(states)] = norms_of(
            states,
            self._dtypes[layer],
            scales,
            dim=self._dim,
        )
        file = self._files[states_name(layer, self._index)]
        try:
            # Bytes of the tokens before these, however many values a byte holds.
            offset = start * (states.nbytes // len(states))
            disk.write(file.descriptor, states.data, file.data + offset)
            if scales is not None:
                file = self._files[scales_name(layer, self._index)]
                offset = start * (scales.nbytes // len(scales))
                disk.write(file.descriptor, scales.data, file.data + offset)
        except BaseException as error:
            self._fail(error)

    def finish(self, counts: ShardCounts) -> ShardRecord:
        """Write the record, make everything durable, and give the folder its name."""
        names = shard_files(self._dtypes, self._index)
        try:
            # Layers are hashed side by side: one thread hashes slower than a good disk writes.
            threads = min(_HASHING_THREADS, len(names))
            with ThreadPoolExecutor(threads) as pool:
                sealed = list(pool.map(self._seal, names))
            files = dict(zip(names, sealed, strict=True))
            record = ShardRecord(
                texts=len(self._lengths),
                tokens=len(self._token_ids),
                truncated=counts.truncated,
                empty=counts.empty,
                dim=self._dim,
                dtypes={str(layer): logical for layer, logical in self._dtypes.items()},
                max_abs=counts.max_abs,
                files=files,
                cosine_error=counts.cosine_error,
                norms=self._counted_norms(),
            )
            self._write_record(record_bytes(record))
            # Files, then their names, then the folder's name: after a power cut the folder is
            # whole wherever it has its name.
            disk.sync_folder(self._temporary)
            self._name(record_bytes(record))
            # From here on the shard is finished, even if the name is not yet durable.
            self._ended = True
            disk.sync_folder(self.folder.parent)
        except BaseException as error:
            self._fail(error)
        return record

    def _name(self, record: bytes) -> None:
        """Give the folder its name, unless another writer of the same shard has done it.

        Raises:
            UsageError: it was another shard's writer.
        """
        try:
            disk.rename(self._temporary, self.folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            # One that was thought to be dead has finished it. Equal records have equal files.
            if _content(self.folder / RECORD) != record:
                raise UsageError(
                    rule="two writers of a shard must write the same bytes",
                    got=f"{self.folder}, which another process has written with other ones",
                    fix="Compare their machines, devices and versions. Keep the folder, or delete"
                    f" it and {EXTRACT_AGAIN}.",
                ) from error
            disk.remove(self._temporary)

    def _counted_norms(self) -> dict[str, list[dict[str, Any]]]:
        positions = positions_in(self._lengths)
        counted = {}
        for layer, norms in self._norms.items():
            counted[str(layer)] = LayerNorms.of(norms, positions).to_json()
        return counted

    def _write_record(self, content: bytes) -> None:
        descriptor = disk.create(self._temporary / RECORD)
        # Known as the arrays are, so that `abandon` closes it if the disk is full here.
        self._files[RECORD] = _OpenFile(descriptor, 0)
        disk.write(descriptor, content, 0)
        disk.sync(descriptor)
        del self._files[RECORD]
        disk.close(descriptor)

    def _seal(self, name: str) -> FileRecord:
        """Close a file whose bytes are on the disk; its size and hash."""
        path = self._temporary / name
        descriptor = self._files[name].descriptor
        disk.sync(descriptor)
        # Forgotten first: if closing fails, `abandon` must not close the descriptor again.
        del self._files[name]
        disk.close(descriptor)
        return {"sha256": file_sha256(path), "bytes": path.stat().st_size}

    def abandon(self) -> None:
        """Remove what was written, unless the shard is finished."""
        if self._ended:
            return
        # Before anything that may fail: it is called again when the block is left.
        self._ended = True
        for file in self._files.values():
            try:
                disk.close(file.descriptor)
            except OSError:
                # What is about to be removed need not have reached the disk.
                continue
        self._files = {}
        disk.remove(self._temporary)

    def _fail(self, error: BaseException) -> NoReturn:
        self.abandon()
        self._explain(error)
        raise error

    def _explain(self, error: BaseException | None) -> None:
        explain_write_error(error, self.folder, self.bytes, again=EXTRACT_AGAIN)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
