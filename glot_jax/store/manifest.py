"""What a store holds and what it was made from: the manifest, its two identities and its files'
hashes.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glot_jax.config.json import from_json, to_json
from glot_jax.errors import UsageError, require
from glot_jax.files import AGAIN, STORE_STYLE, json_bytes, read_json, write_bytes
from glot_jax.store.arrays import NotFetched, check_file, require_fetched
from glot_jax.store.identity import canonical, canonical_sha256
from glot_jax.store.recipe import Recipe

SCHEMA_VERSION = 1
EXTRACT_AGAIN = f"{AGAIN}: finished shards are kept"
"""How an error of the disk tells the user to go on with a store."""
MANIFEST = "manifest.json"
RECORD = "record.json"
TEXT_FILES = ("lengths.npy", "token_ids.npy")
"""Files of a shard that say which texts it holds."""
SPLIT_ARRAYS = ("row_offsets.npy", "row_texts.npy", "roles.npy", "labels.npy")
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class ShardRecord:
    """One shard: counts, logical dtypes, and size and hash of every file.

    Its bytes are the shard's `record.json`.
    """

    texts: int
    tokens: int
    """Stored token states, special tokens included; padding is never stored."""
    truncated: int
    """Texts cut to the recipe's `max_length`."""
    empty: int
    """Texts without a token of their own (special tokens alone, or nothing at all)."""
    dim: int
    dtypes: dict[str, str]
    """Layer index as a string -> logical dtype: float16, bfloat16 (on disk as uint16), float32, or
    int8 with its scales.
    """
    max_abs: float
    """Largest magnitude of a state in any stored layer, before it was rounded to the logical dtype.
    """
    files: dict[str, dict[str, Any]]
    """File name -> {"sha256", "bytes"}; the record's own file is not listed."""
    cosine_error: dict[str, float] | None = None
    """int8 only: {"mean", "max"} over tokens and layers of 1 - cos between a state as stored and as
    it was. Absent for other dtypes.
    """


@dataclasses.dataclass(frozen=True)
class Appended:
    """One append to a split."""

    rows: int
    texts: int
    """Texts it stored: those equal to earlier ones are not among them with `--deduplicate`."""
    sha256: str
    """Of the rows' token ids and labels: rows of an earlier append are not appended again, as long
    as they come by themselves.
    """


