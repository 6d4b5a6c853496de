"""Rows added to a finished store: new shards and row arrays beside the old ones, then the manifest.

Until the manifest is replaced the store stays what it was.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping

from glot_jax.errors import UsageError
from glot_jax.extraction.job import LocalJob
from glot_jax.extraction.out_folder import (
    empty_folders_removed,
    other_append,
    require_same_recipe,
)
from glot_jax.extraction.progress import estimate_tokens
from glot_jax.extraction.row_table import RowTable, row_key
from glot_jax.extraction.shard import OpenSplit, store_shards
from glot_jax.extraction.shard_texts import cut_shards
from glot_jax.extraction.split_files import (
    begin,
    refuse_further,
    write_row_arrays,
    write_splits,
)
from glot_jax.store.finish import remove_leftovers
from glot_jax.store.lock import StoreLock
from glot_jax.store.manifest import Manifest
from glot_jax.store.reader import HiddenStore
from glot_jax.store.recipe import PendingAppend
from glot_jax.store.records import Appended, SplitRecord, sum_up
from glot_jax.store.split_reader import SplitReader
from glot_jax.store.writer_thread import WriterThread
from glot_jax.texts import Split

_SAMPLING = ("max_train_rows", "sample_seed")
"""Fields of a recipe that say which rows were taken, and nothing about their states."""


def append_rows(job: LocalJob) -> HiddenStore:
    """Add the rows of a job's data to the finished store in its folder.

    Rows that were added before are not added again. Of files that begin with every stored row only
    the rest is added.

    Raises:
        UsageError: the store is not finished, has another recipe, is being grown by another
            append, or has a part of the rows.
    """
    manifest = job.manifest()
    require_same_recipe(job.store, manifest.recipe, job.recipe, ignore=_SAMPLING)
    # Not trusted: what is read of it here, rows and labels, is written again under a new hash.
    store = HiddenStore(job.store)
    additions = {}
    for name, split in job.data.splits.items():
        addition = _find_new_rows(job, split, _stored_split(store, name))
        if addition.rows:
            additions[name] = addition
    appended_before = [name for name, addition in additions.items() if addition.is_stored]
    # All of them were: then there is nothing to do. Some: then a part would be stored twice.
    if 0 < len(appended_before) < len(additions):
        raise UsageError(
            rule="rows must be appended once",
            got=f"those of {', '.join(appended_before)}, which {job.store} has",
            fix="Leave their file out of --data.",
        )
    with job.lock() as lock:
        # Read again under the lock: another append may have ended since the look above.
        if job.manifest().content != manifest.content:
            raise UsageError(
                rule="a store must grow by one append at a time",
                got=f"{job.store}, which another one extended meanwhile",
                fix="Run the same command again.",
            )
        if len(appended_before) == len(additions):
            _tidy_up(job, lock, manifest)
            return store
        grown = _write(job, lock, manifest, additions)
        lock.finished()
    job.clear()
    added = ", ".join(f"{addition.rows:,} to {name}" for name, addition in additions.items())
    job.say(
        f"{job.store}: extended by rows: {added}; content {manifest.content[:12]} ->"
        f" {grown.content[:12]}"
    )
    return HiddenStore(job.store, trust=True)


def _tidy_up(job: LocalJob, lock: StoreLock, manifest: Manifest) -> None:
    """Finish an append that was killed behind its manifest, or that was repeated."""
    finished = set()
    for split in manifest.splits.values():
        finished |= {append.sha256 for append in split.appended or ()}
    begun = lock.begun_with()
    # What was begun may be other rows than those that are here already.
    if isinstance(begun, PendingAppend) and not set(begun.append.values()) <= finished:
        raise other_append(job.store, f"another one of {job.store}")
    job.remove_superseded(manifest)
    lock.finished()
    job.announce()
    job.say(
        f"{job.store}: holds these rows already, content {manifest.content[:12]}; nothing to do"
    )


def _write(
    job: LocalJob,
    lock: StoreLock,
    manifest: Manifest,
    additions: Mapping[str, _Addition],
) -> Manifest:
    """Write the new rows and the manifest that names them; what they replace goes last."""
    # Shards that an append began and did not finish belong to its rows, and to no others.
    hashes = {name: addition.sha256 for name, addition in additions.items()}
    pending = PendingAppend(hashes, manifest.content)
    if lock.begun_with() not in (None, pending):
        raise other_append(job.store, f"other rows, or another {job.store}")
    remove_leftovers(job.out)
    # Estimated over whole splits, of which only the new rows are stored.
    splits = {name: addition.split for name, addition in additions.items()}
    tokens = estimate_tokens(splits, job.backbone)
    for name, addition in additions.items():
        scaled = tokens[name] * addition.rows
        tokens[name] = round(scaled / len(addition.split))
    begin(job, lock, pending, tokens)

    def start(name: str, thread: WriterThread) -> OpenSplit:
        return _start(job, additions[name], tokens[name], thread)

    def seal(split: OpenSplit, thread: WriterThread) -> SplitRecord:
        return _seal(job, additions[split.name], split, thread)

    with empty_folders_removed(job.out):
        records = write_splits(additions, start, seal, job.thread())
    splits = {**manifest.splits, **records}
    grown = Manifest.build(
        manifest.recipe,
        manifest.task,
        splits,
        probe=manifest.probe,
    )
    # In this order: a run that dies between two of these lines leaves the old store or the new one.
    job.publish(grown, records)
    job.remove_superseded(grown)
    return grown


def _start(
    job: LocalJob,
    addition: _Addition,
    tokens: int,
    thread: WriterThread,
) -> OpenSplit:
    """Run the model over the new rows of a split; its new shards are numbered after the old."""
    table = RowTable(
        job.data.spec,
        deduplicate=job.config.deduplicate,
        digest=True,
    )
    first_shard = 0
    if addition.stored is not None:
        # With `--deduplicate` new texts that are stored already get the numbers of these.
        table.continue_from(addition.stored.reader)
        first_shard = len(addition.stored.record.shards)
    examples = itertools.islice(addition.split, addition.first, None)
    shards = cut_shards(examples, job.backbone, job.config.shard_tokens, table)
    numbered = enumerate(shards, first_shard)
    return store_shards(job, addition.split.name, numbered, table, tokens, thread)


def _seal(
    job: LocalJob,
    addition: _Addition,
    split: OpenSplit,
    thread: WriterThread,
) -> SplitRecord:
    """Write the row arrays of old and new rows, and return the grown split's record."""
    folder = job.out / split.name
    table = split.table
    shards = split.records(thread)
    rows = table.rows
    texts = table.texts
    duplicates = table.duplicates
    earlier: tuple[Appended, ...] = ()
    if addition.stored is not None:
        record = addition.stored.record
        shards = [*record.shards, *shards]
        rows += record.rows
        texts -= record.texts
        duplicates += record.duplicates or 0
        earlier = record.appended or ()
    refuse_further(job, split.name, len(shards))
    appended = (*earlier, Appended(table.rows, texts, table.sha256))
    # The old arrays stay until the manifest names these ones: their names say how often.
    arrays = write_row_arrays(folder, table.arrays(), len(appended))
    grown = sum_up(
        rows,
        shards,
        arrays,
        duplicates=duplicates if job.config.deduplicate else None,
        appended=appended,
    )
    split.progress.summarise(grown, job.backbone.max_length)
    return grown


