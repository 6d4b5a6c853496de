"""A worker's share of a store: every N-th shard, so that several processes write one store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from glot_jax.extraction.finished_store import check_finished
from glot_jax.extraction.job import LocalJob
from glot_jax.extraction.out_folder import require_same_recipe
from glot_jax.extraction.progress import estimate_tokens
from glot_jax.extraction.shard import OpenSplit, store_shards
from glot_jax.extraction.shard_texts import ShardTexts, cut_shards
from glot_jax.extraction.split_files import (
    begin,
    write_row_arrays,
    write_splits,
)
from glot_jax.store.arrays import npy_bytes
from glot_jax.store.lock import StoreLock
from glot_jax.store.worker_plan import SplitPlan, WorkerPlan
from glot_jax.store.writer_thread import WriterThread


def write_share(
    job: LocalJob,
    number: int,
    workers: int,
    *,
    last_finishes: bool = False,
) -> None:
    """Write the shards of worker `number`: those whose number over all splits is it modulo N.

    Every worker cuts the same shards, so none needs anything of another.

    Args:
        job: of this worker.
        number: of this worker, from 0.
        workers: how many there are.
        last_finishes: the last worker will finish the store, and nobody has to be told how.
    """
    if job.is_finished():
        check_finished(job)
        return
    with job.lock() as lock:
        # Looked for again under the lock: another process may have finished the store meanwhile.
        is_finished = job.is_finished()
        if is_finished:
            lock.finished()
        else:
            _write(job, lock, _Share(number, workers))
    if is_finished:
        check_finished(job)
        return
    line = f"{job.store}: worker {number} of {workers} is done"
    if not last_finishes:
        line += f"; when all are: glot store finish {job.store}"
    job.say(line)


class _Share:
    """Selects a worker's shards while all shards of all splits pass by.

    Attributes:
        text_hashes: split -> sha256 of the TEXT_FILES of each shard; worker 0 keeps them for
            `finish`, which compares the others' shards with them.
    """

    def __init__(self, number: int, workers: int):
        self.number = number
        self.workers = workers
        self.text_hashes: dict[str, list[tuple[str, ...]]] = {}
        self._passed = 0

    def select(
        self,
        name: str,
        shards: Iterable[ShardTexts],
    ) -> Iterator[tuple[int, ShardTexts]]:
        """Yield (index, texts) of this worker's shards of a split; splits come in order."""
        hashes = self.text_hashes.setdefault(name, [])
        for index, texts in enumerate(shards):
            # Worker 0 sees every text, and is the only one whose word `finish` takes for the
            # others.
            if self.number == 0:
                hashes.append((_sha256(texts.lengths), _sha256(texts.token_ids)))
            # Counted over all splits: small splits are shared out evenly too.
            is_own = self._passed % self.workers == self.number
            self._passed += 1
            if is_own:
                yield index, texts


def _sha256(array: np.ndarray) -> str:
    """The hash of the file that holds this array."""
    return hashlib.sha256(npy_bytes(array)).hexdigest()


def _write(job: LocalJob, lock: StoreLock, share: _Share) -> None:
    # Leftovers are not removed: they may be what another worker is writing.
    require_same_recipe(job.store, lock.begun_with(), job.recipe)
    splits = job.data.splits
    tokens = estimate_tokens(splits, job.backbone)
    present = job.stored_bytes()
    # Each worker looks at the disk for its own share of what is left: the others may write
    # elsewhere, or be done.
    begin(
        job,
        lock,
        job.recipe,
        tokens,
        present=present,
        workers=share.workers,
    )

    def start(name: str, thread: WriterThread) -> OpenSplit:
        table = job.new_table()
        shards = cut_shards(
            splits[name],
            job.backbone,
            job.config.shard_tokens,
            table,
        )
        own = share.select(name, shards)
        return store_shards(
            job,
            name,
            own,
            table,
            tokens[name],
            thread,
        )

    def seal(split: OpenSplit, thread: WriterThread) -> SplitPlan | None:
        # Waited for by every worker: it must not say that it is done before its shards are on the
        # disk.
        split.records(thread)
        if share.number != 0:
            return None
        return _split_plan(job, split, share)

    # Folders without a file stay: a worker that stored nothing does not know what the others are
    # about to store.
    plans = write_splits(splits, start, seal, job.thread())
    if share.number == 0:
        # Last of all: a plan says that every shard of worker 0 is on the disk.
        plan = WorkerPlan(
            workers=share.workers,
            task=job.data.spec.to_json(),
            splits={name: split for name, split in plans.items() if split is not None},
            probe=job.backbone.probe.to_json(),
        )
        lock.plan(plan)


def _split_plan(
    job: LocalJob,
    split: OpenSplit,
    share: _Share,
) -> SplitPlan:
    """What `finish` needs to know of a split, beside its shards.

    Every worker sees the same rows; worker 0 writes them.
    """
    table = split.table
    folder = job.out / split.name
    arrays = write_row_arrays(folder, table.arrays())
    if job.remote is not None:
        for name, record in arrays.items():
            job.remote.files.put_array(f"{split.name}/{name}", folder / name, record)
    return SplitPlan(
        rows=table.rows,
        texts=tuple(share.text_hashes[split.name]),
        arrays=arrays,
        duplicates=table.duplicates if job.config.deduplicate else None,
    )