@dataclasses.dataclass(frozen=True)
class SplitRecord:
    """One split: the sums over its shards, its shards in order, and its row arrays."""

    rows: int
    texts: int
    tokens: int
    truncated: int
    empty: int
    max_abs: float
    shards: tuple[ShardRecord, ...]
    arrays: dict[str, dict[str, Any]]
    """`row_offsets.npy`, `row_texts.npy`, `roles.npy` and, where the task has labels, `labels.npy`
    -> {"sha256", "bytes"}.
    """
    cosine_error: dict[str, float] | None = None
    """The shards' cosine errors together; absent where no shard has one."""
    duplicates: int | None = None
    """Texts that were stored once with an equal one; absent without `--deduplicate`."""
    appended: tuple[Appended, ...] | None = None
    """What `--append` added, in order; absent if nothing.

    The row arrays' files then carry how often: `labels-2.npy`.
    """

    @property
    def array_files(self) -> dict[str, str]:
        """Row array -> the file that holds it: an append writes new ones beside the old."""
        times = len(self.appended or ())
        return {name: array_file(name, times) for name in self.arrays}


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The whole description of a finished store, written last; a folder without one is no finished
    store.

    On disk `manifest.json` holds these fields and nothing about when, where or by whom the store
    was made, so two extractions of the same texts with the same recipe on the same machine are
    equal byte for byte, and a copy of the folder is as good as the original.

    Fields
    ------
    recipe
        Everything that decides the stored bytes and is known before the first shard; see `Recipe`.
    task
        The TaskSpec as JSON (`glot_jax.texts.TaskSpec.from_json` reads it back).
    splits
        Split name -> `SplitRecord`, in the order they were extracted.
    content
        sha256 (hex) over recipe, task, the shards' records in order and the hashes of the row
        arrays. Runs record it: equal content means equal training data. Worked out: flipping one
        bit of one state changes the sha256 of its `hidden-L<layer>-<shard>.npy`, thereby its
        shard's record and `content`.
    schema_version
        1. A store of another version is refused, never guessed at.
    probe
        What was found out about the backbone when the store was made, a JSON object; None where
        nothing was. For people
        and for later extractions: it decides no stored byte, so it is part of neither `recipe` nor
            `content`.
    """

    recipe: Recipe
    task: dict[str, Any]
    splits: dict[str, SplitRecord]
    content: str
    schema_version: int = SCHEMA_VERSION
    probe: dict[str, Any] | None = None

    @classmethod
    def build(
        cls,
        recipe: Recipe,
        task: Mapping[str, Any],
        splits: Mapping[str, SplitRecord],
        *,
        probe: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """The manifest of these parts, its `content` computed.

        Raises ValueError if `probe` has values that JSON has not.
        """
        # Through JSON: what is written is what is read back, whatever order its keys were found in.
        plain = None if probe is None else json.loads(canonical(probe))
        return cls(
            recipe, dict(task), dict(splits), content_hash(recipe, task, splits), probe=plain
        )


def shard_name(index: int) -> str:
    """Folder of a shard inside its split: `shard-00007`."""
    return f"shard-{index:05d}"


def states_name(layer: int, index: int) -> str:
    """File of one layer's states inside its shard: `hidden-L6-00007.npy`."""
    return f"hidden-L{layer}-{index:05d}.npy"


def scales_name(layer: int, index: int) -> str:
    """File of the scales of one layer's int8 states: `scale-L6-00007.npy`, float16 [tokens]."""
    return f"scale-L{layer}-{index:05d}.npy"


def array_file(name: str, appended: int) -> str:
    """File of a row array after so many appends: `labels.npy`, then `labels-1.npy`."""
    return name if not appended else name.replace(".npy", f"-{appended}.npy")


def shard_files(dtypes: Mapping[int, str], index: int) -> tuple[str, ...]:
    """The arrays a shard folder holds beside its `record.json`, for these logical dtypes by
    layer.
    """
    scales = (scales_name(layer, index) for layer, logical in dtypes.items() if logical == "int8")
    return (
        "lengths.npy",
        "token_ids.npy",
        *(states_name(layer, index) for layer in dtypes),
        *scales,
    )


def dtypes_of(record: ShardRecord) -> dict[int, str]:
    """Layer -> logical dtype, layers ascending."""
    return {layer: record.dtypes[str(layer)] for layer in sorted(map(int, record.dtypes))}


def plain_record(record: ShardRecord | SplitRecord) -> dict[str, Any]:
    """A record as JSON values; what is absent is left out, so that what a store does not use does
    not change its bytes.
    """
    values = {name: value for name, value in to_json(record).items() if value is not None}
    if isinstance(record, SplitRecord):
        values["shards"] = [plain_record(shard) for shard in record.shards]
    return values


def record_bytes(record: ShardRecord) -> bytes:
    """What a shard's `record.json` holds."""
    return canonical(plain_record(record)) + b"\n"


