"""The manifest: what a store holds, what it was made from, and its identity."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glot_jax.config.json import from_json, to_json
from glot_jax.config.location import Location, StoreUrl
from glot_jax.errors import UsageError
from glot_jax.files import STORE_STYLE, json_bytes, read_json, write_bytes
from glot_jax.moved import moved_name
from glot_jax.remote.objects import LARGEST_MANIFEST, Objects
from glot_jax.store.identity import canonical, canonical_sha256
from glot_jax.store.integrity import require_fetched
from glot_jax.store.layout import EXTRACT_AGAIN, MANIFEST, check_split_name, lock_folder
from glot_jax.store.recipe import Recipe
from glot_jax.store.records import SplitRecord, check_split, identity_of, plain_record

SCHEMA_VERSION = 1
_FIELDS = ("schema_version", "recipe", "task", "splits", "content", "probe")
_REPAIR = "Restore the file from a copy, or extract the store again into a new folder."


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The whole description of a finished store, written last.

    A folder without one is not a finished store. `manifest.json` holds these fields and nothing
    about when, where or by whom the store was made, so two extractions of the same texts with the
    same recipe on the same machine are equal byte for byte, and a copy of the folder is as good as
    the original.
    """

    recipe: Recipe
    """Everything that decides the stored bytes and is known before the first shard."""
    task: dict[str, Any]
    """The TaskSpec as JSON; `glot_jax.texts.TaskSpec.from_json` reads it back."""
    splits: dict[str, SplitRecord]
    """In the order in which they were extracted."""
    content: str
    """sha256 (hex) over recipe, task, the shards' records in order and the hashes of the row
    arrays. Runs record it: equal content means equal training data. Worked out: flipping one bit of
    one state changes the sha256 of its `hidden-L<layer>-<shard>.npy`, thereby its shard's record,
    and thereby `content`.
    """
    schema_version: int = SCHEMA_VERSION
    """A store of another version is refused, never guessed at."""
    probe: dict[str, Any] | None = None
    """What was found out about the backbone when the store was made; None where nothing was.

    For people and for later extractions: it decides no stored byte, so it is part of neither
    `recipe` nor `content`.
    """

    @classmethod
    def build(
        cls,
        recipe: Recipe,
        task: Mapping[str, Any],
        splits: Mapping[str, SplitRecord],
        *,
        probe: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """The manifest of these parts, with its `content` computed.

        Raises:
            ValueError: `probe` has values that JSON does not have.
        """
        return cls(
            recipe=recipe,
            task=dict(task),
            splits=dict(splits),
            content=content_hash(recipe, task, splits),
            # Through JSON: the values written are the values read back, whatever the order of keys.
            probe=None if probe is None else json.loads(canonical(probe)),
        )


def content_hash(
    recipe: Recipe,
    task: Mapping[str, Any],
    splits: Mapping[str, SplitRecord],
) -> str:
    """The store's `content`; see `Manifest`."""
    parts = {}
    for name, split in splits.items():
        parts[name] = _split_identity(split)
    return canonical_sha256(
        {
            "recipe": recipe.to_json(),
            "task": task,
            "splits": parts,
            # Keys are sorted before they are hashed, so the order of the splits is a value of its
            # own.
            "order": list(splits),
        }
    )


def _split_identity(split: SplitRecord) -> dict[str, Any]:
    values: dict[str, Any] = {
        "rows": split.rows,
        "shards": [canonical_sha256(identity_of(shard)) for shard in split.shards],
        "arrays": split.arrays,
    }
    # Left out otherwise: a store that was never added to keeps its content.
    if split.appended:
        values["appended"] = [to_json(append) for append in split.appended]
    return values


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Finish a store: write `manifest.json`, the last of its files.

    Raises:
        UsageError: the disk refused.
    """
    write_bytes(folder / MANIFEST, manifest_bytes(manifest), again=EXTRACT_AGAIN)


def manifest_bytes(manifest: Manifest) -> bytes:
    """The bytes of a store's `manifest.json`."""
    splits = {}
    for name, split in manifest.splits.items():
        # Sorted keys: records read back from shards and fresh ones must give the same bytes.
        splits[name] = json.loads(canonical(plain_record(split)))
    values = {
        "schema_version": manifest.schema_version,
        "recipe": manifest.recipe.to_json(),
        "task": manifest.task,
        "splits": splits,
        "content": manifest.content,
    }
    if manifest.probe is not None:
        # Left out otherwise: a store without one keeps the bytes that earlier versions wrote.
        values["probe"] = manifest.probe
    return json_bytes(values, STORE_STYLE)


def read_manifest(folder: Location) -> Manifest:
    """Read a finished store's manifest.

    Args:
        folder: of the store, or its URL.

    Raises:
        UsageError: `folder` is not a store, an unfinished one, or of another schema version, or the
            manifest does not agree with its own `content`.
    """
    if isinstance(folder, StoreUrl):
        return _read_remote(folder)
    path = Path(folder) / MANIFEST
    # Before anything is said about a store that is not finished: its manifest may be elsewhere.
    require_fetched(path)
    if not path.is_file():
        raise _unfinished(Path(folder))
    return check_manifest(read_json(path, _REPAIR), path)


def _read_remote(url: StoreUrl) -> Manifest:
    objects = Objects(url)
    present = objects.read(MANIFEST, LARGEST_MANIFEST)
    if present is None:
        raise _unfinished_remote(objects)
    return parse_manifest(present.content, url / MANIFEST)


def parse_manifest(content: bytes, path: object) -> Manifest:
    """A manifest by its bytes; `path` says where they are from.

    Raises:
        UsageError: as for `read_manifest`.
    """
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            rule=f"{MANIFEST} must be a whole JSON file", got=f"{path}: {error}", fix=_REPAIR
        ) from error
    return check_manifest(values, path)