@dataclasses.dataclass(frozen=True)
class _StoredSplit:
    """A split of the store, before the append."""

    record: SplitRecord
    reader: SplitReader


@dataclasses.dataclass(frozen=True)
class _Addition:
    """The rows that an append adds to a split."""

    split: Split
    """As read from the user's files."""
    stored: _StoredSplit | None
    """None where the split is new."""
    first: int
    """First row of the files that is new."""
    sha256: str
    """Over the new rows: tells them from those of other appends."""

    @property
    def rows(self) -> int:
        """How many rows are new."""
        return len(self.split) - self.first

    @property
    def is_stored(self) -> bool:
        """Whether an earlier append added these rows."""
        if self.stored is None:
            return False
        appended = self.stored.record.appended or ()
        return self.sha256 in {append.sha256 for append in appended}


def _stored_split(store: HiddenStore, name: str) -> _StoredSplit | None:
    if name not in store.manifest.splits:
        return None
    return _StoredSplit(store.manifest.splits[name], store[name])


def _find_new_rows(job: LocalJob, split: Split, stored: _StoredSplit | None) -> _Addition:
    """All rows of the files, or those after the ones that the store holds already.

    Files that begin with every row of the split are taken for the split's own, grown at the end.
    """
    first = 0
    # Fewer rows than the store has cannot be the store's own rows, grown.
    if stored is not None and len(split) >= stored.record.rows:
        first = _count_stored(job, split, stored)
    table = RowTable(job.data.spec, digest=True)
    examples = itertools.islice(split, first, len(split))
    for _ in cut_shards(examples, job.backbone, job.config.shard_tokens, table):
        # Only the table's hash is asked for.
        continue
    return _Addition(split, stored, first, table.sha256)


def _count_stored(job: LocalJob, split: Split, stored: _StoredSplit) -> int:
    """How many rows the files begin with that are the split's own: all or none.

    Where nearly all of them are, the file was changed, and adding it would store it once more:
    UsageError.
    """
    rows = stored.record.rows
    changed: list[int] = []
    stored_keys = _stored_keys(stored.reader)
    keys = _keys(job, split, rows)
    for row, (stored_key, key) in enumerate(zip(stored_keys, keys, strict=True)):
        if stored_key != key:
            changed.append(row)
            # Most rows differ: these are other rows. The rest need not be read.
            if 2 * len(changed) > rows:
                return 0
    if changed:
        raise UsageError(
            rule="files that an append reads must hold new rows alone, or begin with the rows of"
            " the store as they are",
            got=f"{split.name} with {len(changed):,} of the {rows:,} stored rows changed, the first"
            f" of them row {changed[0]}",
            fix="Leave the stored rows out of the file, or extract into another --out.",
        )
    return rows


def _keys(
    job: LocalJob,
    split: Split,
    rows: int,
) -> Iterator[bytes]:
    """`row_key` of the first rows of the files."""
    table = RowTable(job.data.spec, keys=True)
    examples = itertools.islice(split, rows)
    for _ in cut_shards(examples, job.backbone, job.config.shard_tokens, table):
        # Taken shard by shard, so that memory does not grow with the split.
        yield from table.take_keys()
    # Rows behind the last shard: those whose texts are all stored already.
    yield from table.take_keys()


def _stored_keys(reader: SplitReader) -> Iterator[bytes]:
    """`row_key` of every row of a stored split."""
    for row in range(len(reader)):
        # The slots of a row, which hold its texts in the order of their roles.
        first = reader.row_offsets[row]
        end = reader.row_offsets[row + 1]
        texts = reader.row_texts[first:end]
        ids = [reader.token_ids(text) for text in texts.tolist()]
        yield row_key(ids, reader.label(row))