def read_record(split: Path, index: int, layers: tuple[int, ...]) -> ShardRecord | None:
    """The record of a finished shard, whose files are there with their sizes; None if the shard is
    not there.

    Raises UsageError for a damaged one. Hashes are not computed: they were, when the shard was
    written.
    """
    folder = split / shard_name(index)
    require_fetched(folder / RECORD)
    if not folder.exists():
        return None
    fix = f"Delete {folder} and run the same command again: the other shards are kept."
    if (split.parent / MANIFEST).exists():
        fix = DAMAGED
    try:
        record = from_json(ShardRecord, read_json(folder / RECORD))
        require(
            tuple(dtypes_of(record)) == layers,
            "a shard's record lists the recipe's layers",
            folder / RECORD,
            fix,
        )
        names = shard_files(dtypes_of(record), index)
        require(
            set(record.files) == set(names),
            "a shard's record lists its files",
            folder / RECORD,
            fix,
        )
        for name in names:
            check_file(folder / name, record.files[name], trust=True)
    except NotFetched:
        raise
    except UsageError as error:
        raise UsageError(error.rule, error.got, fix) from error
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise UsageError(
            "a shard's record is complete", f"{folder / RECORD} ({error})", fix
        ) from error
    return record


def sum_up(
    rows: int, shards: Sequence[ShardRecord], arrays: dict[str, dict[str, Any]], **more: Any
) -> SplitRecord:
    """The record of a split with these shards; `more` are its `duplicates` and `appended`."""
    return SplitRecord(
        rows=rows,
        texts=sum(shard.texts for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        truncated=sum(shard.truncated for shard in shards),
        empty=sum(shard.empty for shard in shards),
        max_abs=max((shard.max_abs for shard in shards), default=0.0),
        shards=tuple(shards),
        arrays=arrays,
        cosine_error=_joint_error([shard for shard in shards if shard.cosine_error is not None]),
        **more,
    )


def _joint_error(shards: Sequence[ShardRecord]) -> dict[str, float] | None:
    errors = [
        (shard.tokens, shard.cosine_error) for shard in shards if shard.cosine_error is not None
    ]
    if not errors:
        return None
    tokens = max(1, sum(count for count, _ in errors))
    return {
        "mean": sum(count * error["mean"] for count, error in errors) / tokens,
        "max": max(error["max"] for _, error in errors),
    }


def content_hash(recipe: Recipe, task: Mapping[str, Any], splits: Mapping[str, SplitRecord]) -> str:
    """The store's `content`: see `Manifest`."""
    parts: dict[str, dict[str, Any]] = {
        name: {
            "rows": split.rows,
            "shards": [canonical_sha256(plain_record(shard)) for shard in split.shards],
            "arrays": split.arrays,
        }
        for name, split in splits.items()
    }
    for name, split in splits.items():
        if split.appended:
            parts[name]["appended"] = [to_json(one) for one in split.appended]
    return canonical_sha256(
        {"recipe": recipe.to_json(), "task": task, "splits": parts, "order": list(splits)}
    )


# --------------------------------------------------------------------------------------------------
# Writing


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Finish a store: write `manifest.json`, the last of its files."""
    values = {
        "schema_version": manifest.schema_version,
        "recipe": manifest.recipe.to_json(),
        "task": manifest.task,
        # Sorted keys: records read back from shards and fresh ones must give the same bytes.
        "splits": {
            name: json.loads(canonical(plain_record(split)))
            for name, split in manifest.splits.items()
        },
        "content": manifest.content,
    }
    if (
        manifest.probe is not None
    ):  # left out: a store without one keeps the bytes that earlier versions wrote
        values["probe"] = manifest.probe
    write_bytes(folder / MANIFEST, json_bytes(values, STORE_STYLE), again=EXTRACT_AGAIN)


# --------------------------------------------------------------------------------------------------
# Reading


def read_manifest(folder: Path) -> Manifest:
    """Read a finished store's manifest.

    Raises UsageError if `folder` is no store, an unfinished one, of another schema version, or if
    the manifest does not agree with its own `content`.
    """
    path = Path(folder) / MANIFEST
    require_fetched(path)
    if not path.is_file():
        _refuse_unfinished(Path(folder))
    values = read_json(path)
    require(
        isinstance(values, dict) and "schema_version" in values,
        "a store's manifest is a JSON object with a schema_version",
        path,
        _REPAIR,
    )
    version = values["schema_version"]
    require(
        version == SCHEMA_VERSION,
        f"this version of glot-jax reads stores of schema version {SCHEMA_VERSION}",
        f"version {version!r} in {path}",
        "Extract the store again, or read it with the version that wrote it.",
    )
    try:
        manifest = _parse(values)
        content = content_hash(manifest.recipe, manifest.task, manifest.splits)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            "the manifest of a store is complete and well-formed", f"{path} ({error})", _REPAIR
        ) from error
    require(
        content == manifest.content,
        "a manifest agrees with its own content hash",
        f"{path}, which was changed after it was written",
        _REPAIR,
    )
    return manifest


_REPAIR = "Restore the file from a copy, or extract the store again into a new folder."
DAMAGED = "`glot store verify` lists what is damaged; extract the store again into a new folder."


def _refuse_unfinished(folder: Path) -> None:
    require(
        folder.is_dir(),
        "a store is a folder written by extract.py",
        f"{folder}, which is not a folder",
        "Check the path, or run extract.py first.",
    )
    started = lock_folder(folder).is_dir() or any(folder.glob("*/shard-*"))
    require(
        not started,
        "a store can be read once its extraction has finished",
        f"{folder}, which has no {MANIFEST} yet",
        "Run the extract command again to continue.",
    )
    raise UsageError(
        f"a store holds a {MANIFEST}",
        f"{folder}, which has none",
        "Check the path, or run extract.py first.",
    )


def lock_folder(store: Path) -> Path:
    """`OUT.lock` beside OUT: the lock and the recipe of a store in the making."""
    # Resolved, so that `.` and a link have a name to put `.lock` behind.
    resolved = Path(store).resolve()
    return resolved.with_name(resolved.name + ".lock")


def _parse(values: dict[str, Any]) -> Manifest:
    recipe = Recipe.from_json(values["recipe"])
    splits = {}
    for name, split in values["splits"].items():
        check_split_name(name)
        splits[name] = from_json(SplitRecord, split)
        _check_records(splits[name], recipe.layers)
    known = {"schema_version", "recipe", "task", "splits", "content", "probe"}
    require(
        set(values) <= known,
        "unknown field of the manifest",
        ", ".join(sorted({*values} - known)),
        f"Known: {', '.join(sorted(known))}.",
    )
    # No hash covers it, and nothing is computed from it: that it is an object is all that is asked
    # of it.
    if "probe" in values and not isinstance(values["probe"], dict):
        raise ValueError(f"probe {values['probe']!r}, which is no JSON object")
    return Manifest(recipe, values["task"], splits, values["content"], probe=values.get("probe"))


def check_split_name(name: str) -> None:
    """Split names become folders: letters, digits, `_`, `-` and inner dots only.

    Raises UsageError.
    """
    require(
        bool(_SPLIT_NAME.fullmatch(name)),
        "a split's name consists of letters, digits, _ - and .",
        repr(name),
        "Rename the split.",
    )


def _check_records(split: SplitRecord, layers: tuple[int, ...]) -> None:
    """File names are built from indexes, never taken from the manifest, so those it lists must be
    exactly these.
    """
    if not set(split.arrays) <= set(SPLIT_ARRAYS) or not set(SPLIT_ARRAYS[:3]) <= set(split.arrays):
        raise ValueError(f"row arrays {sorted(split.arrays)}")
    for index, shard in enumerate(split.shards):
        if tuple(dtypes_of(shard)) != layers or set(shard.files) != set(
            shard_files(dtypes_of(shard), index)
        ):
            raise ValueError(f"files of shard {index}: {sorted(shard.files)}")
    for file in (
        *split.arrays.values(),
        *(file for shard in split.shards for file in shard.files.values()),
    ):
        if (
            set(file) != {"sha256", "bytes"}
            or not _SHA256.fullmatch(file["sha256"])
            or not isinstance(file["bytes"], int)
        ):
            raise ValueError(f"file record {file}")
