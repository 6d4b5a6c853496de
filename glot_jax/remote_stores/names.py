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
            for name, file in shard.files.items():
                files[f"{split}/{shard_name(index)}/{name}"] = file
        for array, name in record.array_files.items():
            files[f"{split}/{name}"] = record.arrays[array]
    return files


def shard_records(manifest: Manifest) -> dict[str, bytes]:
    """Name of every shard's record.json -> its bytes."""
    records = {}
    for split, record in manifest.splits.items():
        for index, shard in enumerate(record.shards):
            records[f"{split}/{shard_name(index)}/{RECORD}"] = record_bytes(shard)
    return records


def expected_sizes(manifest: Manifest) -> dict[str, int]:
    """Name of every file of a store but its manifest -> its bytes."""
    sizes = {name: file["bytes"] for name, file in listed_files(manifest).items()}
    for name, content in shard_records(manifest).items():
        sizes[name] = len(content)
    return sizes


def superseded(manifest: Manifest) -> list[str]:
    """Row arrays of the time before an append."""
    names = []
    for split, record in manifest.splits.items():
        for earlier in range(len(record.appended or ())):
            for array in SPLIT_ARRAYS:
                names.append(f"{split}/{array_file(array, earlier)}")
    return names


def hash_object(objects: Objects, name: str) -> str:
    """The sha256 of an object's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in objects.stream(name):
        digest.update(chunk)
    return digest.hexdigest()
