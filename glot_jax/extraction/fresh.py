"""A store from its first row to its manifest, written by one process."""

from __future__ import annotations

from glot_jax.extraction.finished_store import finished_by
from glot_jax.extraction.job import LocalJob
from glot_jax.extraction.out_folder import empty_folders_removed, require_same_recipe
from glot_jax.extraction.progress import estimate_tokens
from glot_jax.extraction.shard import OpenSplit, store_shards
from glot_jax.extraction.shard_texts import cut_shards
from glot_jax.extraction.split_files import (
    begin,
    refuse_further,
    write_row_arrays,
    write_splits,
)
from glot_jax.store.finish import refuse_foreign, remove_leftovers
from glot_jax.store.lock import StoreLock
from glot_jax.store.manifest import Manifest
from glot_jax.store.reader import HiddenStore
from glot_jax.store.records import SplitRecord, sum_up
from glot_jax.store.writer_thread import WriterThread


def write_store(job: LocalJob) -> HiddenStore:
    """Write a store, or continue it after its last finished shard.

    A store that is finished already is checked and left as it is.
    """
    return finished_by(job, lambda lock: _write(job, lock))


def _write(job: LocalJob, lock: StoreLock) -> None:
    require_same_recipe(job.store, lock.begun_with(), job.recipe)
    remove_leftovers(job.out)
    splits = job.data.splits
    # Before the lock's recipe is written: an extraction that does not fit the disk leaves nothing.
    tokens = estimate_tokens(splits, job.backbone)
    present = job.stored_bytes()
    begin(
        job,
        lock,
        job.recipe,
        tokens,
        present=present,
    )

    def start(name: str, thread: WriterThread) -> OpenSplit:
        table = job.new_table()
        # Lazily: texts are read, tokenised and run one shard at a time.
        shards = cut_shards(
            splits[name],
            job.backbone,
            job.config.shard_tokens,
            table,
        )
        return store_shards(
            job,
            name,
            enumerate(shards),
            table,
            tokens[name],
            thread,
        )

    def seal(split: OpenSplit, thread: WriterThread) -> SplitRecord:
        return _seal(job, split, thread)

    with empty_folders_removed(job.out):
        records = write_splits(splits, start, seal, job.thread())
    refuse_foreign(job.out, splits)
    probe = job.backbone.probe.to_json()
    task = job.data.spec.to_json()
    manifest = Manifest.build(
        job.recipe,
        task,
        records,
        probe=probe,
    )
    job.publish(manifest, records)


def _seal(
    job: LocalJob,
    split: OpenSplit,
    thread: WriterThread,
) -> SplitRecord:
    """Write the row arrays behind the last shard, and say what the split holds."""
    folder = job.out / split.name
    shards = split.records(thread)
    refuse_further(job, split.name, len(shards))
    arrays = write_row_arrays(folder, split.table.arrays())
    # None where nobody asked: earlier versions have no such field.
    duplicates = split.table.duplicates if job.config.deduplicate else None
    record = sum_up(
        split.table.rows,
        shards,
        arrays,
        duplicates=duplicates,
    )
    split.progress.summarise(record, job.backbone.max_length)
    return record
