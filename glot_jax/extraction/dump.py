"""A task's texts through the backbone into a store: resumable shard by shard, never half-written.

Four modes share one core (`job`, `shard_texts`, `shard`, `split_files`):

| mode | module | asked for by |
| --- | --- | --- |
| a store from its first row | `fresh` | nothing |
| rows added to a finished store | `append` | `--append` |
| every N-th shard of a store | `workers` | `--worker I/N` |
| a store whose shards actors of Ray write | `cluster` | `--ray` |
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from glot_jax.backbones.backbone import Backbone
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import StoreUrl
from glot_jax.errors import UsageError
from glot_jax.extraction.append import append_rows
from glot_jax.extraction.fresh import write_store
from glot_jax.extraction.job import Job, prepare
from glot_jax.extraction.progress import say
from glot_jax.extraction.workers import write_share
from glot_jax.launcher import find_worker
from glot_jax.remote_stores import finishing
from glot_jax.store.finish import finish, has_every_shard
from glot_jax.store.reader import HiddenStore
from glot_jax.texts import TaskSpec


def dump(
    config: ExtractConfig,
    *,
    console: Console | None = None,
    spec: TaskSpec | None = None,
    backbone: Backbone | None = None,
) -> HiddenStore:
    """Store the token states of `config.task` under `config.out`, and return the finished store.

    An unfinished store of the same recipe is continued after its last finished shard; a finished
    one of the same recipe and texts is checked and left as it is. With `append`, the rows are added
    to a finished store instead; rows that were added before are not added again, and of files that
    begin with the stored rows only the rest is.

    Args:
        config: settings of the extraction.
        console: receives messages; stderr by default.
        spec: classes or range from elsewhere, a trained run's for instance: no train split is
            needed then.
        backbone: one of these settings that is loaded already.

    Raises:
        UsageError: everything the caller can put right: data, backbone, lengths, a store of another
            recipe or of other texts, a second writer, states that are not finite or exceed the
            storage dtype, a full disk.
    """
    if config.worker is not None:
        raise UsageError(
            rule="a worker must write its share with dump_share",
            got=f"--worker {config.worker}",
            fix="Call dump_share, or leave it out.",
        )
    console = console or Console(stderr=True)
    # The one place that asks for the mode: each module below knows its own alone.
    if config.cluster.ray is not None:
        return _dump_on_cluster(config, console, spec, backbone)
    job = prepare(config, console, spec=spec, backbone=backbone)
    if config.append:
        return append_rows(job)
    return write_store(job)


def _dump_on_cluster(
    config: ExtractConfig,
    console: Console,
    spec: TaskSpec | None,
    backbone: Backbone | None,
) -> HiddenStore:
    if backbone is not None:
        raise UsageError(
            rule="with --ray each actor loads the backbone itself",
            got="a backbone that is loaded here",
            fix="Give its name or folder.",
        )
    # Here and not at the top: whoever has no Ray extracts all the same.
    from glot_jax.extraction.cluster import write_on_cluster

    threads = physical_cores()
    return write_on_cluster(config, console, threads=threads, spec=spec)


def dump_share(config: ExtractConfig, *, console: Console | None = None) -> None:
    """Write the shards of `config.worker`, I/N: those whose number over all splits is I modulo N.

    With `auto` the launcher of this process says which they are, the device is the process's own
    among those of its machine, and the last worker finishes the store.

    Workers need nothing of one another; each may be killed and run again. When all are done
    `glot_jax.store.finish` makes a store of their shards, equal byte for byte to the one that a
    single process writes.

    Args:
        config: settings of the extraction, `worker` among them.
        console: receives messages; stderr by default.

    Raises:
        UsageError: as for `dump`.
    """
    console = console or Console(stderr=True)
    finishes = config.asks_launcher
    if finishes:
        config, line = launched(config, os.environ)
        say(console, line)
    if config.share is None:
        raise UsageError(
            rule="a worker must have a number", got="none", fix="Give for example --worker 0/4."
        )
    # 0 <= number < workers, as the settings check.
    number, workers = config.share
    job = prepare(config, console)
    write_share(job, number, workers, last_finishes=finishes)
    # Workers that are told their number may be far from being all: somebody else finishes theirs.
    if finishes and finish_if_complete(job):
        job.say(f"{job.store}: every worker is done; finished")


def finish_if_complete(job: Job) -> bool:
    """Finish a store of which every shard is there; whether it was."""
    notice = functools.partial(say, job.console)
    if isinstance(job.store, StoreUrl):
        if not finishing.has_every_shard(job.store):
            return False
        finishing.finish(job.store, notice, job.config.remote)
        return True
    if not has_every_shard(job.out):
        return False
    finish(job.out, notice)
    return True


def launched(config: ExtractConfig, environ: Mapping[str, str]) -> tuple[ExtractConfig, str]:
    """The settings of the worker that a launcher has made of this process, and a line about it.

    Args:
        config: with `worker` auto or auto/N.
        environ: environment variables.

    Raises:
        UsageError: as `find_worker`.
    """
    # Nothing behind the bar where the launcher is to count them.
    _, _, workers = str(config.worker).partition("/")
    worker = find_worker(environ, int(workers) if workers else None)
    line = f"worker {worker.number} of {worker.workers}, from {worker.source}"
    changes: dict[str, Any] = {"worker": f"{worker.number}/{worker.workers}"}
    devices = torch.cuda.device_count()
    # With one visible, the launcher has chosen it.
    if config.device == "auto" and config.device_map == "none" and devices > 1:
        changes["device"] = f"cuda:{worker.local % devices}"
        line += f", on {changes['device']}"
    if config.threads is None:
        # torchrun and others say OMP_NUM_THREADS=1, with which some bits would be others.
        changes["threads"] = physical_cores()
    return dataclasses.replace(config, **changes), line


def physical_cores() -> int:
    """Cores that this process may use, those that share one counted once: PyTorch's default."""
    cores = set()
    for number in _processors():
        path = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
        try:
            cores.add(path.read_text())
        except OSError:
            # Not Linux, or a machine that does not tell: each by itself.
            cores.add(str(number))
    return len(cores)


def _processors() -> Iterable[int]:
    # Elsewhere nobody says which a process may use.
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)
