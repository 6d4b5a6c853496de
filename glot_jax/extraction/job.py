"""An extraction that is ready to start: whatever could be wrong with its input has been checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import torch
from rich.console import Console

from glot_jax.backbone_files.backbone_source import find_source
from glot_jax.backbone_files.pinning import pin_revision
from glot_jax.backbones.backbone import Backbone
from glot_jax.backbones.distant import KnownBackbone
from glot_jax.backbones.tokenizer import load_tokenizer, vocabulary
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import Location, StoreUrl, require_folder
from glot_jax.errors import UsageError
from glot_jax.extraction.out_folder import refuse_other_folder, stored_bytes
from glot_jax.extraction.progress import say
from glot_jax.extraction.row_table import RowTable
from glot_jax.remote_stores.names import superseded
from glot_jax.remote_stores.out import RemoteOut
from glot_jax.store.finish import remove_superseded, sync_folders
from glot_jax.store.layout import MANIFEST, check_split_name, lock_folder
from glot_jax.store.lock import StoreLock, read_begun
from glot_jax.store.manifest import Manifest, read_manifest, write_manifest
from glot_jax.store.recipe import PendingAppend, Recipe
from glot_jax.store.writer_thread import WriterThread
from glot_jax.texts import TaskData, TaskSpec, open_task
from glot_jax.texts.stress_words import whole_words


@dataclasses.dataclass(frozen=True)
class Job:
    """The parts of an extraction that its modes share."""

    config: ExtractConfig
    data: TaskData
    backbone: KnownBackbone
    recipe: Recipe
    """What the user asks for; a store or an unfinished one must have the same."""
    notices: tuple[str, ...]
    """What was read, left out and assumed: printed as one block between checks and work."""
    console: Console
    remote: RemoteOut | None = None
    """Where the store goes, if it lies at a URL."""

    @property
    def store(self) -> Location:
        """The store, as the user named it."""
        return self.config.out

    @property
    def out(self) -> Path:
        """Folder that shards and row arrays are written to; of a store at a URL, on their way."""
        if self.remote is not None:
            return self.remote.folder
        return require_folder(self.config.out)

    def is_finished(self) -> bool:
        """Whether the store has its manifest."""
        if self.remote is not None:
            return self.remote.manifest() is not None
        path = self.out / MANIFEST
        return path.exists()

    def manifest(self) -> Manifest:
        """The manifest of the finished store.

        Raises:
            UsageError: there is none, or it is damaged.
        """
        if self.remote is not None:
            # Its state is kept with it, for the one that replaces it.
            manifest = self.remote.manifest()
            if manifest is not None:
                return manifest
        return read_manifest(self.store)

    def remove_superseded(self, manifest: Manifest) -> None:
        """Remove the row arrays of the time before an append, and all leftovers."""
        remove_superseded(self.out, manifest)
        if self.remote is None:
            return
        names = superseded(manifest)
        self.remote.files.remove(names)

    def begun_with(self) -> Recipe | PendingAppend | None:
        """What an unfinished store, or an unfinished append, was begun with."""
        if self.remote is not None:
            return self.remote.begun_with()
        return read_begun(self.out)

    def is_locked(self) -> bool:
        """Whether anything of a writer is left beside the store."""
        if self.remote is not None:
            return self.remote.is_locked()
        return lock_folder(self.out).exists()

    def stored_bytes(self) -> int:
        """Bytes of the arrays that are stored already."""
        present = stored_bytes(self.out)
        # What is there, and what waits here for its upload.
        if self.remote is not None:
            present += self.remote.files.bytes
        return present

    def publish(self, manifest: Manifest, splits: Iterable[str]) -> None:
        """Finish the store: write its manifest, when all that it lists is there.

        Args:
            manifest: of the store.
            splits: those that were written.
        """
        if self.remote is not None:
            self.remote.publish(manifest)
            return
        # Every name must have reached the disk before the manifest says that it is there.
        sync_folders(self.out, splits)
        write_manifest(self.out, manifest)

    def clear(self) -> None:
        """Remove what was only on its way, once the store is finished."""
        if self.remote is not None:
            self.remote.clear()

    def thread(self) -> WriterThread:
        """Return what writes the shards, to be entered."""
        if self.remote is None:
            return WriterThread()
        # Uploads run on the threads that seal, while the model computes the next states.
        return WriterThread(keep=self.remote.keep)

    def say(self, text: str, style: str = "") -> None:
        """Print a line for the user."""
        say(self.console, text, style)

    def announce(self) -> None:
        """Print the notices."""
        for notice in self.notices:
            self.say(notice)

    def lock(self) -> StoreLock:
        """Return the right to write the store, or a worker's share of it, to be entered."""

        def warn(text: str) -> None:
            self.say(text, "yellow")

        if self.remote is not None:
            return self.remote.lock(warn, self.config.share)
        return StoreLock(self.out, warn, share=self.config.share)

    def new_table(self) -> RowTable:
        """Return an empty table for the rows of a split."""
        return RowTable(self.data.spec, deduplicate=self.config.deduplicate)


