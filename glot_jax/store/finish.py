"""The last steps of a store: the shards of workers put together, leftovers removed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from glot_jax import disk
from glot_jax.config.location import Location, parse_location, require_folder
from glot_jax.errors import HeldByAnotherError, UsageError
from glot_jax.files import TEMPORARY, explain_write_error
from glot_jax.store.integrity import FileRecord, check_file
from glot_jax.store.layout import (
    EXTRACT_AGAIN,
    MANIFEST,
    RECORD,
    SPLIT_ARRAYS,
    TEXT_FILES,
    array_file,
    check_split_name,
    shard_name,
)
from glot_jax.store.lock import StoreLock
from glot_jax.store.manifest import Manifest, read_manifest, write_manifest
from glot_jax.store.recipe import PendingAppend, Recipe
from glot_jax.store.records import ShardRecord, SplitRecord, read_record, sum_up
from glot_jax.store.worker_plan import SplitPlan, WorkerPlan, read_plan

Lock = TypeVar("Lock", bound=StoreLock)

LOOK_SECONDS = 0.2
_PATIENCE_SECONDS = 600.0
"""How long another `finish` is waited for."""

OTHER_TEXTS = "The data changed since: choose another --out, or restore the data."


def finish(
    path: Location,
    notice: Callable[[str], None] | None = None,
) -> Manifest:
    """Make a store of the shards that workers wrote (`extract.py --worker I/N`).

    A finished store is left as it is, also where another process finishes it meanwhile. Files are
    compared with their recorded sizes; their hashes were computed when they were written, and
    `verify` computes them again.

    Args:
        path: folder of the store.
        notice: called with a line for the user.

    Returns:
        The manifest of the store.

    Raises:
        UsageError: a worker is still writing, shards are missing (it names the worker that writes
            them), or shards are damaged.
    """
    store = require_folder(parse_location(path))
    # It is written last: nothing is left to do.
    if (store / MANIFEST).exists():
        return read_manifest(store)

    def is_nearly_done() -> bool:
        # In this order: what is finished in between has no plan any more, but a manifest.
        return has_every_shard(store) or (store / MANIFEST).exists()

    # The lock of an only writer: it refuses while any worker holds its own.
    with in_turn(StoreLock(store, notice), is_nearly_done, LOOK_SECONDS) as lock:
        # Looked for again under the lock: another process may have been first.
        if (store / MANIFEST).exists():
            manifest = read_manifest(store)
        else:
            manifest = assemble(_Folder(store), lock.begun_with(), read_plan(store))
            refuse_foreign(store, manifest.splits)
            remove_leftovers(store)
            # The manifest comes last: whatever it lists must be on the disk by then.
            sync_folders(store, manifest.splits)
            write_manifest(store, manifest)
        lock.finished()
    return manifest


@contextlib.contextmanager
def in_turn(
    lock: Lock,
    is_nearly_done: Callable[[], bool],
    seconds: float,
) -> Generator[Lock]:
    """The right to finish a store, for the block; waited for while nothing else is left to do.

    Where every shard is there, its holder is another `finish` or a worker on its way out.

    Args:
        lock: of an only writer.
        is_nearly_done: whether every shard is there, or the whole store.
        seconds: between two looks.

    Raises:
        HeldByAnotherError: a process is still writing shards, or does not come to its end.
    """
    waited = 0.0
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock)
                break
            except HeldByAnotherError:
                if waited >= _PATIENCE_SECONDS or not is_nearly_done():
                    raise
            time.sleep(seconds)
            waited += seconds
        yield lock


class Written(Protocol):
    """What workers have written of a store, wherever it lies."""

    @property
    def place(self) -> Location:
        """Where it lies."""
        ...

    def record(
        self,
        split: str,
        index: int,
        layers: tuple[int, ...],
    ) -> ShardRecord | None:
        """The record of a shard, whose files all have their sizes; None where it is missing."""
        ...

    def has_shard(self, split: str, index: int) -> bool:
        """Whether anything of a shard is there."""
        ...

    def check_array(self, split: str, name: str, record: FileRecord) -> None:
        """Raise UsageError unless a row array is the one of its record."""
        ...


class _Folder:
    """What workers have written into a folder."""

    def __init__(self, store: Path):
        self.place = store

    def record(
        self,
        split: str,
        index: int,
        layers: tuple[int, ...],
    ) -> ShardRecord | None:
        """See `Written`."""
        return read_record(self.place / split, index, layers)

    def has_shard(self, split: str, index: int) -> bool:
        """See `Written`."""
        return (self.place / split / shard_name(index)).exists()

    def check_array(self, split: str, name: str, record: FileRecord) -> None:
        """See `Written`."""
        # Hashed, unlike the shards: nobody has read them since they were written.
        check_file(self.place / split / name, record)


def assemble(
    written: Written,
    begun: Recipe | PendingAppend | None,
    plan: WorkerPlan | None,
) -> Manifest:
    """The manifest of the store that workers have written.

    Args:
        written: their shards and row arrays.
        begun: what the store was begun with.
        plan: what it will consist of.

    Raises:
        UsageError: as for `finish`.
    """
    if not isinstance(begun, Recipe):
        raise UsageError(
            rule="workers must have written the shards of a store before it is finished",
            got=written.place,
            fix="Run extract.py --worker I/N for every I first.",
        )
    if plan is None:
        raise UsageError(
            rule="every worker must come to its end before a store is finished",
            got=f"{written.place}, where worker 0 has not",
            fix="Run it again.",
        )
    splits = _put_together(written, plan, begun.layers)
    return Manifest.build(
        begun,
        plan.task,
        splits,
        probe=plan.probe,
    )


def has_every_shard(store: Path) -> bool:
    """Whether all workers have written their shards, and nobody has finished the store yet.

    Nothing is read but names: `finish` checks what they hold.
    """
    if (store / MANIFEST).exists():
        return False
    plan = read_plan(store)
    # Worker 0 writes it at its end.
    if plan is None:
        return False
    for name, split in plan.splits.items():
        for index in range(len(split.texts)):
            if not (store / name / shard_name(index) / RECORD).is_file():
                return False
    return True


class _MissingShard(NamedTuple):
    number: int
    """Its number over all splits, which decides the worker that writes it."""
    name: str


def _put_together(
    written: Written,
    plan: WorkerPlan,
    layers: tuple[int, ...],
) -> dict[str, SplitRecord]:
    """The records of all splits."""
    splits: dict[str, SplitRecord] = {}
    missing: list[_MissingShard] = []
    first_number = 0
    for name, split in plan.splits.items():
        check_split_name(name)
        folder = written.place / name
        records = []
        for index, texts in enumerate(split.texts):
            number = first_number + index
            record = written.record(name, index, layers)
            if record is None:
                missing.append(_MissingShard(number, f"{name}/{shard_name(index)}"))
                continue
            _refuse_other_texts(
                folder / shard_name(index),
                texts,
                record,
                number,
                plan.workers,
            )
            records.append(record)
        # Worker 0 may have read fewer texts than a worker that ran before the data changed.
        if written.has_shard(name, len(split.texts)):
            raise _extra_shard(folder / shard_name(len(split.texts)))
        splits[name] = _split_record(written, name, split, records)
        first_number += len(split.texts)
    # All of them in one message, after the whole store was looked at.
    _refuse_missing(written.place, missing, plan.workers)
    return splits


def _split_record(
    written: Written,
    name: str,
    plan: SplitPlan,
    records: list[ShardRecord],
) -> SplitRecord:
    for array, record in plan.arrays.items():
        written.check_array(name, array, record)
    return sum_up(
        plan.rows,
        records,
        plan.arrays,
        duplicates=plan.duplicates,
    )


def _refuse_other_texts(
    shard: Location,
    texts: tuple[str, ...],
    record: ShardRecord,
    number: int,
    workers: int,
) -> None:
    """Compare a shard's texts with those that worker 0 saw, which cut every shard."""
    written = tuple(record.files[name]["sha256"] for name in TEXT_FILES)
    if written != texts:
        raise UsageError(
            rule="workers must write the shards of the same texts",
            got=f"{shard} of other texts than worker 0 saw",
            fix="Restore the data, delete that folder, and run extract.py again with --worker"
            f" {number % workers}/{workers}.",
        )


