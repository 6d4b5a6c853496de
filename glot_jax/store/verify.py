"""Checking every byte of a store: `glot store verify`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from glot_jax.config.location import StoreUrl, parse_location, require_folder
from glot_jax.errors import UsageError
from glot_jax.files import file_sha256
from glot_jax.moved import moved_name
from glot_jax.store.arrays import Shape, load_array, stored_dtype
from glot_jax.store.integrity import FileRecord, check_file
from glot_jax.store.layout import MANIFEST, RECORD, scales_name, shard_name, states_name
from glot_jax.store.manifest import read_manifest
from glot_jax.store.records import ShardRecord, SplitRecord, record_bytes
from glot_jax.store.scaled_states import scales_shape, values_shape


def verify(path: str | os.PathLike[str] | StoreUrl) -> list[str]:
    """The files of a finished store that are damaged, missing or foreign, as sorted paths.

    Reads every byte. A damaged manifest is the only path returned, for without it nothing else can
    be judged. An empty list means that all is well.

    Raises:
        UsageError: the folder is not a finished store; or it is a URL, for which
            `glot_jax.remote_stores.verify` is.
    """
    store = require_folder(parse_location(path))
    try:
        manifest = read_manifest(store)
    except UsageError:
        if not os.path.lexists(store / MANIFEST):
            raise
        return [str(store / MANIFEST)]
    intact = {store / MANIFEST: True}
    for name, split in manifest.splits.items():
        _check_split(store / name, split, intact)
    damaged = {file for file, good in intact.items() if not good}
    # Folders are foreign unless something that belongs to the store lies in them.
    folders: set[Path] = set()
    for file in intact:
        folders.update(file.parents)
    # `rglob` does not walk into linked folders: foreign files behind one are not looked for.
    foreign = set(store.rglob("*")) - intact.keys() - folders
    return sorted(map(str, damaged | foreign))


def _check_split(
    folder: Path,
    split: SplitRecord,
    intact: dict[Path, bool],
) -> None:
    """Note of every file of a split whether it is intact."""
    for array, name in split.array_files.items():
        path = folder / name
        intact[path] = _is_intact(path, split.arrays[array])
    for index, record in enumerate(split.shards):
        _check_shard(
            folder / shard_name(index),
            index,
            record,
            intact,
        )


def _check_shard(
    folder: Path,
    index: int,
    record: ShardRecord,
    intact: dict[Path, bool],
) -> None:
    """Note of every file of a shard whether it is intact."""
    for name, expected in record.files.items():
        path = folder / name
        good = _is_intact(path, expected)
        # A file with the right hash can still be an array that its record does not promise: then
        # the manifest was made by hand.
        intact[path] = good and _has_right_shape(path, index, record)
    # The record has no hash of its own; the manifest holds all of it.
    intact[folder / RECORD] = _holds(folder / RECORD, record_bytes(record))


def _is_intact(path: Path, record: FileRecord) -> bool:
    try:
        # The size first: a file that was cut need not be read to be found.
        check_file(path, record, trust=True)
        # Hashed again, whatever this process has hashed before: that is what was asked for.
        return file_sha256(path) == record["sha256"]
    except (UsageError, OSError):
        # A file that cannot be read is as bad as one that is wrong.
        return False


def _has_right_shape(
    path: Path,
    index: int,
    record: ShardRecord,
) -> bool:
    """Whether an intact array has the dtype and shape that its record promises."""
    dtype, shape = promised_arrays(index, record)[path.name]
    try:
        load_array(path, dtype, shape)
    except UsageError:
        return False
    return True


def promised_arrays(index: int, record: ShardRecord) -> dict[str, tuple[np.dtype, Shape]]:
    """Name of a shard's array -> the dtype in its file and the shape that its record promises.

    Scales are named for all dtypes, though states of int8 alone have them.
    """
    int32 = np.dtype(np.int32)
    promised: dict[str, tuple[np.dtype, Shape]] = {
        "lengths.npy": (int32, (record.texts,)),
        "token_ids.npy": (int32, (record.tokens,)),
    }
    for layer, logical in record.layer_dtypes.items():
        states = states_name(layer, index)
        shape = values_shape(logical, record.tokens, record.dim)
        promised[states] = (stored_dtype(logical), shape)
        # Of states with scales only; no other shard has a file of this name.
        scales = scales_name(layer, index)
        shape = scales_shape(logical, record.tokens, record.dim)
        promised[scales] = (np.dtype(np.float16), shape)
    return promised


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.read_bytes() == content
    except OSError:
        return False


_MOVED = {
    "describe": "store.info",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)
