"""Checking every byte of a store: `glot store verify`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.files import file_sha256
from glot_jax.store.arrays import load_array, stored_dtype
from glot_jax.store.integrity import FileRecord, check_file
from glot_jax.store.layout import MANIFEST, RECORD, scales_name, shard_name, states_name
from glot_jax.store.manifest import Manifest, read_manifest
from glot_jax.store.records import ShardRecord, record_bytes


def verify(path: str | os.PathLike[str]) -> list[str]:
    """The files of a finished store that are damaged, missing or foreign, as sorted paths.

    Reads every byte. A damaged manifest is the only path returned, for without it nothing else can
    be judged. An empty list means that all is well.

    Raises:
        UsageError: the folder is not a finished store.
    """
    store = Path(path)
    try:
        manifest = read_manifest(store)
    except UsageError:
        if not os.path.lexists(store / MANIFEST):
            raise
        return [str(store / MANIFEST)]
    intact = dict(_check_files(store, manifest))
    intact[store / MANIFEST] = True
    folders = {parent for file in intact for parent in file.parents}
    damaged = {file for file, good in intact.items() if not good}
    foreign = set(store.rglob("*")) - set(intact) - folders
    return sorted(map(str, damaged | foreign))


def _check_files(store: Path, manifest: Manifest) -> Iterator[tuple[Path, bool]]:
    """Every file that the manifest lists, and whether it is intact."""
    for name, split in manifest.splits.items():
        for array, file in split.array_files.items():
            path = store / name / file
            yield path, _is_intact(path, split.arrays[array])
        for index, record in enumerate(split.shards):
            yield from _check_shard(store / name / shard_name(index), index, record)


def _check_shard(folder: Path, index: int, record: ShardRecord) -> Iterator[tuple[Path, bool]]:
    for name, expected in record.files.items():
        path = folder / name
        # A file with the right hash can still be an array that its record does not promise: then
        # the manifest was made by hand.
        yield path, _is_intact(path, expected) and _has_right_shape(path, index, record)
    yield folder / RECORD, _holds(folder / RECORD, record_bytes(record))


def _is_intact(path: Path, record: FileRecord) -> bool:
    try:
        check_file(path, record, trust=True)
        # Hashed again, whatever this process has hashed before: that is what was asked for.
        return file_sha256(path) == record["sha256"]
    except (UsageError, OSError):
        # A file that cannot be read is as bad as one that is wrong.
        return False


def _has_right_shape(path: Path, index: int, record: ShardRecord) -> bool:
    """Whether an intact array has the dtype and shape that its record promises."""
    int32 = np.dtype(np.int32)
    float16 = np.dtype(np.float16)
    arrays: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
        "lengths.npy": (int32, (record.texts,)),
        "token_ids.npy": (int32, (record.tokens,)),
    }
    for layer, logical in record.layer_dtypes.items():
        states = (record.tokens, record.dim)
        arrays[states_name(layer, index)] = (stored_dtype(logical), states)
        arrays[scales_name(layer, index)] = (float16, (record.tokens,))
    try:
        load_array(path, *arrays[path.name])
    except UsageError:
        return False
    return True


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.is_file() and path.read_bytes() == content
    except OSError:
        return False