def _extra_shard(shard: Location) -> UsageError:
    return UsageError(
        rule="workers must write the shards of the same texts",
        got=f"{shard}, beyond the last text that worker 0 saw",
        fix="Restore the data and run worker 0 again, or delete that folder.",
    )


def _refuse_missing(
    store: Location,
    missing: list[_MissingShard],
    workers: int,
) -> None:
    if not missing:
        return
    shown = missing[:5]
    names = ", ".join(shard.name for shard in shown)
    if len(missing) > len(shown):
        names += f" and {len(missing) - len(shown)} more"
    # Shards go to workers by their number over all splits.
    owners = sorted({shard.number % workers for shard in missing})
    flags = ", ".join(f"--worker {owner}/{workers}" for owner in owners)
    raise UsageError(
        rule="every shard of a store must be there before it is finished",
        got=f"{store} without {names}",
        fix=f"Run extract.py again with {flags}.",
    )


def refuse_foreign(store: Path, splits: Iterable[str]) -> None:
    """Raise UsageError if a store in the making holds anything but its splits."""
    names = {path.name for path in store.iterdir()}
    # Leftovers are removed afterwards.
    leftovers = {path.name for path in store.glob(f"{TEMPORARY}*")}
    foreign = sorted(names - leftovers - set(splits))
    if foreign:
        raise UsageError(
            rule="a store in the making must hold nothing but the splits of its task",
            got=f"{', '.join(foreign)} in {store}",
            fix=OTHER_TEXTS,
        )


