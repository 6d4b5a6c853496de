"""A task's texts through the backbone into a store: resumable shard by shard, never half-written.

Three modes share one core (`job`, `shard_texts`, `shard`, `split_files`):

| mode | module | asked for by |
| --- | --- | --- |
| a store from its first row | `fresh` | nothing |
| rows added to a finished store | `append` | `--append` |
| every N-th shard of a store | `workers` | `--worker I/N` |
"""

from __future__ import annotations

from rich.console import Console

from glot_jax.backbones.backbone import Backbone
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction.append import append_rows
from glot_jax.extraction.fresh import write_store
from glot_jax.extraction.job import prepare
from glot_jax.extraction.workers import write_share
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
    if config.share is not None:
        raise UsageError(
            rule="a worker must write its share with dump_share",
            got=f"--worker {config.worker}",
            fix="Call dump_share, or leave it out.",
        )
    console = console or Console(stderr=True)
    job = prepare(config, console, spec=spec, backbone=backbone)
    # The one place that asks for the mode: each module below knows its own alone.
    if config.append:
        return append_rows(job)
    return write_store(job)


def dump_share(config: ExtractConfig, *, console: Console | None = None) -> None:
    """Write the shards of `config.worker`, I/N: those whose number over all splits is I modulo N.

    Workers need nothing of one another; each may be killed and run again. When all are done
    `glot_jax.store.finish` makes a store of their shards, equal byte for byte to the one that a
    single process writes.

    Args:
        config: settings of the extraction, `worker` among them.
        console: receives messages; stderr by default.

    Raises:
        UsageError: as for `dump`.
    """
    if config.share is None:
        raise UsageError(
            rule="a worker must have a number", got="none", fix="Give for example --worker 0/4."
        )
    # 0 <= number < workers, as the settings check.
    number, workers = config.share
    job = prepare(config, console or Console(stderr=True))
    write_share(job, number, workers)
