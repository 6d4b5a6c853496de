"""Records of shards and splits: counts, dtypes, and size and hash of every file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glot_jax.config.json import from_json, to_json
from glot_jax.errors import UsageError
from glot_jax.files import read_json
from glot_jax.store.identity import canonical
from glot_jax.store.integrity import FileRecord, NotFetched, check_file, require_fetched
from glot_jax.store.layout import (
    LABELS,
    MANIFEST,
    RECORD,
    SPLIT_ARRAYS,
    array_file,
    shard_files,
    shard_name,
)

DAMAGED = "`glot store verify` lists what is damaged; extract the store again into a new folder."

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class ShardRecord:
    """One shard: counts, logical dtypes, and size and hash of every file.

    Its canonical JSON is the shard's `record.json`.
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
    files: dict[str, FileRecord]
    """File name -> size and hash; the record's own file is not listed."""
    cosine_error: dict[str, float] | None = None
    """int8 only: {"mean", "max"} over tokens and layers of 1 - cos between a state as stored and as
    it was. Absent for other dtypes.
    """

    norms: dict[str, list[dict[str, Any]]] | None = None
    """Layer index as a string -> `LayerNorms.to_json` of its states. Absent in stores of versions
    that did not count them; it decides no stored state, so it is no part of `content`.
    """

    @property
    def layer_dtypes(self) -> dict[int, str]:
        """Layer -> logical dtype, layers ascending."""
        # As numbers: "10" comes before "9".
        layers = sorted(int(layer) for layer in self.dtypes)
        return {layer: self.dtypes[str(layer)] for layer in layers}


@dataclasses.dataclass(frozen=True)
class Appended:
    """One append to a split."""

    rows: int
    texts: int
    """Texts it stored: those equal to earlier ones are not among them with `--deduplicate`."""
    sha256: str
    """Hash of the rows' token ids and labels: rows of an earlier append are not appended again, as
    long as they come by themselves.
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
    arrays: dict[str, FileRecord]
    """`row_offsets.npy`, `row_texts.npy`, `roles.npy` and, where the task has labels, `labels.npy`
    -> size and hash.
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

    @property
    def files(self) -> list[FileRecord]:
        """Size and hash of every file of the split but the shards' records."""
        # A shard's record is listed nowhere: the manifest repeats all of it.
        files = list(self.arrays.values())
        for shard in self.shards:
            files += shard.files.values()
        return files


def plain_record(record: ShardRecord | SplitRecord) -> dict[str, Any]:
    """A record as JSON values.

    Absent fields are left out, so that an option a store does not use does not change its bytes.
    """
    values: dict[str, Any] = {}
    for name, value in to_json(record).items():
        if value is not None:
            values[name] = value
    if isinstance(record, SplitRecord):
        # `to_json` kept the absent fields of the shards.
        values["shards"] = [plain_record(shard) for shard in record.shards]
    return values


def identity_of(record: ShardRecord) -> dict[str, Any]:
    """What a shard's record says of its files: the shard's part of a store's `content`."""
    values = plain_record(record)
    values.pop("norms", None)
    return values


def record_bytes(record: ShardRecord) -> bytes:
    """The bytes of a shard's `record.json`."""
    # Equal records have equal bytes: `verify` compares the file with what the manifest says.
    return canonical(plain_record(record)) + b"\n"


def read_record(
    split: Path,
    index: int,
    layers: tuple[int, ...],
) -> ShardRecord | None:
    """The record of a finished shard, whose files all have their sizes.

    Their hashes are not computed: they were when the shard was written.

    Args:
        split: folder of the split.
        index: number of the shard.
        layers: those that the recipe lists.

    Returns:
        None if the shard is not finished.

    Raises:
        UsageError: the shard is damaged.
    """
    folder = split / shard_name(index)
    # First: a link to a file that was not fetched looks like a shard that was not written.
    require_fetched(folder / RECORD)
    if not folder.exists():
        return None
    fix = f"Delete {folder} and run the same command again: the other shards are kept."
    if (split.parent / MANIFEST).exists():
        # A shard of a finished store is not written again by the command that extends it.
        fix = DAMAGED
    try:
        record = from_json(ShardRecord, read_json(folder / RECORD))
        _check_shard(folder, record, index, layers)
    except NotFetched:
        # Nothing is to be deleted: the file only has to be fetched.
        raise
    except UsageError as error:
        raise UsageError(error.rule, error.got, fix) from error
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise UsageError(
            rule="a shard's record must be complete", got=f"{folder / RECORD} ({error})", fix=fix
        ) from error
    return record


