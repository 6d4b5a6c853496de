"""A store at a URL while it is being written: shards are written on this machine, then uploaded.

    ~/.cache/glot-jax/scratch/cola-1f3a9c0b7e21/store/train/shard-00007/

The scratch folder has the name of the URL and of the recipe, and the same rules of resuming as a
store in a folder: a shard that is finished there is uploaded, and not computed again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from glot_jax import disk
from glot_jax.config.location import StoreUrl
from glot_jax.config.store import RemoteChoice
from glot_jax.errors import UsageError
from glot_jax.files import make_folders, make_private, user_cache
from glot_jax.remote.objects import Objects, Tag
from glot_jax.remote_stores.files import RemoteFiles
from glot_jax.remote_stores.lock import RemoteLock, read_begun
from glot_jax.store.identity import canonical_sha256
from glot_jax.store.layout import MANIFEST, lock_folder
from glot_jax.store.lock import StoreLock
from glot_jax.store.manifest import Manifest
from glot_jax.store.recipe import PendingAppend, Recipe
from glot_jax.store.records import ShardRecord

AT_ONCE = 8
"""Shards that lie in the scratch folder at once, at most: open, sealed, or on their way."""


class RemoteOut:
    """Where a store is written to, and how.

    Args:
        url: of the store.
        choice: settings of the scratch folder.

    Raises:
        UsageError: obstore is not installed, or its settings are refused.
    """

    def __init__(self, url: StoreUrl, choice: RemoteChoice):
        self.url = url
        self.choice = choice
        objects = Objects(url, conditional=not choice.single_writer)
        self._objects = objects
        # Beside the store, as a store in a folder has it: what is left there is no part of it.
        self.notes = objects.beside(f"{url.name}.lock")
        self._lock: RemoteLock | None = None
        self._before: tuple[Manifest, Tag] | None = None
        self.files = RemoteFiles(objects, self._check)
        self._root: Path | None = None

    @property
    def folder(self) -> Path:
        """Folder of this machine that shards are written to."""
        # Known with the recipe, which needs the backbone.
        assert self._root is not None
        return self._root / "store"

    def use_scratch(self, recipe: Recipe | None) -> None:
        """Choose the scratch folder, by what is written."""
        parent = self.choice.scratch
        if parent is None:
            parent = user_cache("scratch")
            # States tell much about the texts that they were made of.
            make_private(parent, "the scratch folder of stores")
        # Of another recipe nothing here can be used, and nothing must be lost.
        written = None if recipe is None else recipe.to_json()
        identity = canonical_sha256({"url": str(self.url), "recipe": written})
        name = f"{self.url.name}-{identity[:12]}"
        self._root = parent / name
        make_folders(self._root)

    def refuse_other(self) -> None:
        """Raise UsageError unless nothing lies at the URL, or a store, or one in the making."""
        sizes = self.files.sizes
        if not sizes or MANIFEST in sizes:
            return
        # A store in the making has its recipe beside it.
        if self.begun_with() is not None:
            return
        first = next(iter(sizes))
        raise UsageError(
            rule="--out must be a URL where nothing lies, or a store",
            got=f"{self.url}, where {len(sizes)} other objects lie, {first} among them",
            fix="Choose another --out, or remove them.",
        )

    def manifest(self) -> Manifest | None:
        """The manifest that is there now."""
        # Kept with its state: what replaces it must replace this one.
        self._before = self.files.manifest()
        if self._before is None:
            return None
        manifest, _ = self._before
        return manifest

    def begun_with(self) -> Recipe | PendingAppend | None:
        """What an unfinished store, or append, was begun with."""
        return read_begun(self.notes)

    def recipe(self) -> Recipe | None:
        """The recipe of the finished or unfinished store; None where there is none."""
        manifest = self.manifest()
        if manifest is not None:
            return manifest.recipe
        begun = self.begun_with()
        # An append that was begun keeps no recipe; its store has a manifest.
        return begun if isinstance(begun, Recipe) else None

    def is_locked(self) -> bool:
        """Whether anything of a writer is left beside the store."""
        return bool(self.notes.sizes())

    def lock(
        self,
        notice: Callable[[str], None] | None,
        share: tuple[int, int] | None,
    ) -> RemoteLock:
        """The right to write, to be entered."""
        # Whoever wrote before may have written since the files were listed.
        self.files.forget()
        self._lock = RemoteLock(
            self._objects,
            self.notes,
            self.folder,
            notice,
            share=share,
        )
        return self._lock

    def _check(self) -> None:
        # Before the lock is made nothing is written.
        if self._lock is not None:
            self._lock.check()

    def keep(self, folder: Path, record: ShardRecord) -> None:
        """Upload a finished shard of the scratch folder, and remove it there."""
        # In this order: until it is there, it is all there is of it.
        self.files.put_shard(folder, record)
        self.let_go(folder)

    def let_go(self, folder: Path) -> None:
        """Remove a shard of the scratch folder that is there."""
        if not self.choice.keep_scratch:
            disk.remove(folder)

    def publish(self, manifest: Manifest) -> None:
        """Upload the row arrays, and finish the store by its manifest."""
        for split, record in manifest.splits.items():
            for array, name in record.array_files.items():
                path = self.folder / split / name
                # Those of splits that an append left alone are there already.
                if path.exists():
                    self.files.put_array(f"{split}/{name}", path, record.arrays[array])
        self.files.publish(manifest, self._before)

    def clear(self) -> None:
        """Remove the scratch folder of a store that is finished, unless it is in use."""
        if self._root is None or self.choice.keep_scratch:
            return
        # Another process of this machine may be in it, and removes it in its turn.
        with contextlib.suppress(UsageError), StoreLock(self.folder) as lock:
            for path in self._root.iterdir():
                if path != lock_folder(self.folder):
                    disk.remove(path)
            lock.finished()
        # Unless one came in between: then it is not empty.
        with contextlib.suppress(OSError):
            self._root.rmdir()
