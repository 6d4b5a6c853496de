"""A finished store copied to a URL, from one, or between two: `glot store copy`.

Every byte is hashed on its way and the manifest comes last, so that a copy is a store or none. The
same command goes on where it was stopped: what is there with its size is not copied again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from glot_jax import disk
from glot_jax.config.location import Location, StoreUrl, parse_location
from glot_jax.config.store import RemoteChoice
from glot_jax.errors import UsageError
from glot_jax.files import make_folders, sync_tree, write_bytes
from glot_jax.remote.fetching import FileCache, Wanted
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores.begun_copies import go_on_at_url, go_on_in_folder
from glot_jax.remote_stores.names import listed_files, shard_records
from glot_jax.remote_stores.out import RemoteOut
from glot_jax.store.integrity import FileRecord, check_file, require_file
from glot_jax.store.layout import MANIFEST
from glot_jax.store.lock import StoreLock
from glot_jax.store.manifest import Manifest, manifest_bytes, read_manifest

_THREADS = 4


def copy(
    source: str | Location,
    target: str | Location,
    notice: Callable[[str], None] | None = None,
    choice: RemoteChoice | None = None,
) -> Manifest:
    """Copy a finished store, of which one end at least lies at a URL.

    Args:
        source: the store.
        target: a new or empty place, or a copy that was begun.
        notice: called with a line for the user.
        choice: how a store at a URL is written.

    Returns:
        The manifest of both.

    Raises:
        UsageError: no store, damaged files, another store at the target, or the service or the disk
            failed.
    """
    # From Python they may be texts.
    source = parse_location(source)
    target = parse_location(target)
    # First: what is no store is not begun to be copied.
    manifest = read_manifest(source)
    if isinstance(target, StoreUrl):
        _upload(source, target, manifest, notice, choice or RemoteChoice())
    elif isinstance(source, StoreUrl):
        _download(source, target, manifest, notice)
    else:
        raise UsageError(
            rule="glot store copy is for stores at URLs",
            got=f"{source} and {target}",
            fix="Copy the folder with the tools of the system: cp -r.",
        )
    return manifest


def _refuse_other(present: Manifest | None, manifest: Manifest, target: Location) -> bool:
    """Whether the copy is complete already.

    Raises:
        UsageError: another store is there.
    """
    if present is None:
        return False
    # By all of it: two stores of one content may differ in what was found out about the backbone.
    if manifest_bytes(present) != manifest_bytes(manifest):
        raise UsageError(
            rule="a copy must go where no other store is",
            got=f"{target}, of content {present.content[:12]}",
            fix="Choose another place.",
        )
    return True


def _upload(
    source: Location,
    target: StoreUrl,
    manifest: Manifest,
    notice: Callable[[str], None] | None,
    choice: RemoteChoice,
) -> None:
    out = RemoteOut(target, choice)
    if _refuse_other(out.manifest(), manifest, target):
        return
    # For the lock, and for what passes through between two services.
    out.use_scratch(None)
    with out.lock(notice, None) as lock:
        # Looked for again under the lock.
        if _refuse_other(out.manifest(), manifest, target):
            return
        objects = out.files.objects
        go_on_at_url(objects, out.files.sizes, manifest, lock)
        records = shard_records(manifest)
        files = listed_files(manifest)

        def send(file: tuple[str, FileRecord]) -> None:
            name, record = file
            # Objects appear whole, so one that has its size was sent by an earlier run.
            if not out.files.has_file(name, record["bytes"]):
                lock.check()
                _send(source, out, name, record)

        with ThreadPoolExecutor(_THREADS) as pool:
            # Each result is asked for, so that an error is raised.
            for _ in pool.map(send, files.items()):
                continue
        lock.check()
        # Records behind their files, as an extraction writes them.
        for name, content in records.items():
            if name not in out.files.sizes:
                out.files.objects.put(name, content)
        # Lists everything once more, and compares the sizes.
        out.files.publish(manifest)
        lock.finished()
    out.clear()


def _send(
    source: Location,
    out: RemoteOut,
    name: str,
    record: FileRecord,
) -> None:
    """Upload one file, hashed before."""
    if isinstance(source, Path):
        path = source / name
        # Hashed here: what the service holds is what was sent.
        check_file(path, record)
        out.files.objects.put_file(name, path)
        return
    # Through this machine: two services know nothing of one another.
    path = out.folder / name
    cache = FileCache.at(Objects(source), out.folder)
    # What lies there may be of another store, whose copy to this URL was stopped.
    require_file(path, record, cache, trust=False)
    out.files.objects.put_file(name, path)
    disk.remove(path)


def _download(
    source: StoreUrl,
    target: Path,
    manifest: Manifest,
    notice: Callable[[str], None] | None,
) -> None:
    if (target / MANIFEST).exists():
        _refuse_other(read_manifest(target), manifest, target)
        return
    with StoreLock(target, notice) as lock:
        make_folders(target)
        go_on_in_folder(target, manifest, lock)
        cache = FileCache.at(Objects(source), target)
        listed = listed_files(manifest)
        files = []
        for name, record in listed.items():
            files.append(Wanted(target / name, record["sha256"], record["bytes"]))
        # Before its first byte.
        cache.require_room(files)
        with ThreadPoolExecutor(_THREADS) as pool:
            # Each result is asked for, so that an error is raised.
            for _ in pool.map(cache.fetch, files):
                continue
        for name, record in listed.items():
            # What an earlier run has fetched may have been spoilt by a power cut.
            check_file(target / name, record)
        for name, content in shard_records(manifest).items():
            write_bytes(target / name, content)
        # The manifest comes last: whatever it lists must be on the disk by then.
        sync_tree(target)
        write_bytes(target / MANIFEST, manifest_bytes(manifest))
        lock.finished()
