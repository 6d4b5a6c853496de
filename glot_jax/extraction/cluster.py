"""A store whose shards the actors of a cluster write: the driver's side.

The driver reads the rows, cuts the shards and hands them out; it needs no GPU and no weights. An
actor that dies loses nothing: its shard goes to another one. A driver that dies is run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from glot_jax import disk
from glot_jax.backbones.distant import BackboneFacts, DistantBackbone
from glot_jax.cluster.ahead import ahead
from glot_jax.cluster.ray_pool import RayPool, connected
from glot_jax.cluster.work_queue import Limits, run
from glot_jax.config.extract import ExtractConfig
from glot_jax.extraction.cluster_shards import ShardItem, ShardWriterActor, WrittenShard
from glot_jax.extraction.finished_store import finished_by
from glot_jax.extraction.job import Job, open_out, open_rows, recipe_of
from glot_jax.extraction.out_folder import empty_folders_removed, require_same_recipe
from glot_jax.extraction.progress import SplitProgress, estimate_tokens, say
from glot_jax.extraction.row_table import RowTable
from glot_jax.extraction.shard import find_shard
from glot_jax.extraction.shard_texts import cut_shards
from glot_jax.extraction.split_files import begin, refuse_further, write_row_arrays
from glot_jax.files import write_bytes
from glot_jax.store.finish import refuse_foreign, remove_leftovers
from glot_jax.store.layout import EXTRACT_AGAIN, lock_folder, refuse_link, shard_name
from glot_jax.store.lock import DRIVER, StoreLock
from glot_jax.store.manifest import Manifest
from glot_jax.store.reader import HiddenStore
from glot_jax.store.records import ShardRecord, SplitRecord, sum_up
from glot_jax.texts import TaskSpec

Pool = RayPool[BackboneFacts, ShardItem, WrittenShard]

_AHEAD = 2
"""Shards that are cut before an actor asks for them, for each actor."""


def write_on_cluster(
    config: ExtractConfig,
    console: Console,
    *,
    threads: int,
    spec: TaskSpec | None = None,
) -> HiddenStore:
    """Write a store by the actors of `config.cluster`, or continue it.

    Args:
        config: settings of the extraction, `cluster.ray` among them.
        console: receives messages.
        threads: of PyTorch in each actor, where `config` does not say.
        spec: classes or range of the labels, where they are known from elsewhere.

    Raises:
        UsageError: as for `dump`; no cluster, no actor, a folder that the actors do not see, actors
            that differ, a shard that was lost too often.
    """
    # Wrong rows cost seconds here, and a cluster's time later.
    config, data, pinned = open_rows(config, spec)
    seconds = 60.0 * config.cluster.ray_timeout
    there = _elsewhere(config, threads)
    make = functools.partial(
        ShardWriterActor,
        there,
        data.spec.max_length,
    )

    def warn(line: str) -> None:
        say(console, line, "yellow")

    # Ray hides GPUs from actors that ask for none.
    takes_gpus = config.device != "cpu"
    with connected(config.cluster, takes_gpus=takes_gpus) as room:
        # Said before any code is sent.
        say(console, room.describe())
        with RayPool(room, make, warn) as pool:
            facts = pool.start(seconds)
            # Actors that join later must not meet a branch that has moved.
            there = dataclasses.replace(there, revision=facts.recipe.revision)
            pool.make = functools.partial(
                ShardWriterActor,
                there,
                data.spec.max_length,
            )
            backbone = DistantBackbone(config, facts)
            recipe = recipe_of(config, data.spec, backbone)
            job = Job(
                config=config,
                data=data,
                backbone=backbone,
                recipe=recipe,
                notices=(*pinned, *data.notices, *facts.notices),
                console=console,
                remote=open_out(config, recipe),
            )
            drive = _Drive(
                job,
                facts,
                pool,
                room.actors,
                Limits(lonely_seconds=seconds),
            )
            return drive.write_store()


def _elsewhere(config: ExtractConfig, threads: int) -> ExtractConfig:
    """The settings for a process that has another working folder."""
    backbone = Path(config.backbone).expanduser()
    changes: dict[str, Any] = {"threads": config.threads or threads}
    if isinstance(config.out, Path):
        changes["out"] = config.out.absolute()
    if backbone.exists():
        changes["backbone"] = str(backbone.absolute())
    return dataclasses.replace(config, **changes)


class _Drive:
    """One store, written by others."""

    def __init__(
        self,
        job: Job,
        facts: BackboneFacts,
        pool: Pool,
        actors: int,
        limits: Limits,
    ):
        self._job = job
        self._facts = facts
        self._pool = pool
        self._actors = actors
        self._limits = limits
        self._tables: dict[str, RowTable] = {}
        # Split -> shard -> its record: they come in any order.
        self._records: dict[str, dict[int, ShardRecord]] = {}

    def write_store(self) -> HiddenStore:
        """See `write_on_cluster`."""
        return finished_by(self._job, self._write)

    def _write(self, lock: StoreLock) -> None:
        job = self._job
        require_same_recipe(job.store, lock.begun_with(), job.recipe)
        remove_leftovers(job.out)
        tokens = estimate_tokens(job.data.splits, job.backbone)
        present = job.stored_bytes()
        begin(
            job,
            lock,
            job.recipe,
            tokens,
            present=present,
        )
        with empty_folders_removed(job.out), _signed(job.out) as sign:
            # Splits are not waited for one by one: actors would be idle at the end of each.
            self._hand_out(sign, sum(tokens.values()))
            records = {name: self._seal(name) for name in job.data.splits}
        # An actor that died has left a shard half-written, under a name of its own.
        remove_leftovers(job.out)
        refuse_foreign(job.out, job.data.splits)
        task = job.data.spec.to_json()
        manifest = Manifest.build(
            job.recipe,
            task,
            records,
            probe=self._facts.probe,
        )
        job.publish(manifest, records)

    def _hand_out(self, sign: str, tokens: int) -> None:
        """Have every shard written that is missing."""
        job = self._job
        actors = self._actors
        noun = "actor" if actors == 1 else "actors"
        with (
            SplitProgress(job.console, f"{actors} {noun}", tokens) as progress,
            ahead(self._items(sign, progress), _AHEAD * actors) as items,
        ):
            for item, written in run(items, self._pool, actors, self._limits):
                for line in written.notices:
                    job.say(line)
                self._records[item.split][item.index] = written.record
                files = written.record.files.values()
                progress.store(written.record.tokens, sum(file["bytes"] for file in files))

    def _items(
        self,
        sign: str,
        progress: SplitProgress,
    ) -> Iterator[ShardItem]:
        """The shards that are missing, cut as they are asked for."""
        job = self._job
        for name, split in job.data.splits.items():
            folder = job.out / name
            # Behind a link may be a cache that other stores share (DVC, git-annex).
            refuse_link(folder)
            table = job.new_table()
            records: dict[int, ShardRecord] = {}
            self._tables[name] = table
            self._records[name] = records
            shards = cut_shards(
                split,
                job.backbone,
                job.config.shard_tokens,
                table,
            )
            for index, texts in enumerate(shards):
                record = find_shard(job, name, index, texts)
                if record is None:
                    yield ShardItem(
                        name,
                        index,
                        texts,
                        job.recipe,
                        sign,
                    )
                    continue
                if job.remote is not None and not job.remote.files.has_shard(name, index):
                    # On this machine, by a process that died before it was uploaded.
                    job.remote.keep(folder / shard_name(index), record)
                progress.find(record.tokens)
                records[index] = record

    def _seal(self, name: str) -> SplitRecord:
        """Write a split's row arrays behind its last shard, and say what it holds."""
        job = self._job
        folder = job.out / name
        table = self._tables[name]
        by_index = self._records[name]
        # They came in any order, and the manifest lists them in theirs.
        shards = [by_index[index] for index in range(len(by_index))]
        refuse_further(job, name, len(shards))
        arrays = write_row_arrays(folder, table.arrays())
        duplicates = table.duplicates if job.config.deduplicate else None
        record = sum_up(
            table.rows,
            shards,
            arrays,
            duplicates=duplicates,
        )
        # Splits are written side by side, so that none has a rate of its own.
        SplitProgress(job.console, name, 0).summarise(
            record, job.backbone.max_length, with_rate=False
        )
        return record


@contextlib.contextmanager
def _signed(out: Path) -> Generator[str]:
    """A file in OUT.lock by which actors know that they see the same folder; its content."""
    # Of this run: a folder of an earlier one elsewhere has another.
    sign = uuid.uuid4().hex
    path = lock_folder(out) / DRIVER
    write_bytes(path, sign.encode(), again=EXTRACT_AGAIN)
    try:
        yield sign
    finally:
        with contextlib.suppress(OSError):
            disk.remove(path)