def sync_folders(store: Path, splits: Iterable[str]) -> None:
    """Make the names of all splits and shards survive a power cut.

    Called before the manifest is written: an earlier run may have been killed between a rename and
    its fsync.

    Raises:
        UsageError: the disk refused.
    """
    folders = [store / name for name in splits]
    # The parent holds the store's own name.
    for folder in (*folders, store, store.absolute().parent):
        try:
            disk.sync_folder(folder)
        except OSError as error:
            explain_write_error(error, folder, again=EXTRACT_AGAIN)


def remove_leftovers(store: Path) -> None:
    """Remove what an interrupted run was writing when it died.

    Nothing behind a linked folder is touched: no run writes there.
    """
    folders = [store]
    if store.is_dir():
        for path in store.iterdir():
            if path.is_dir() and not path.is_symlink():
                folders.append(path)
    for folder in folders:
        for leftover in folder.glob(f"{TEMPORARY}*"):
            disk.remove(leftover)


def remove_attempts(folder: Path, index: int) -> None:
    """Remove what earlier attempts at a shard have left.

    For who alone may write it: an attempt that is still under way looks the same.
    """
    for attempt in folder.glob(f"{TEMPORARY}*-{shard_name(index)}"):
        disk.remove(attempt)


def remove_superseded(store: Path, manifest: Manifest) -> None:
    """Remove the row arrays of the time before an append, and all leftovers.

    Of a link the link goes, not its target.
    """
    for name, split in manifest.splits.items():
        folder = store / name
        if folder.is_symlink():
            # An append refuses to write there, so there is nothing of ours to remove.
            continue
        for earlier in range(len(split.appended or ())):
            for array in SPLIT_ARRAYS:
                disk.remove(folder / array_file(array, earlier))
    remove_leftovers(store)
