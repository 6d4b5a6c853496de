"""Names, sizes and hashes of the files that a manifest lists."""

from __future__ import annotations

import hashlib

from glot_jax.remote.objects import Objects
from glot_jax.store.integrity import FileRecord
from glot_jax.store.layout import RECORD, SPLIT_ARRAYS, array_file, shard_name
from glot_jax.store.manifest import Manifest
from glot_jax.store.records import record_bytes


def listed_files(manifest: Manifest) -> dict[str, FileRecord]:
    """Name of every array of a store -> its size and hash, shard by shard, row arrays last."""
    files: dict[str, FileRecord] = {}
    for split, record in manifest.splits.items():
        for index, shard in enumerate(record.shards):
            folder = f"{split}/{shard_name(index)}"
            # `check_split` has compared these names with those that are built from numbers.
            for name, file in shard.files.items():
                files[f"{folder}/{name}"] = file
        # After an append their files carry how often.
        for array, name in record.array_files.items():
            files[f"{split}/{name}"] = record.arrays[array]
    return files


def shard_records(manifest: Manifest) -> dict[str, bytes]:
    """Name of every shard's record.json -> its bytes."""
    records = {}
    for split, record in manifest.splits.items():
        for index, shard in enumerate(record.shards):
            name = f"{split}/{shard_name(index)}/{RECORD}"
            # Listed nowhere: the manifest repeats all of it.
            records[name] = record_bytes(shard)
    return records


def expected_sizes(manifest: Manifest) -> dict[str, int]:
    """Name of every file of a store but its manifest -> its bytes."""
    sizes = {}
    for name, file in listed_files(manifest).items():
        sizes[name] = file["bytes"]
    records = shard_records(manifest)
    for name, content in records.items():
        sizes[name] = len(content)
    return sizes


def superseded(manifest: Manifest) -> list[str]:
    """Row arrays of the time before an append."""
    names = []
    for split, record in manifest.splits.items():
        appends = len(record.appended or ())
        for earlier in range(appends):
            # One that a task without labels lacks is not there to be removed.
            for array in SPLIT_ARRAYS:
                name = array_file(array, earlier)
                names.append(f"{split}/{name}")
    return names


def hash_object(objects: Objects, name: str) -> str:
    """The sha256 of an object's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    # In pieces: it may be larger than the memory.
    for chunk in objects.stream(name):
        digest.update(chunk)
    return digest.hexdigest()
