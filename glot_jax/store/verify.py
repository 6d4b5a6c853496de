"""Checking and summarising a whole store: `glot store verify` and `glot store info`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.config.json import to_json
from glot_jax.errors import UsageError
from glot_jax.files import file_sha256
from glot_jax.store.arrays import check_file, load_array, stored_dtype
from glot_jax.store.manifest import (
    MANIFEST,
    RECORD,
    Manifest,
    SplitRecord,
    dtypes_of,
    read_manifest,
    record_bytes,
    scales_name,
    shard_name,
    states_name,
)


def verify(path: str | os.PathLike[str]) -> list[str]:
    """The files of a finished store that are damaged, missing or foreign, as sorted paths; empty if
    all is well.

    Reads every byte. A damaged manifest is the only path, for without it nothing else can be
    judged. Raises UsageError if the folder is no finished store.
    """
    store = Path(path)
    try:
        manifest = read_manifest(store)
    except UsageError:
        if not os.path.lexists(store / MANIFEST):
            raise
        return [str(store / MANIFEST)]
    expected = {store / MANIFEST: True}
    for file, good in _check_files(store, manifest):
        expected[file] = good
    folders = {parent for file in expected for parent in file.parents}
    foreign = [
        found for found in store.rglob("*") if found not in expected and found not in folders
    ]
    bad = {file for file, good in expected.items() if not good}
    return sorted(map(str, {*bad, *foreign}))


def _check_files(store: Path, manifest: Manifest) -> Iterator[tuple[Path, bool]]:
    for name, split in manifest.splits.items():
        for array, file in split.array_files.items():
            yield store / name / file, _intact(store / name / file, split.arrays[array])
        for index, record in enumerate(split.shards):
            folder = store / name / shard_name(index)
            for file, expected in record.files.items():
                yield (
                    folder / file,
                    _intact(folder / file, expected) and _right_shape(folder / file, split, index),
                )
            yield folder / RECORD, _is_record(folder / RECORD, record_bytes(record))


def _intact(path: Path, expected: dict[str, Any]) -> bool:
    try:
        check_file(path, expected, trust=True)
        return file_sha256(path) == expected["sha256"]
    except (UsageError, OSError):  # what cannot be read is as bad as what is wrong
        return False


def _right_shape(path: Path, split: SplitRecord, index: int) -> bool:
    """Whether an intact array has the dtype and shape that its record promises."""
    record = split.shards[index]
    wanted: dict[str, tuple[np.dtype, tuple[int, ...]]] = {
        "lengths.npy": (np.dtype(np.int32), (record.texts,)),
        "token_ids.npy": (np.dtype(np.int32), (record.tokens,)),
    }
    for layer, logical in dtypes_of(record).items():
        wanted[states_name(layer, index)] = (stored_dtype(logical), (record.tokens, record.dim))
        wanted[scales_name(layer, index)] = (np.dtype(np.float16), (record.tokens,))
    try:
        load_array(path, *wanted[path.name])
    except UsageError:
        return False
    return True


def _is_record(path: Path, expected: bytes) -> bool:
    try:
        return path.is_file() and path.read_bytes() == expected
    except OSError:
        return False


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a finished store holds, as plain JSON values: content, recipe, task, counts and bytes
    per split and in all.

    Reads the manifest only. Raises UsageError if the folder is no finished store.
    """
    manifest = read_manifest(Path(path))
    splits = {name: _describe_split(split) for name, split in manifest.splits.items()}
    totals = {
        key: sum(split[key] for split in splits.values())
        for key in ("rows", "texts", "tokens", "truncated", "empty", "bytes")
    }
    return {
        "path": str(path),
        "schema_version": manifest.schema_version,
        "content": manifest.content,
        "task": manifest.task,
        "recipe": manifest.recipe.to_json(),
        **({"probe": manifest.probe} if manifest.probe is not None else {}),
        "splits": splits,
        **totals,
    }


def _describe_split(split: SplitRecord) -> dict[str, Any]:
    files = [
        *split.arrays.values(),
        *(file for shard in split.shards for file in shard.files.values()),
    ]
    return {
        "rows": split.rows,
        "texts": split.texts,
        "tokens": split.tokens,
        "truncated": split.truncated,
        "empty": split.empty,
        "max_abs": split.max_abs,
        "shards": len(split.shards),
        "labels": "labels.npy" in split.arrays,
        "dtypes": sorted({logical for shard in split.shards for logical in shard.dtypes.values()}),
        "bytes": sum(file["bytes"] for file in files),
        **({"cosine_error": split.cosine_error} if split.cosine_error else {}),
        **({"duplicates": split.duplicates} if split.duplicates is not None else {}),
        **({"appended": [to_json(one) for one in split.appended]} if split.appended else {}),
    }
