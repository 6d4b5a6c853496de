"""A store that is finished already, compared with the extraction that would make it."""

from __future__ import annotations

from collections.abc import Callable

from glot_jax.errors import UsageError
from glot_jax.extraction.job import Job
from glot_jax.extraction.out_folder import refuse_unfinished_append, require_same_recipe
from glot_jax.extraction.shard import find_shard
from glot_jax.extraction.shard_texts import cut_shards
from glot_jax.extraction.split_files import file_record, has_rows, refuse_further
from glot_jax.store.arrays import npy_bytes
from glot_jax.store.finish import OTHER_TEXTS
from glot_jax.store.layout import array_file, shard_name
from glot_jax.store.lock import StoreLock
from glot_jax.store.manifest import Manifest, read_manifest
from glot_jax.store.reader import HiddenStore
from glot_jax.store.records import DAMAGED, SplitRecord, sum_up


def finished_by(job: Job, write: Callable[[StoreLock], None]) -> HiddenStore:
    """The finished store of a job: written now, or checked where it is there already.

    Args:
        job: the extraction.
        write: writes the store, or continues it, under the lock that it is given.

    Raises:
        UsageError: as for `check_finished`, and whatever `write` raises.
    """
    if job.is_finished():
        return check_finished(job)
    with job.lock() as lock:
        # Looked for again under the lock: another process may have finished the store meanwhile.
        is_finished = job.is_finished()
        if not is_finished:
            write(lock)
        lock.finished()
    if is_finished:
        return check_finished(job)
    job.clear()
    store = HiddenStore(job.store, trust=True)
    job.say(f"{job.store}: finished, content {store.content[:12]}")
    return store


def check_finished(job: Job) -> HiddenStore:
    """Check what can be told of a finished store without running the model.

    That is its recipe, texts, labels and the sizes of its files. Nothing is written.

    Raises:
        UsageError: it is another store than the one that was asked for, is damaged, or was grown.
    """
    out = job.store
    manifest = read_manifest(out)
    refuse_unfinished_append(out, job.begun_with())
    require_same_recipe(out, manifest.recipe, job.recipe)
    # The first rows alone would be another store, with other row arrays.
    grown = []
    for name, split in manifest.splits.items():
        if split.appended:
            grown.append(name)
    if grown:
        raise UsageError(
            rule="a store must not have grown to be compared with its first rows",
            got=f"{out}, whose {', '.join(grown)} grew",
            fix="Use it as it is, append more, or choose another --out.",
        )
    # Only texts are compared, by their token ids: the states are a function of them and the recipe.
    records = {name: _check_split(job, name) for name in job.data.splits}
    # Built with the stored recipe: the label of the backbone may differ, the rest may not.
    expected = Manifest.build(manifest.recipe, job.data.spec.to_json(), records)
    if expected.content != manifest.content:
        raise UsageError(
            rule="a store must be extended by its own texts only",
            got=f"{out}, whose task or splits differ",
            fix=OTHER_TEXTS,
        )
    if job.is_locked():
        # A run that died between its last two steps left this beside a finished store.
        with job.lock() as lock:
            lock.finished()
    job.clear()
    job.announce()
    job.say(f"{out}: complete already, content {manifest.content[:12]}; nothing to do")
    return HiddenStore(out)


def _check_split(job: Job, name: str) -> SplitRecord:
    """The record of a finished split; UsageError if files are missing or of other texts."""
    folder = job.out / name
    table = job.new_table()
    records = []
    examples = job.data.splits[name]
    shards = cut_shards(examples, job.backbone, job.config.shard_tokens, table)
    for index, texts in enumerate(shards):
        record = find_shard(job, name, index, texts)
        if record is None:
            raise UsageError(
                rule="a finished store must hold every shard",
                got=f"{folder / shard_name(index)}, which is missing",
                fix=DAMAGED,
            )
        records.append(record)
    refuse_further(job, name, len(records))
    # The table is complete only now, when the last shard is cut.
    arrays = {}
    for array_name, array in table.arrays().items():
        path = folder / array_file(array_name, 0)
        content = npy_bytes(array)
        if job.remote is not None:
            is_there = job.remote.files.has_file(f"{name}/{path.name}", len(content))
        else:
            is_there = has_rows(path, content)
        if not is_there:
            raise UsageError(
                rule="a finished store must hold its row arrays",
                got=f"{path}, which is missing",
                fix=DAMAGED,
            )
        arrays[array_name] = file_record(content)
    duplicates = table.duplicates if job.config.deduplicate else None
    return sum_up(table.rows, records, arrays, duplicates=duplicates)
