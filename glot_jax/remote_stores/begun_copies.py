"""What lies where a copy is to go: nothing, or a part of this very copy, never of another one.

OUT.lock/copy.json says of which store a copy was begun, until it is whole: stores of the same
shapes have files of the same names and sizes, and what is there is not copied again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from glot_jax import disk
from glot_jax.config.location import Location
from glot_jax.errors import UsageError
from glot_jax.files import TEMPORARY, file_sha256, json_bytes
from glot_jax.remote.objects import Objects
from glot_jax.remote_stores.names import hash_object, listed_files, shard_records
from glot_jax.store.integrity import FileRecord
from glot_jax.store.layout import MANIFEST
from glot_jax.store.lock import STYLE, StoreLock
from glot_jax.store.manifest import Manifest, manifest_bytes

_NEW_PLACE = "Choose another place, or remove what lies there and the lock folder beside it."


def go_on_at_url(
    objects: Objects,
    sizes: dict[str, int],
    manifest: Manifest,
    lock: StoreLock,
) -> None:
    """Begin a copy to a URL, or continue one.

    Args:
        objects: of the URL.
        sizes: name of every object there -> its bytes.
        manifest: of the store that is copied.
        lock: the right to write there.

    Raises:
        UsageError: something else lies there; nothing was written.
    """

    def sha256(name: str) -> str:
        return hash_object(objects, name)

    _go_on(objects.url, sizes, manifest, lock, sha256)


def go_on_in_folder(folder: Path, manifest: Manifest, lock: StoreLock) -> None:
    """Begin a copy to a folder, or continue one; see `go_on_at_url`."""
    sizes = {}
    leftovers = []
    for path in folder.rglob("*"):
        if path.name.startswith(TEMPORARY):
            leftovers.append(path)
        elif path.is_file():
            name = path.relative_to(folder).as_posix()
            sizes[name] = path.stat().st_size

    def sha256(name: str) -> str:
        return file_sha256(folder / name)

    _go_on(folder, sizes, manifest, lock, sha256)
    # Files that were on their way when an earlier run was killed, in any folder of the store.
    for path in leftovers:
        disk.remove(path)


def _go_on(
    target: Location,
    sizes: dict[str, int],
    manifest: Manifest,
    lock: StoreLock,
    sha256: Callable[[str], str],
) -> None:
    files = listed_files(manifest)
    for name, content in shard_records(manifest).items():
        digest = hashlib.sha256(content).hexdigest()
        files[name] = FileRecord(sha256=digest, bytes=len(content))
    foreign = sorted(sizes.keys() - files.keys())
    if foreign:
        raise UsageError(
            rule="a copy must go where nothing else lies",
            got=f"{', '.join(foreign[:5])} at {target}",
            fix="Choose another place.",
        )
    note = _note(manifest)
    begun = lock.begun_copy()
    if begun == note:
        return
    if sizes and begun is not None:
        raise UsageError(
            rule="a copy must be continued with the store that it was begun with",
            got=f"{target}, where a copy of {_content(begun)} was begun, instead of"
            f" {manifest.content[:12]}",
            fix=_NEW_PLACE,
        )
    # Begun by an earlier version, which left no note: then the bytes themselves have to tell.
    for name, size in sizes.items():
        if size != files[name]["bytes"] or sha256(name) != files[name]["sha256"]:
            raise UsageError(
                rule="a copy must go where nothing lies but a part of the same store",
                got=f"{name} at {target}, whose content differs",
                fix=_NEW_PLACE,
            )
    # Before the first file: from here on every one of them is of this store.
    lock.begin_copy(note)


def _note(manifest: Manifest) -> bytes:
    # By all of it: stores of one content may differ in what was found out about their states.
    digest = hashlib.sha256(manifest_bytes(manifest)).hexdigest()
    values = {"content": manifest.content, MANIFEST: digest}
    return json_bytes(values, STYLE)


def _content(note: bytes) -> str:
    """The beginning of the content that a note names, for people."""
    try:
        return str(json.loads(note)["content"])[:12]
    except (KeyError, TypeError, ValueError):
        return "another store"