def check_manifest(values: object, path: object) -> Manifest:
    """The manifest that JSON values are; `path` says where they are from.

    Raises:
        UsageError: as for `read_manifest`.
    """
    if not isinstance(values, dict) or "schema_version" not in values:
        raise UsageError(
            rule="a store's manifest must be a JSON object with a schema_version",
            got=path,
            fix=_REPAIR,
        )
    # Before all else: another version may have other fields.
    version = values["schema_version"]
    if version != SCHEMA_VERSION:
        raise UsageError(
            rule=f"this version of glot-jax reads stores of schema version {SCHEMA_VERSION}",
            got=f"version {version!r} in {path}",
            fix="Extract the store again, or read it with the version that wrote it.",
        )
    try:
        manifest = _parse(values)
        content = content_hash(manifest.recipe, manifest.task, manifest.splits)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        # Whatever a damaged or hand-made file does to the parser; UsageError is a ValueError.
        raise UsageError(
            rule="the manifest of a store must be complete and well-formed",
            got=f"{path} ({error})",
            fix=_REPAIR,
        ) from error
    if content != manifest.content:
        raise UsageError(
            rule="a manifest must agree with its own content hash",
            got=f"{path}, which was changed after it was written",
            fix=_REPAIR,
        )
    _require_width(manifest, path)
    return manifest


def _require_width(manifest: Manifest, path: object) -> None:
    # Memory is taken by the recipe's width, and filled by the shards'.
    width = manifest.recipe.dim
    for split in manifest.splits.values():
        for shard in split.shards:
            if shard.dim != width:
                raise UsageError(
                    rule="the states of a store must have the width of its recipe",
                    got=f"a shard of width {shard.dim}, and a recipe of {width}, in {path}",
                    fix=_REPAIR,
                )


def _parse(values: Mapping[str, Any]) -> Manifest:
    recipe = Recipe.from_json(values["recipe"])
    splits = {}
    for name, split in values["splits"].items():
        # It becomes part of paths.
        check_split_name(name)
        splits[name] = from_json(SplitRecord, split)
        check_split(splits[name], recipe.layers)
    # No hash covers an unknown field, and a later version may mean something by it.
    unknown = set(values) - set(_FIELDS)
    if unknown:
        raise UsageError(
            rule="unknown field of the manifest",
            got=", ".join(sorted(unknown)),
            fix=f"Known: {', '.join(sorted(_FIELDS))}.",
        )
    # Neither covered by a hash nor computed with: that it is an object is all that can be checked.
    if "probe" in values and not isinstance(values["probe"], dict):
        raise ValueError(f"probe {values['probe']!r}, which is not a JSON object")
    return Manifest(
        recipe=recipe,
        task=values["task"],
        splits=splits,
        content=values["content"],
        probe=values.get("probe"),
    )


def _unfinished(folder: Path) -> UsageError:
    """What a folder without a manifest is, and what to do about it."""
    if not folder.is_dir():
        return UsageError(
            rule="a store must be a folder written by extract.py",
            got=f"{folder}, which is not a folder",
            fix="Check the path, or run extract.py first.",
        )
    begun = lock_folder(folder).is_dir()
    # Shards without a lock beside them: the store was copied while it was being written.
    if begun or any(folder.glob("*/shard-*")):
        return UsageError(
            rule="the extraction of a store must have finished before it is read",
            got=f"{folder}, which has no {MANIFEST} yet",
            fix="Run the extract command again to continue.",
        )
    return UsageError(
        rule=f"a store must hold a {MANIFEST}",
        got=f"{folder}, which has none",
        fix="Check the path, or run extract.py first.",
    )


def _unfinished_remote(objects: Objects) -> UsageError:
    """What a URL without a manifest is, and what to do about it."""
    begun = objects.sizes() or objects.beside(f"{objects.url.name}.lock").sizes()
    if begun:
        return UsageError(
            rule="the extraction of a store must have finished before it is read",
            got=f"{objects.url}, which has no {MANIFEST} yet",
            fix="Run the extract command again to continue.",
        )
    return UsageError(
        rule="a store must be what extract.py has written",
        got=f"{objects.url}, where nothing is",
        fix="Check the URL, or run extract.py first.",
    )


_MOVED = {
    "RECORD": "store.layout",
    "TEXT_FILES": "store.layout",
    "SPLIT_ARRAYS": "store.layout",
    "shard_name": "store.layout",
    "states_name": "store.layout",
    "scales_name": "store.layout",
    "array_file": "store.layout",
    "shard_files": "store.layout",
    "Appended": "store.records",
    "ShardRecord": "store.records",
    "SplitRecord": "store.records",
    "DAMAGED": "store.records",
    "plain_record": "store.records",
    "record_bytes": "store.records",
    "read_record": "store.records",
    "sum_up": "store.records",
    "canonical": "store.identity",
    "canonical_sha256": "store.identity",
    "explain_mismatch": "store.recipe",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)
