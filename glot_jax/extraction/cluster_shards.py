"""What an actor of a cluster does for a store: it loads the model once, and writes shards."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import torch
from rich.console import Console

from glot_jax.backbones.backbone import Backbone
from glot_jax.backbones.distant import BackboneFacts
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import StoreUrl, require_folder
from glot_jax.errors import UsageError
from glot_jax.extraction.progress import SplitProgress
from glot_jax.extraction.shard import ShardTarget, finished_shard, write_shard
from glot_jax.extraction.shard_texts import ShardTexts
from glot_jax.remote_stores.out import RemoteOut
from glot_jax.store.layout import lock_folder, shard_name
from glot_jax.store.lock import DRIVER
from glot_jax.store.recipe import Recipe
from glot_jax.store.records import ShardRecord
from glot_jax.store.writer_thread import WriterThread


@dataclasses.dataclass(frozen=True)
class ShardItem:
    """One shard to be written."""

    split: str
    index: int
    texts: ShardTexts
    recipe: Recipe
    """Of the store."""
    sign: str
    """Content of the file DRIVER of the store's lock folder."""

    def __str__(self) -> str:
        """For messages: where it lies, and what it holds."""
        rows = self.texts.rows
        where = f"{self.split}/{shard_name(self.index)}"
        return f"{where} (rows {rows.min()} to {rows.max()})" if len(rows) else where


@dataclasses.dataclass(frozen=True)
class WrittenShard:
    """What an actor answers when a shard is on the disk."""

    record: ShardRecord
    notices: tuple[str, ...]
    """Lines for the user."""


class ShardWriterActor:
    """The frozen model in a process of its own, for as many shards as come."""

    def __init__(self, config: ExtractConfig, default_max_length: int):
        """Load and probe the backbone.

        Args:
            config: settings of the extraction; `out` is absolute.
            default_max_length: tokens of a text where `config` does not say.

        Raises:
            UsageError: as for `Backbone`.
        """
        # Ray says OMP_NUM_THREADS, with which some bits would be others.
        torch.set_num_threads(config.threads or 1)
        self._config = config
        self._remote: RemoteOut | None = None
        if isinstance(config.out, StoreUrl):
            # Without a lease: the driver has it, and gives no shard to two actors that live.
            self._remote = RemoteOut(config.out, config.remote)
        self._backbone = Backbone(config, default_max_length=default_max_length)
        self._notices: list[str] = []

    def facts(self) -> BackboneFacts:
        """What the driver has to know of the model."""
        return BackboneFacts.of_backbone(self._backbone)

    def do(self, item: ShardItem) -> WrittenShard:
        """Write a shard, unless it is there; its record, once it is on the disk.

        Raises:
            UsageError: as for `write_shard`; the folder is not the driver's.
        """
        # Of this shard alone: they travel with its record.
        self._notices = []
        store = self._store(item)
        folder = store / item.split
        # One that another actor was thought to have died over may have finished it.
        record = finished_shard(folder, item.index, item.texts, self._backbone.layers)
        if record is None:
            record = self._write(store, item)
        elif self._remote is not None:
            # On this machine, and then it died.
            self._remote.keep(folder / shard_name(item.index), record)
        return WrittenShard(record, tuple(self._notices))

    def _store(self, item: ShardItem) -> Path:
        """The folder that shards are written to: the store's, or one on its way there."""
        if self._remote is not None:
            self._remote.use_scratch(item.recipe)
            return self._remote.folder
        self._require_shared(item)
        return require_folder(self._config.out)

    def _thread(self) -> WriterThread:
        if self._remote is None:
            return WriterThread()
        return WriterThread(keep=self._remote.keep)

    def _write(self, store: Path, item: ShardItem) -> ShardRecord:
        # The driver counts whole shards: nobody sees this one's progress.
        unseen = SplitProgress(Console(quiet=True), item.split, 0)
        with self._thread() as thread:
            target = ShardTarget(
                split=item.split,
                folder=store / item.split,
                backbone=self._backbone,
                storage_dtype=self._config.storage_dtype,
                tokens_per_batch=self._config.tokens_per_batch,
                thread=thread,
                progress=unseen,
                notice=self._notices.append,
                store=store,
                recipe=item.recipe,
            )
            return thread.result(write_shard(target, item.index, item.texts))

    def _require_shared(self, item: ShardItem) -> None:
        path = lock_folder(require_folder(self._config.out)) / DRIVER
        # The driver has written it before the first shard went out.
        try:
            seen = path.read_text()
        except OSError:
            seen = None
        if seen != item.sign:
            raise UsageError(
                rule="every actor must see the folder of --out",
                got=f"{self._config.out}, which is not the same one on {socket.gethostname()}",
                fix="Choose an --out on a file system that all nodes share.",
            )