def _check_shard(
    folder: Path,
    record: ShardRecord,
    index: int,
    layers: tuple[int, ...],
) -> None:
    dtypes = record.layer_dtypes
    if tuple(dtypes) != layers:
        raise UsageError(
            rule="a shard's record must list the recipe's layers", got=folder / RECORD, fix=DAMAGED
        )
    # Names are made from numbers, never taken from a file: one could lead out of the store.
    names = shard_files(dtypes, index)
    if set(record.files) != set(names):
        raise UsageError(
            rule="a shard's record must list its files", got=folder / RECORD, fix=DAMAGED
        )
    for name in names:
        check_file(folder / name, record.files[name], trust=True)


def check_split(split: SplitRecord, layers: tuple[int, ...]) -> None:
    """Check that a manifest lists exactly the files that a split of these layers has.

    File names are built from indexes and never taken from a manifest.

    Raises:
        ValueError: files are missing or foreign, a record of one is malformed, or counts do not
            agree.
    """
    # A task without labels writes no such file.
    optional = {LABELS}
    required = set(SPLIT_ARRAYS) - optional
    # Anything else could be a path out of the store.
    if not required <= set(split.arrays) <= required | optional:
        raise ValueError(f"row arrays {sorted(split.arrays)}")
    for index, shard in enumerate(split.shards):
        dtypes = shard.layer_dtypes
        expected = set(shard_files(dtypes, index))
        if tuple(dtypes) != layers or set(shard.files) != expected:
            raise ValueError(f"files of shard {index}: {sorted(shard.files)}")
    for file in split.files:
        if not _is_file_record(file):
            raise ValueError(f"file record {file}")
    _check_counts(split)


def _check_counts(split: SplitRecord) -> None:
    """Compare a split's counts with one another, and with the bytes of the files that they are of.

    They decide how much memory is taken, and no hash covers the sums.

    Raises:
        ValueError: they do not agree.
    """
    sums = sum_up(split.rows, split.shards, split.arrays)
    for name in ("texts", "tokens", "truncated", "empty", "max_abs"):
        stated = getattr(split, name)
        summed = getattr(sums, name)
        if stated != summed:
            raise ValueError(f"{name} {stated}, of shards with {summed}")
    # Offsets are one more than rows.
    _require_fit(split.rows + 1, 8, split.arrays["row_offsets.npy"])
    for shard in split.shards:
        _require_fit(shard.texts, 4, shard.files["lengths.npy"])
        _require_fit(shard.tokens, 4, shard.files["token_ids.npy"])


def _require_fit(count: int, size: int, file: FileRecord) -> None:
    """Raise ValueError unless a file has bytes for so many numbers of a size."""
    if not 0 <= count * size <= file["bytes"]:
        raise ValueError(f"{count} numbers of {size} bytes in a file of {file['bytes']}")


def _is_file_record(values: Mapping[str, Any]) -> bool:
    # These values decide which bytes are accepted as the store's: nothing about them is guessed.
    if set(values) != {"sha256", "bytes"}:
        return False
    if not isinstance(values["bytes"], int) or values["bytes"] < 0:
        return False
    return _SHA256.fullmatch(values["sha256"]) is not None


def sum_up(
    rows: int,
    shards: Sequence[ShardRecord],
    arrays: dict[str, FileRecord],
    *,
    duplicates: int | None = None,
    appended: tuple[Appended, ...] | None = None,
) -> SplitRecord:
    """The record of a split with these shards and row arrays; other arguments as in it."""
    return SplitRecord(
        rows=rows,
        texts=sum(shard.texts for shard in shards),
        tokens=sum(shard.tokens for shard in shards),
        truncated=sum(shard.truncated for shard in shards),
        empty=sum(shard.empty for shard in shards),
        # A split may have no shard: a task may have no text at all in it.
        max_abs=max((shard.max_abs for shard in shards), default=0.0),
        shards=tuple(shards),
        arrays=arrays,
        cosine_error=_joint_error(shards),
        duplicates=duplicates,
        appended=appended,
    )


def _joint_error(shards: Sequence[ShardRecord]) -> dict[str, float] | None:
    """Mean, weighted by tokens, and maximum over the shards that have a cosine error."""
    # Weighted by tokens, so that the mean is the one over all tokens whatever the shards' sizes.
    tokens = 0
    weighted: list[float] = []
    largest: list[float] = []
    for shard in shards:
        if shard.cosine_error is not None:
            tokens += shard.tokens
            weighted.append(shard.tokens * shard.cosine_error["mean"])
            largest.append(shard.cosine_error["max"])
    if not largest:
        return None
    # Shards of empty texts have no token; their mean error is 0.
    # Summed by `sum`, whose rounding the manifests of earlier versions have.
    mean = sum(weighted) / max(1, tokens)
    return {"mean": mean, "max": max(largest)}
