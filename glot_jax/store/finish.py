"""Stores put together from what is already on the disk: the shards of workers, and the row arrays
of an append.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from glot_jax import disk
from glot_jax.errors import UsageError, require
from glot_jax.files import TEMPORARY, explain_write_error
from glot_jax.store.arrays import check_file
from glot_jax.store.lock import StoreLock, read_plan
from glot_jax.store.manifest import (
    EXTRACT_AGAIN,
    MANIFEST,
    SPLIT_ARRAYS,
    TEXT_FILES,
    Manifest,
    ShardRecord,
    SplitRecord,
    array_file,
    check_split_name,
    read_manifest,
    read_record,
    shard_name,
    sum_up,
    write_manifest,
)
from glot_jax.store.recipe import Recipe

OTHER_TEXTS = "The data changed since: choose another --out, or restore the data."


def finish(path: Path, notice: Callable[[str], None] = lambda text: None) -> Manifest:
    """Make a store of the shards that workers wrote (`extract.py --worker I/N`), and return its
    manifest.

    Raises UsageError while a worker is still writing, for shards that are missing (naming the
    worker that writes them) and for damaged ones. A finished store is left as it is. Files are
    compared with their recorded sizes; their hashes were computed when they were written, and
    `verify` computes them again.
    """
    store = Path(path)
    if (store / MANIFEST).exists():
        return read_manifest(store)
    with StoreLock(store, notice) as lock:
        recipe, plan = lock.begun_with(), read_plan(store)
        if not isinstance(recipe, Recipe):
            raise UsageError(
                "a store is finished when workers have written its shards",
                store,
                "Run extract.py --worker I/N for every I first.",
            )
        if plan is None:
            raise UsageError(
                "every worker comes to its end before a store is finished",
                f"{store}, where worker 0 has not",
                "Run it again.",
            )
        layers, number = recipe.layers, 0
        splits: dict[str, SplitRecord] = {}
        missing: list[tuple[int, str]] = []
        for name, split in plan["splits"].items():
            check_split_name(name)
            records = [
                read_record(store / name, index, layers) for index in range(len(split["texts"]))
            ]
            missing += [
                (number + index, f"{name}/{shard_name(index)}")
                for index, record in enumerate(records)
                if record is None
            ]
            _refuse_other_texts(store / name, split["texts"], records, number, plan["workers"])
            number += len(records)
            splits[name] = _split(
                store / name, split, [record for record in records if record is not None]
            )
        _refuse_missing(store, missing, plan["workers"])
        refuse_foreign(store, splits)
        manifest = Manifest.build(recipe, plan["task"], splits, probe=plan.get("probe"))
        remove_leftovers(store)
        sync_folders(store, splits)
        write_manifest(store, manifest)
        lock.finished()
    return manifest


def _split(folder: Path, plan: dict[str, Any], records: list[ShardRecord]) -> SplitRecord:
    for name, expected in plan["arrays"].items():
        check_file(folder / name, expected)
    return sum_up(plan["rows"], records, plan["arrays"], duplicates=plan["duplicates"])


def _refuse_other_texts(
    folder: Path,
    texts: list[list[str]],
    records: list[ShardRecord | None],
    first: int,
    workers: int,
) -> None:
    """Worker 0 cut every shard: those of the others are compared with the texts that it saw."""
    for index, (expected, record) in enumerate(zip(texts, records, strict=True)):
        if record is not None and [record.files[name]["sha256"] for name in TEXT_FILES] != expected:
            raise UsageError(
                "workers write the shards of the same texts",
                f"{folder / shard_name(index)} of other texts than worker 0 saw",
                "Restore the data, delete that folder, and run extract.py again with --worker"
                f" {(first + index) % workers}/{workers}.",
            )
    extra = folder / shard_name(len(texts))
    require(
        not extra.exists(),
        "workers write the shards of the same texts",
        f"{extra}, beyond the last text that worker 0 saw",
        "Restore the data and run worker 0 again, or delete that folder.",
    )


def _refuse_missing(store: Path, missing: list[tuple[int, str]], workers: int) -> None:
    if missing:
        owners = sorted({number % workers for number, _ in missing})
        names = ", ".join(name for _, name in missing[:5]) + (
            f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        )
        again = ", ".join(f"--worker {owner}/{workers}" for owner in owners)
        raise UsageError(
            "a store is finished when every shard is there",
            f"{store} without {names}",
            f"Run extract.py again with {again}.",
        )


def refuse_foreign(store: Path, splits: Iterable[str]) -> None:
    """UsageError if a store in the making holds anything but its splits."""
    foreign = sorted(
        {path.name for path in store.iterdir() if not path.name.startswith(TEMPORARY)} - {*splits}
    )
    require(
        not foreign,
        "a store in the making holds the splits of its task",
        f"{', '.join(foreign)} in {store}",
        OTHER_TEXTS,
    )


def sync_folders(store: Path, splits: Iterable[str]) -> None:
    """Before the manifest: an earlier run may have been killed between a name and its fsync."""
    for folder in (*(store / name for name in splits), store, store.absolute().parent):
        try:
            disk.sync_folder(folder)
        except OSError as error:
            explain_write_error(error, folder, again=EXTRACT_AGAIN)


def remove_leftovers(store: Path) -> None:
    """What an interrupted run was writing when it died.

    Behind a linked folder nothing is touched: no run writes there.
    """
    splits = (
        [folder for folder in store.iterdir() if folder.is_dir() and not folder.is_symlink()]
        if store.is_dir()
        else []
    )
    for folder in (store, *splits):
        for leftover in folder.glob(f"{TEMPORARY}*"):
            disk.remove(leftover)


def remove_superseded(store: Path, manifest: Manifest) -> None:
    """Row arrays of the time before an append, and what an interrupted run was writing.

    Of a link the link goes, not its target.
    """
    for name, split in manifest.splits.items():
        times = 0 if (store / name).is_symlink() else len(split.appended or ())
        for earlier in range(times):
            for array in SPLIT_ARRAYS:
                disk.remove(store / name / array_file(array, earlier))
    remove_leftovers(store)
