"""What a finished store holds, in numbers: `glot store info`."""

from __future__ import annotations

import os
from typing import Any

from glot_jax.config.json import to_json
from glot_jax.config.location import StoreUrl, parse_location
from glot_jax.store.layout import LABELS
from glot_jax.store.manifest import Manifest, read_manifest
from glot_jax.store.norms import POSITIONS, layer_norms
from glot_jax.store.records import SplitRecord

_TOTALS = ("rows", "texts", "tokens", "truncated", "empty", "bytes")


def describe(path: str | os.PathLike[str] | StoreUrl) -> dict[str, Any]:
    """Describe a finished store as plain JSON values: content, recipe, task, counts and bytes.

    Reads the manifest only. Counts are given per split and in all.

    Raises:
        UsageError: the folder is not a finished store.
    """
    manifest = read_manifest(parse_location(path))
    splits: dict[str, dict[str, Any]] = {}
    for name, split in manifest.splits.items():
        splits[name] = _describe_split(split)
    card: dict[str, Any] = {
        "path": str(path),
        "schema_version": manifest.schema_version,
        "content": manifest.content,
        "task": manifest.task,
        "recipe": manifest.recipe.to_json(),
    }
    if manifest.probe is not None:
        card["probe"] = manifest.probe
    norms = _describe_norms(manifest)
    if norms:
        card["norms"] = norms
    # After what describes the store as a whole: people read the card from the top.
    card["splits"] = splits
    # Not the duplicates: a split without `--deduplicate` has no count of them.
    for name in _TOTALS:
        card[name] = sum(split[name] for split in splits.values())
    return card


def _describe_norms(manifest: Manifest) -> dict[str, Any]:
    """Layer -> its norms; empty for a store whose shards did not count them."""
    shards = [shard for split in manifest.splits.values() for shard in split.shards]
    card = {}
    for layer in manifest.recipe.layers:
        norms = layer_norms(shards, layer)
        if norms is None:
            continue
        means = [norms.mean(slot) for slot in range(POSITIONS + 1)]
        card[str(layer)] = {
            "median": norms.median(),
            "mean_by_position": means[:POSITIONS],
            "mean_later": means[POSITIONS],
            # Position -> how many: "8" stands for all later ones.
            "sinks": {str(slot): count for slot, count in norms.sinks().items()},
            "sink_limit": norms.limit(),
        }
    return card


def _describe_split(split: SplitRecord) -> dict[str, Any]:
    # With `--storage-dtype auto` shards may differ.
    dtypes: set[str] = set()
    for shard in split.shards:
        dtypes.update(shard.dtypes.values())
    card: dict[str, Any] = {
        "rows": split.rows,
        "texts": split.texts,
        "tokens": split.tokens,
        "truncated": split.truncated,
        "empty": split.empty,
        "max_abs": split.max_abs,
        "shards": len(split.shards),
        "labels": LABELS in split.arrays,
        "dtypes": sorted(dtypes),
        "bytes": sum(file["bytes"] for file in split.files),
    }
    # Options that the store does not use are not named, as in its manifest.
    if split.cosine_error:
        card["cosine_error"] = split.cosine_error
    if split.duplicates is not None:
        card["duplicates"] = split.duplicates
    if split.appended:
        card["appended"] = [to_json(append) for append in split.appended]
    return card
