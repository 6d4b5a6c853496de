"""The files of one split: its shards through the writer, and its row arrays."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.extraction.job import Job
from glot_jax.extraction.out_folder import require_same_recipe
from glot_jax.extraction.progress import SplitProgress, check_disk
from glot_jax.extraction.row_table import RowTable
from glot_jax.extraction.shard import ShardTarget, finished_shard, write_shard
from glot_jax.extraction.shard_texts import ShardTexts
from glot_jax.files import make_folders, write_bytes
from glot_jax.store.arrays import npy_bytes
from glot_jax.store.finish import OTHER_TEXTS
from glot_jax.store.integrity import FileRecord
from glot_jax.store.layout import EXTRACT_AGAIN, array_file, refuse_link, shard_name
from glot_jax.store.lock import StoreLock
from glot_jax.store.recipe import PendingAppend, Recipe
from glot_jax.store.records import ShardRecord
from glot_jax.store.writer_thread import WriterThread

Sealed = TypeVar("Sealed")


@dataclasses.dataclass(frozen=True)
class OpenSplit:
    """A split whose shards have all been handed to the writer.

    The last of them may still be on their way to the disk.
    """

    name: str
    table: RowTable
    """Its rows, complete."""
    progress: SplitProgress
    shards: list[ShardRecord | Future[ShardRecord]]

    def records(self, thread: WriterThread) -> list[ShardRecord]:
        """Wait until every shard is on the disk, and return their records in order."""
        records = []
        for shard in self.shards:
            records.append(thread.result(shard) if isinstance(shard, Future) else shard)
        return records


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
    tokens_in_all = sum(tokens.values())
    room = check_disk(job.out, tokens_in_all, job.backbone, job.config, present, workers)
    begun = lock.begin(work)
    if isinstance(work, Recipe):
        # Of workers that start together the first one's recipe is kept, and the others compare.
        require_same_recipe(job.out, begun, work)
    # Said only now: of an extraction that is refused the error is the only line.
    job.announce()
    job.say(room)


def write_splits(
    names: Iterable[str],
    start: Callable[[str, WriterThread], OpenSplit],
    seal: Callable[[OpenSplit, WriterThread], Sealed],
) -> dict[str, Sealed]:
    """Run the model over splits, one after the other.

    The last shard of a split is sealed while the model runs over the next split.

    Args:
        names: of the splits.
        start: runs the model over a split.
        seal: waits for the split's shards and writes its row arrays.

    Returns:
        Split -> what `seal` returned.
    """
    sealed = {}
    waiting: OpenSplit | None = None
    with WriterThread() as thread:
        for name in names:
            running = start(name, thread)
            if waiting is not None:
                sealed[waiting.name] = seal(waiting, thread)
            waiting = running
        # Still inside: leaving the block ends the threads that seal.
        if waiting is not None:
            sealed[waiting.name] = seal(waiting, thread)
    return sealed


def store_shards(
    job: Job,
    name: str,
    shards: Iterable[tuple[int, ShardTexts]],
    table: RowTable,
    tokens: int,
    thread: WriterThread,
) -> OpenSplit:
    """Hand every shard of a split that is missing to the writer.

    Args:
        job: the extraction.
        name: of the split.
        shards: (index, texts) of the shards to store, cut as they are taken.
        table: is filled by the cutting.
        tokens: of these shards, about, for the progress bar.
        thread: writes the shards.
    """
    folder = job.out / name
    # Behind a link may be a cache that other stores share (DVC, git-annex).
    refuse_link(folder)
    records: list[ShardRecord | Future[ShardRecord]] = []
    with SplitProgress(job.console, name, tokens) as progress:
        target = ShardTarget(
            split=name,
            folder=folder,
            backbone=job.backbone,
            storage_dtype=job.config.storage_dtype,
            tokens_per_batch=job.config.tokens_per_batch,
            thread=thread,
            progress=progress,
            notice=job.say,
        )
        for index, texts in shards:
            # Resuming is nothing but this: a shard is a folder that appears whole, so one that is
            # there and holds these texts need not be made again.
            record = finished_shard(folder, index, texts, job.backbone.layers)
            if record is None:
                records.append(write_shard(target, index, texts))
            else:
                progress.find(record.tokens)
                records.append(record)
    return OpenSplit(name, table, progress, records)


def refuse_further_shard(folder: Path, shards: int) -> None:
    """Raise UsageError if a split's folder holds a shard beyond its last text."""
    # The next one is enough: shards are numbered without gaps.
    further = folder / shard_name(shards)
    if further.exists():
        raise UsageError(
            rule="the texts must be those that the store was begun with",
            got=f"{further}, a shard beyond the last text",
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
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