@dataclasses.dataclass(frozen=True)
class LocalJob(Job):
    """An extraction whose model runs in this process."""

    backbone: Backbone


def prepare(
    config: ExtractConfig,
    console: Console,
    *,
    spec: TaskSpec | None = None,
    backbone: Backbone | None = None,
) -> LocalJob:
    """Check everything that can be wrong before the store is touched.

    Args:
        config: settings of the extraction.
        console: receives messages.
        spec: classes or range of the labels, where they are known from elsewhere.
        backbone: one of these settings that is loaded already.

    Raises:
        UsageError: the folder is in use, or data, backbone, layers or lengths do not fit.
    """
    # The cheap checks first: data are read in seconds, a backbone may have to be downloaded.
    config, data, pinned = open_rows(config, spec)
    if config.threads is not None:
        # Before the first product: PyTorch has its own idea of how many, and launchers theirs.
        torch.set_num_threads(config.threads)
    if backbone is None:
        backbone = Backbone(config, default_max_length=data.spec.max_length)
    # In the order in which they came about.
    notices = (*pinned, *data.notices, *backbone.notices())
    recipe = recipe_of(config, data.spec, backbone)
    remote = open_out(config, recipe)
    return LocalJob(config, data, backbone, recipe, notices, console, remote)


def open_out(config: ExtractConfig, recipe: Recipe) -> RemoteOut | None:
    """What writes a store of a recipe to the URL of `--out`; None for a folder."""
    if not isinstance(config.out, StoreUrl):
        return None
    remote = RemoteOut(config.out, config.remote)
    remote.use_scratch(recipe)
    return remote


def open_rows(
    config: ExtractConfig, spec: TaskSpec | None = None
) -> tuple[ExtractConfig, TaskData, tuple[str, ...]]:
    """Open the rows, and check what can be checked without the model.

    Args:
        config: settings of the extraction.
        spec: classes or range of the labels, where they are known from elsewhere.

    Returns:
        The settings, with the commit of a Hub backbone; the rows; lines about the commit.

    Raises:
        UsageError: the folder is in use, or the data do not fit.
    """
    if isinstance(config.out, StoreUrl):
        RemoteOut(config.out, config.remote).refuse_other()
    else:
        refuse_other_folder(config.out)
    # Labels must be read as the store understands them: class names in its order, scores in its
    # range.
    if config.append:
        spec = TaskSpec.from_json(read_manifest(config.out).task)
    config, pinned = pin_revision(config)
    # A branch that moved must not change a store that was begun with an earlier commit.
    data = open_task(config, vocabulary=lambda: _whole_words(config), spec=spec)
    # Names become folders, and a split without a row has no shard to resume from.
    for name, split in data.splits.items():
        check_split_name(name)
        if not len(split):
            raise UsageError(
                rule="a split must have at least one row",
                got=f"{name} with none",
                fix="Fill the split or leave it out.",
            )
    return config, data, tuple(pinned)


def _whole_words(config: ExtractConfig) -> list[str]:
    """The words that stress texts are made of; only their generators ask for them."""
    source = find_source(config.location, config.revision, allow_bin=config.allow_bin)
    return whole_words(vocabulary(load_tokenizer(source)))


def recipe_of(config: ExtractConfig, spec: TaskSpec, backbone: KnownBackbone) -> Recipe:
    """Everything that decides the store's bytes and is known before the first shard."""
    recipe = backbone.recipe().extended(
        storage_dtype=config.storage_dtype,
        shard_tokens=config.shard_tokens,
        task=spec.name,
        text_columns=spec.text_columns,
        label_column=spec.label_column,
        max_train_rows=config.max_train_rows or spec.max_train_rows,
        sample_seed=config.sample_seed,
        # What a store does not use is not in its recipe: it stays the one that earlier versions
        # wrote.
        deterministic=config.deterministic or None,
        deduplicate=config.deduplicate or None,
    )
    if not spec.is_generated:
        return recipe
    return recipe.extended(
        protocol=config.protocol,
        ratio=config.ratio,
        diagnostic_rows=config.diagnostic_rows,
        # Options of later versions are named only where they are not the default.
        distance=config.distance or None,
        position=config.position,
    )
