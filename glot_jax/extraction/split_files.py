"""Splits on their way to the disk: what precedes the first shard, their order, their row arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from glot_jax.config.location import Location
from glot_jax.errors import UsageError
from glot_jax.extraction.job import Job
from glot_jax.extraction.out_folder import require_same_recipe
from glot_jax.extraction.progress import check_disk
from glot_jax.extraction.shard import OpenSplit
from glot_jax.files import make_folders, write_bytes
from glot_jax.store.arrays import npy_bytes
from glot_jax.store.finish import OTHER_TEXTS
from glot_jax.store.integrity import FileRecord
from glot_jax.store.layout import EXTRACT_AGAIN, array_file, refuse_link, shard_name
from glot_jax.store.lock import StoreLock
from glot_jax.store.recipe import PendingAppend, Recipe
from glot_jax.store.writer_thread import WriterThread

Sealed = TypeVar("Sealed")


def begin(
    job: Job,
    lock: StoreLock,
    work: Recipe | PendingAppend,
    tokens: Mapping[str, int],
    *,
    present: int = 0,
    workers: int = 1,
) -> None:
    """Do what stands between the lock and the first shard: room, recipe, notices.

    Args:
        job: the extraction.
        lock: held; it keeps the recipe for the runs that continue this one.
        work: what such a run will be compared with.
        tokens: split -> tokens to store, about.
        present: bytes of states that are stored already.
        workers: how many share the work.
    """
    # All splits share one disk.
    tokens_in_all = sum(tokens.values())
    room = check_disk(job.out, tokens_in_all, job.backbone, job.config, present, workers)
    begun = lock.begin(work)
    if isinstance(work, Recipe):
        # Of workers that start together the first one's recipe is kept, and the others compare.
        require_same_recipe(job.store, begun, work)
    # Said only now: of an extraction that is refused the error is the only line.
    job.announce()
    job.say(room)


def write_splits(
    names: Iterable[str],
    start: Callable[[str, WriterThread], OpenSplit],
    seal: Callable[[OpenSplit, WriterThread], Sealed],
    writer: WriterThread | None = None,
) -> dict[str, Sealed]:
    """Run the model over splits, one after the other.

    The last shard of a split is sealed while the model runs over the next split.

    Args:
        names: of the splits.
        start: runs the model over a split.
        seal: waits for the split's shards and writes its row arrays.
        writer: writes the shards, and is not entered yet. Default: one that leaves them there.

    Returns:
        Split -> what `seal` returned.
    """
    sealed = {}
    waiting: OpenSplit | None = None
    with writer or WriterThread() as thread:
        for name in names:
            running = start(name, thread)
            if waiting is not None:
                sealed[waiting.name] = seal(waiting, thread)
            waiting = running
        # Still inside: leaving the block ends the threads that seal.
        if waiting is not None:
            sealed[waiting.name] = seal(waiting, thread)
    return sealed


def refuse_further_shard(folder: Path, shards: int) -> None:
    """Raise UsageError if a split's folder holds a shard beyond its last text."""
    # The next one is enough: shards are numbered without gaps.
    further = folder / shard_name(shards)
    if further.exists():
        raise further_shard(further)


def refuse_further(job: Job, split: str, shards: int) -> None:
    """Raise UsageError if a split holds a shard beyond its last text, wherever the store lies."""
    refuse_further_shard(job.out / split, shards)
    if job.remote is not None and job.remote.files.has_part(split, shards):
        raise further_shard(job.remote.url / split / shard_name(shards))


def further_shard(shard: Location) -> UsageError:
    """The error about a shard beyond the last text."""
    return UsageError(
        rule="the texts must be those that the store was begun with",
        got=f"{shard}, a shard beyond the last text",
        fix=OTHER_TEXTS,
    )


def write_row_arrays(
    folder: Path,
    arrays: Mapping[str, np.ndarray],
    appended: int = 0,
) -> dict[str, FileRecord]:
    """Write a split's row arrays, and leave those that an earlier run wrote as they are.

    Args:
        folder: of the split.
        arrays: of its RowTable.
        appended: how often rows were appended: each time writes files of its own.

    Returns:
        Array -> size and hash of its file.

    Raises:
        UsageError: an earlier run wrote other rows.
    """
    records = {}
    for name, array in arrays.items():
        path = folder / array_file(name, appended)
        content = npy_bytes(array)
        if not has_rows(path, content):
            # A worker may have no shard of this split, which would have made the folder.
            make_folders(folder)
            write_bytes(path, content, again=EXTRACT_AGAIN)
        records[name] = file_record(content)
    return records


def has_rows(path: Path, content: bytes) -> bool:
    """Whether a row array is written; UsageError where it has other content."""
    refuse_link(path)
    if not path.exists():
        return False
    if path.read_bytes() != content:
        raise UsageError(
            rule="the rows must be those that the store was begun with",
            got=f"other rows or labels than those of {path}",
            fix=OTHER_TEXTS,
        )
    return True


def file_record(content: bytes) -> FileRecord:
    """Return what a manifest says about a file with this content."""
    digest = hashlib.sha256(content).hexdigest()
    return {"sha256": digest, "bytes": len(content)}
