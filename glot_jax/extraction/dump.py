"""A task's texts through the backbone into a store: resumable shard by shard, never
half-written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError, require
from glot_jax.extraction.backbone import Backbone
from glot_jax.extraction.backbone_source import find_source
from glot_jax.extraction.pinning import pin_revision
from glot_jax.extraction.progress import check_disk, estimate_tokens, say
from glot_jax.extraction.split_dump import SplitDump
from glot_jax.extraction.tokenizer import load_tokenizer, vocabulary
from glot_jax.store.finish import (
    OTHER_TEXTS,
    refuse_foreign,
    remove_leftovers,
    remove_superseded,
    sync_folders,
)
from glot_jax.store.layout import MANIFEST, check_split_name, lock_folder
from glot_jax.store.lock import StoreLock, read_begun
from glot_jax.store.manifest import Manifest, read_manifest, write_manifest
from glot_jax.store.reader import HiddenStore
from glot_jax.store.recipe import PendingAppend, Recipe
from glot_jax.store.worker_plan import WorkerPlan
from glot_jax.store.writer_thread import WriterThread
from glot_jax.texts import TaskData, TaskSpec, open_task
from glot_jax.texts.stress_words import whole_words


def dump(
    config: ExtractConfig,
    *,
    console: Console | None = None,
    spec: TaskSpec | None = None,
    backbone: Backbone | None = None,
) -> HiddenStore:
    """Store the token states of `config.task` under `config.out`, and return the finished store.

    Continues an unfinished store of the same recipe after its last finished shard; a finished one
    of the same recipe and texts is checked and left as it is. With `append`, the rows are added to
    a finished store instead; rows that were added before are not added again, and of files that
    begin with the stored rows only the rest is. Messages go to `console` (default: stderr). `spec`
    fixes classes or range from elsewhere, a trained run's for instance: no train split is needed
    then. `backbone` is one of these settings that is loaded already. Raises UsageError for
    everything the caller can put right: data, backbone, lengths, a store of another recipe or of
    other texts, a second writer, states that are not finite or exceed the storage dtype, a full
    disk.
    """
    require(
        config.share is None,
        "a worker writes its share with dump_share",
        f"--worker {config.worker}",
        "Call dump_share, or leave it out.",
    )
    console = console or Console(stderr=True)
    job = _prepare(config, spec, backbone)
    config, data, backbone, recipe = job.config, job.data, job.backbone, job.recipe
    if config.append:
        return _append(job, console)
    if (config.out / MANIFEST).exists():
        return _check_finished(job, console)
    with _locked(config, console) as lock:
        finished = (config.out / MANIFEST).exists()  # by another process, since the look above
        if not finished:
            _require_same(config.out, lock.begun_with(), recipe)
            remove_leftovers(config.out)
            dumps = {
                name: SplitDump(config, data.spec, split, backbone, console)
                for name, split in data.splits.items()
            }
            records = _write(job, dumps, lock, recipe, console)
            refuse_foreign(config.out, data.splits)
            sync_folders(config.out, records)
            probe = backbone.probe.to_json()
            write_manifest(
                config.out, Manifest.build(recipe, data.spec.to_json(), records, probe=probe)
            )
        lock.finished()
    if finished:
        return _check_finished(job, console)
    store = HiddenStore(config.out, trust=True)
    say(console, f"{config.out}: finished, content {store.content[:12]}")
    return store


def dump_share(config: ExtractConfig, *, console: Console | None = None) -> None:
    """Write the shards of `config.worker`, I/N: those whose number over all splits is I modulo N.

    Workers need nothing of one another; each may be killed and run again. When all are done
    `glot_jax.store.finish` makes a store of their shards, equal byte for byte to the one that a
    single process writes. Raises what `dump` raises.
    """
    require(
        config.share is not None, "a worker has a number", "none", "Give for example --worker 0/4."
    )
    console = console or Console(stderr=True)
    job = _prepare(config)
    config, data, recipe = job.config, job.data, job.recipe
    if (config.out / MANIFEST).exists():
        _check_finished(job, console)
        return
    number, workers = config.share or (0, 1)
    with _locked(config, console) as lock:
        finished = (config.out / MANIFEST).exists()
        if finished:
            lock.finished()
        else:
            _require_same(config.out, lock.begun_with(), recipe)
            dumps = {
                name: SplitDump(config, data.spec, split, job.backbone, console)
                for name, split in data.splits.items()
            }
            _write(job, dumps, lock, recipe, console)
            if number == 0:
                plans = {name: split.plan for name, split in dumps.items()}
                splits = {name: plan for name, plan in plans.items() if plan is not None}
                probe = job.backbone.probe.to_json()
                lock.plan(WorkerPlan(workers, data.spec.to_json(), splits, probe))
    if finished:
        _check_finished(job, console)
        return
    say(
        console,
        f"{config.out}: worker {number} of {workers} is done; when all are: glot store finish"
        f" {config.out}",
    )


@dataclasses.dataclass(frozen=True)
class _Job:
    """An extraction that is ready to start: everything that could be wrong with its input is
    not.
    """

    config: ExtractConfig
    data: TaskData
    backbone: Backbone
    recipe: Recipe
    notices: tuple[str, ...]
    """What was read, left out and assumed: printed as one block after the checks and before the
    work.
    """

    def announce(self, console: Console) -> None:
        for notice in self.notices:
            say(console, notice)


def _prepare(
    config: ExtractConfig, spec: TaskSpec | None = None, backbone: Backbone | None = None
) -> _Job:
    """Everything that can be wrong before the store is touched."""
    _refuse_other_folder(config.out)
    if config.append:
        spec = TaskSpec.from_json(read_manifest(config.out).task)
    config, pinned = pin_revision(config)

    def whole_vocabulary() -> list[str]:
        source = find_source(config.backbone, config.revision, allow_bin=config.allow_bin)
        return whole_words(vocabulary(load_tokenizer(source)))

    data = open_task(config, vocabulary=whole_vocabulary, spec=spec)
    for name, split in data.splits.items():
        check_split_name(name)
        require(
            len(split) > 0,
            "a split has at least one row",
            f"{name} with none",
            "Fill the split or leave it out.",
        )
    backbone = backbone or Backbone(config, default_max_length=data.spec.max_length)
    notices = (*pinned, *data.notices, *backbone.notices())
    return _Job(config, data, backbone, _recipe(config, data.spec, backbone), notices)


def _locked(config: ExtractConfig, console: Console) -> StoreLock:
    return StoreLock(config.out, lambda text: say(console, text, "yellow"), share=config.share)


def _write(
    job: _Job,
    dumps: Mapping[str, SplitDump],
    lock: StoreLock,
    work: Recipe | PendingAppend,
    console: Console,
) -> dict[str, Any]:
    """Run the model over every split; the splits' records by name.

    `work` is what a rerun will be compared with.
    """
    config, data, backbone = job.config, job.data, job.backbone
    tokens = estimate_tokens({name: data.splits[name] for name in dumps}, backbone)
    for name, one in dumps.items():
        tokens[name] = round(tokens[name] * one.new_rows / len(data.splits[name]))
    present = 0 if config.append else sum(path.stat().st_size for path in config.out.rglob("*.npy"))
    # Each worker looks at the disk for its own share of what is left: the others may write
    # elsewhere, or be done.
    workers = (config.share or (0, 1))[1]
    room = check_disk(config.out, sum(tokens.values()), backbone, config, present, workers)
    begun = lock.begin(work)
    if isinstance(work, Recipe):
        # Another worker that started at the same time may have written its recipe first.
        _require_same(config.out, begun, work)
    job.announce(console)
    say(console, room)
    made = not config.out.exists()
    records, number = {}, 0
    try:
        with WriterThread() as thread:
            waiting: list[str] = []
            for name, one in dumps.items():
                one.run(tokens[name], thread, number)
                number += one.shards
                # The last shard of a split is sealed while the model runs over the next split.
                records |= {earlier: dumps[earlier].result() for earlier in waiting}
                waiting = [name]
            records |= {name: dumps[name].result() for name in waiting}
    finally:
        # A worker that stored nothing does not know what the others are about to store.
        if config.share is None:
            _remove_empty(config.out, made)
    return records


def _check_finished(job: _Job, console: Console) -> HiddenStore:
    """Everything about a finished store that can be told without running the model: recipe, texts,
    labels, file sizes.
    """
    config, data, backbone, recipe = job.config, job.data, job.backbone, job.recipe
    manifest = read_manifest(config.out)
    _refuse_unfinished_append(config.out, read_begun(config.out))
    _require_same(config.out, manifest.recipe, recipe)
    grown = [name for name, split in manifest.splits.items() if split.appended]
    require(
        not grown,
        "a store that rows were appended to is not compared with its first rows",
        f"{config.out}, whose {', '.join(grown)} grew",
        _KEEP_GROWN,
    )
    records = {
        name: SplitDump(config, data.spec, split, backbone, console).check()
        for name, split in data.splits.items()
    }
    # The label of the backbone may differ, the rest may not.
    expected = Manifest.build(manifest.recipe, data.spec.to_json(), records)
    require(
        expected.content == manifest.content,
        "a store is extended by nothing but its own texts",
        f"{config.out}, whose task or splits differ",
        OTHER_TEXTS,
    )
    if lock_folder(config.out).exists():
        # A run that died between its last two steps left this beside a finished store.
        with StoreLock(config.out) as lock:
            lock.finished()
    job.announce(console)
    say(console, f"{config.out}: complete already, content {manifest.content[:12]}; nothing to do")
    return HiddenStore(config.out)


def _append(job: _Job, console: Console) -> HiddenStore:
    """Add shards and new row arrays beside the old ones, then replace the manifest: until then the
    store stays what it was.
    """
    config, data, backbone, recipe = job.config, job.data, job.backbone, job.recipe
    manifest = read_manifest(config.out)
    # An append brings files of its own: which rows of earlier files were sampled is not asked.
    _require_same(config.out, manifest.recipe, recipe, ignore=("max_train_rows", "sample_seed"))
    # Not trusted: what is read of it here, rows and labels, is written again under a new hash.
    store = HiddenStore(config.out)
    bases = {
        name: (manifest.splits[name], store[name]) if name in manifest.splits else None
        for name in data.splits
    }
    dumps = {
        name: SplitDump(config, data.spec, split, backbone, console, bases[name])
        for name, split in data.splits.items()
    }
    found = {name: one.find_new_rows() for name, one in dumps.items()}
    hashes = {name: sha256 for name, (rows, sha256) in found.items() if rows}
    known = [
        name
        for name in hashes
        for base in [bases[name]]
        if base and any(one.sha256 == hashes[name] for one in base[0].appended or ())
    ]
    require(
        len(known) in (0, len(hashes)),
        "rows are appended once",
        f"those of {', '.join(known)}, which {config.out} has",
        "Leave their file out of --data.",
    )
    with _locked(config, console) as lock:
        # Shards that an append began and did not finish belong to its rows.
        begun = lock.begun_with()
        pending = PendingAppend(hashes, manifest.content)
        require(
            read_manifest(config.out).content == manifest.content,
            "a store grows by one append at a time",
            f"{config.out}, which another one extended meanwhile",
            "Run the same command again.",
        )
        if len(known) == len(hashes):
            over = {
                one.sha256 for split in manifest.splits.values() for one in split.appended or ()
            }
            begun_rows = begun.append.values() if isinstance(begun, PendingAppend) else ()
            require(
                {*begun_rows} <= over,
                _FINISH_FIRST,
                f"another one of {config.out}",
                _GIVE_UP.format(lock_folder(config.out)),
            )
            remove_superseded(config.out, manifest)
            lock.finished()
            job.announce(console)
            say(
                console,
                f"{config.out}: holds these rows already, content {manifest.content[:12]}; nothing"
                " to do",
            )
            return store
        require(
            begun in (None, pending),
            _FINISH_FIRST,
            f"other rows, or another {config.out}",
            _GIVE_UP.format(lock_folder(config.out)),
        )
        remove_leftovers(config.out)
        records = _write(job, {name: dumps[name] for name in hashes}, lock, pending, console)
        grown = Manifest.build(
            manifest.recipe, manifest.task, {**manifest.splits, **records}, probe=manifest.probe
        )
        sync_folders(config.out, records)
        write_manifest(config.out, grown)
        remove_superseded(config.out, grown)
        lock.finished()
    added = ", ".join(f"{dumps[name].new_rows:,} to {name}" for name in hashes)
    say(
        console,
        f"{config.out}: extended by rows: {added}; content {manifest.content[:12]} ->"
        f" {grown.content[:12]}",
    )
    return HiddenStore(config.out, trust=True)


_FINISH_FIRST = "an append that was begun is finished first"
_GIVE_UP = (
    "Run it again with its own --data; to give it up, delete {} and the files that `glot store"
    " verify` then lists."
)


def _recipe(config: ExtractConfig, spec: TaskSpec, backbone: Backbone) -> Recipe:
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
        # Named where they are not the default, so that stores made before there were such options
        # keep their recipe.
        distance=config.distance or None,
        position=config.position,
    )


# --------------------------------------------------------------------------------------------------
# The folder

_KEEP_GROWN = "Use it as it is, append more, or choose another --out."


def _refuse_other_folder(out: Path) -> None:
    """OUT may be new, empty, a store, or a store in the making; anything else is somebody's own
    folder.
    """
    require(
        not out.exists() or out.is_dir(),
        "--out is a folder",
        f"{out}, which is a file",
        "Choose another --out.",
    )
    if not out.is_dir() or (out / MANIFEST).exists() or not any(out.iterdir()):
        return
    if read_begun(out) is None:
        moved = any(out.glob("*/shard-*"))
        no_lock = f"shards, and no {lock_folder(out)} that says what they are"
        raise UsageError(
            "--out is a new or empty folder, or a store",
            f"{out}, which holds {no_lock if moved else 'other things'}",
            (
                "Bring that folder back (it moves with an unfinished store), or choose another"
                " --out."
                if moved
                else "Choose another --out, or empty the folder."
            ),
        )


def _refuse_unfinished_append(out: Path, begun: Recipe | PendingAppend | None) -> None:
    if isinstance(begun, PendingAppend):
        raise UsageError(rule=_FINISH_FIRST, got=out, fix=_GIVE_UP.format(lock_folder(out)))


def _require_same(
    out: Path,
    stored: Recipe | PendingAppend | None,
    recipe: Recipe,
    ignore: tuple[str, ...] = (),
) -> None:
    """Refuse to go on with a store of another recipe, or with one that is being appended to."""
    _refuse_unfinished_append(out, stored)
    if not isinstance(stored, Recipe):
        return
    lines = stored.explain(recipe, ignore=ignore)
    if lines:
        raise UsageError(
            rule=f"{out} holds states of another recipe (stored -> asked for)",
            got="\n  " + "\n  ".join(lines),
            fix="\nChoose another --out, or repeat the options that the store was made with.",
        )


def _remove_empty(out: Path, made: bool) -> None:
    """Take back the folders of a run that stored nothing."""
    for folder in (*out.glob("*/"), *([out] if made else [])):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
