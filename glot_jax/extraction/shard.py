"""Shards: their texts through the backbone into files, or a check of the files that exist."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from glot_jax.backbones.backbone import Backbone
from glot_jax.backbones.storage_dtypes import States, largest_value
from glot_jax.config.location import StoreUrl
from glot_jax.errors import UsageError
from glot_jax.extraction.finished_passes import FinishedPasses
from glot_jax.extraction.job import Job, LocalJob
from glot_jax.extraction.progress import SplitProgress
from glot_jax.extraction.row_table import RowTable
from glot_jax.extraction.shard_texts import ShardTexts
from glot_jax.files import file_sha256
from glot_jax.store.arrays import load_array, npy_bytes
from glot_jax.store.finish import OTHER_TEXTS, remove_attempts
from glot_jax.store.layout import TEXT_FILES, refuse_link, shard_name
from glot_jax.store.recipe import Recipe
from glot_jax.store.records import ShardRecord, read_record
from glot_jax.store.scaled_states import is_scaled
from glot_jax.store.writer import ShardCounts, ShardWriter
from glot_jax.store.writer_thread import WriterThread


@dataclasses.dataclass(frozen=True)
class ShardTarget:
    """Where the shards of one split go, and how their states are computed and stored."""

    split: str
    """Name of the split, for messages."""
    folder: Path
    """The split's folder."""
    backbone: Backbone
    storage_dtype: str
    """As asked for: may be "auto"."""
    tokens_per_batch: int
    thread: WriterThread
    """Writes the shards while the next states are computed."""
    progress: SplitProgress
    notice: Callable[[str], None]
    """Called with a line for the user."""
    store: Path
    """Folder of the store."""
    recipe: Recipe
    """Of the store."""


@dataclasses.dataclass(frozen=True)
class OpenSplit:
    """A split whose shards have all been handed to the writer.

    The last of them may still be on their way to the disk.
    """

    name: str
    table: RowTable
    """Its rows, complete."""
    progress: SplitProgress
    shards: list[ShardRecord | Future[ShardRecord]]

    def records(self, thread: WriterThread) -> list[ShardRecord]:
        """Wait until every shard is on the disk, and return their records in order."""
        records = []
        for shard in self.shards:
            records.append(thread.result(shard) if isinstance(shard, Future) else shard)
        return records


def store_shards(
    job: LocalJob,
    name: str,
    shards: Iterable[tuple[int, ShardTexts]],
    table: RowTable,
    tokens: int,
    thread: WriterThread,
) -> OpenSplit:
    """Hand every shard of a split that is missing to the writer.

    Args:
        job: the extraction.
        name: of the split.
        shards: (index, texts) of the shards to store, cut as they are taken.
        table: is filled by the cutting.
        tokens: of these shards, about, for the progress bar.
        thread: writes the shards.
    """
    folder = job.out / name
    # Behind a link may be a cache that other stores share (DVC, git-annex).
    refuse_link(folder)
    records: list[ShardRecord | Future[ShardRecord]] = []
    with SplitProgress(job.console, name, tokens) as progress:
        target = ShardTarget(
            split=name,
            folder=folder,
            backbone=job.backbone,
            storage_dtype=job.config.storage_dtype,
            tokens_per_batch=job.config.tokens_per_batch,
            thread=thread,
            progress=progress,
            notice=job.say,
            store=job.out,
            recipe=job.recipe,
        )
        for index, texts in shards:
            # Resuming is nothing but this: a shard is a folder that appears whole, so one that is
            # there and holds these texts need not be made again.
            record = find_shard(job, name, index, texts)
            if record is None:
                # Whoever holds the lock alone writes these shards.
                remove_attempts(folder, index)
                records.append(write_shard(target, index, texts))
                continue
            progress.find(record.tokens)
            if job.remote is None or job.remote.files.has_shard(name, index):
                records.append(record)
            else:
                # Finished by a process that died before it was uploaded.
                records.append(thread.keep(folder / shard_name(index), record))
    # The bar has ended; the last shards are sealed while the model runs over the next split.
    return OpenSplit(name, table, progress, records)


def find_shard(
    job: Job,
    name: str,
    index: int,
    texts: ShardTexts,
) -> ShardRecord | None:
    """The record of a shard that is written already, wherever the store lies; else None.

    Args:
        job: the extraction.
        name: of the split.
        index: of the shard.
        texts: those that it must hold.

    Raises:
        UsageError: the shard is damaged, or holds other texts.
    """
    layers = job.backbone.layers
    folder = job.out / name
    if job.remote is not None:
        record = job.remote.files.record(name, index, layers)
        if record is not None:
            _require_texts(job.remote.url / name / shard_name(index), texts, record)
            # Of a process that died before it had let go of it.
            job.remote.let_go(folder / shard_name(index))
            return record
    return finished_shard(folder, index, texts, layers)


def _require_texts(shard: StoreUrl, texts: ShardTexts, record: ShardRecord) -> None:
    """Compare a shard's texts by the hashes of its record: none of its files is fetched."""
    for name, array in zip(TEXT_FILES, (texts.lengths, texts.token_ids), strict=True):
        digest = hashlib.sha256(npy_bytes(array)).hexdigest()
        if digest != record.files[name]["sha256"]:
            raise UsageError(
                rule="the texts must be those that the store was begun with",
                got=f"other token ids than those of {shard}",
                fix=OTHER_TEXTS,
            )


def finished_shard(
    folder: Path,
    index: int,
    texts: ShardTexts,
    layers: tuple[int, ...],
) -> ShardRecord | None:
    """Return the record of a shard that is written already, or None where there is none.

    Args:
        folder: of the split.
        index: of the shard.
        texts: those that it must hold.
        layers: those that it must hold.

    Raises:
        UsageError: the shard is damaged, or holds other texts.
    """
    # Checks the files' sizes too; hashes were computed when they were written.
    record = read_record(folder, index, layers)
    if record is None:
        return None
    shard = folder / shard_name(index)
    int32 = np.dtype(np.int32)
    lengths = load_array(shard / "lengths.npy", int32, (record.texts,))
    token_ids = load_array(shard / "token_ids.npy", int32, (record.tokens,))
    has_lengths = np.array_equal(lengths, texts.lengths)
    if has_lengths and np.array_equal(token_ids, texts.token_ids):
        return record
    # Rot, or other texts? Hashing takes time, so it is done only where the answer is needed.
    for name in TEXT_FILES:
        if file_sha256(shard / name) != record.files[name]["sha256"]:
            raise UsageError(
                rule="a stored file must have the sha256 of its record",
                got=f"{shard / name}, whose content differs",
                fix=f"Delete {shard} and run the same command again: the other shards are kept.",
            )
    raise UsageError(
        rule="the texts must be those that the store was begun with",
        got=f"other token ids than those of {shard}",
        fix=OTHER_TEXTS,
    )


def write_shard(
    target: ShardTarget,
    index: int,
    texts: ShardTexts,
) -> Future[ShardRecord]:
    """Run the model over the texts of a shard and hand their states to the writer's thread.

    With storage dtype "auto" a shard whose states exceed float16 is written as bfloat16.

    Returns:
        The shard's record, set once the shard is on the disk.

    Raises:
        UsageError: states are not finite, or exceed the storage dtype that was asked for.
    """
    dtype = target.storage_dtype
    if dtype == "auto":
        return _write_auto(target, index, texts)
    try:
        return _write_as(dtype, target, index, texts)
    except _TooLarge as error:
        row = int(texts.rows[error.text])
        raise _exceeds(dtype, target.split, row, error.peak) from error


def _write_auto(
    target: ShardTarget,
    index: int,
    texts: ShardTexts,
) -> Future[ShardRecord]:
    # The dtype is settled shard by shard: one loud text does not widen a whole split.
    peak = _decided_peak(target, index, texts)
    if peak is None:
        done = target.progress.done
        try:
            return _write_as("float16", target, index, texts)
        except _TooLarge as error:
            peak = error.peak
        # The whole shard once more: a shard has one dtype. Its tokens are counted anew.
        target.progress.rewind(done)
    target.notice(
        f"{target.split}: states up to {peak:.6g} exceed float16's"
        f" {largest_value('float16'):.0f}; {shard_name(index)} is stored as bfloat16"
    )
    return _write_as("bfloat16", target, index, texts)


def _decided_peak(
    target: ShardTarget,
    index: int,
    texts: ShardTexts,
) -> float | None:
    """The peak for which an earlier process has begun to store a shard as bfloat16, if it has."""

    def ids_of(number: int) -> list[np.ndarray]:
        batches = texts.batches(target.tokens_per_batch)
        batch = next(itertools.islice(batches, number, None), None)
        return [] if batch is None else _ids_of(texts, batch, texts.offsets)

    return _passes_of(target, index, "bfloat16").decided_peak(ids_of)


def _passes_of(
    target: ShardTarget,
    index: int,
    dtype: str,
) -> FinishedPasses:
    return FinishedPasses(target.store, target.split, index, target.recipe, dtype)


def _ids_of(
    texts: ShardTexts,
    batch: np.ndarray,
    offsets: np.ndarray,
) -> list[np.ndarray]:
    """Token ids of each text of a pass: views of the shard's array, nothing is copied."""
    ids = []
    for text in batch:
        start = offsets[text]
        end = offsets[text + 1]
        ids.append(texts.token_ids[start:end])
    return ids


def _exceeds(
    dtype: str,
    split: str,
    row: int,
    peak: float,
) -> UsageError:
    wider = "bfloat16" if dtype == "float16" else "float32"
    return UsageError(
        rule=f"{dtype} states must not exceed what it can hold",
        got=f"{peak:.6g} in split {split}, row {row}",
        fix=f"Use --storage-dtype {wider}.",
    )


def _write_as(
    dtype: str,
    target: ShardTarget,
    index: int,
    texts: ShardTexts,
) -> Future[ShardRecord]:
    backbone = target.backbone
    thread = target.thread
    offsets = texts.offsets
    peak = 0.0
    errors: list[np.ndarray] = []
    writer = ShardWriter(
        target.folder,
        index,
        texts.lengths,
        texts.token_ids,
        dim=backbone.dim,
        # All layers alike, although a record could tell them apart.
        dtypes=dict.fromkeys(backbone.layers, dtype),
    )
    passes = _passes_of(target, index, dtype)
    if passes.found:
        target.notice(
            f"{target.split}: {shard_name(index)} goes on behind {passes.found} finished passes"
        )
    # Waits while too many shards are being sealed.
    thread.begin(writer)
    for number, batch in enumerate(texts.batches(target.tokens_per_batch)):
        ids = _ids_of(texts, batch, offsets)
        earlier = passes.take(number, ids)
        states = backbone.states(ids, dtype) if earlier is None else earlier
        try:
            _check_values(target, dtype, states.peak, batch, ids, texts)
        except _TooLarge as error:
            # The shard starts again in a wider dtype, under the same name.
            thread.abandon(writer)
            passes.remove()
            if target.storage_dtype == "auto":
                # Known to whoever continues it: the passes so far need not be run to see it again.
                _passes_of(target, index, "bfloat16").decide(number, ids, error.peak)
            raise
        if earlier is None:
            passes.add(number, ids, states)
        # The thread holds back when too many bytes wait, so that memory stays bounded.
        size = sum(array.nbytes for array in states.layers.values())
        thread.put(functools.partial(_put, writer, states, batch, offsets), size)
        # Of the whole shard: its record tells how far its dtype is from overflow.
        peak = max(peak, states.peak)
        errors.append(states.cosine_errors)
        tokens = sum(map(len, ids))
        if earlier is None:
            target.progress.store(tokens, size)
        else:
            target.progress.find(tokens)
    counts = ShardCounts(
        truncated=texts.truncated,
        empty=texts.empty,
        max_abs=peak,
        cosine_error=_error_summary(errors) if is_scaled(dtype) else None,
    )
    sealed = thread.finish(writer, counts)
    # Until the shard is on the disk its passes are all there is of it.
    sealed.add_done_callback(lambda done: passes.remove() if done.exception() is None else None)
    return sealed


def _put(
    writer: ShardWriter,
    states: States,
    batch: np.ndarray,
    offsets: np.ndarray,
) -> None:
    """Put the states of each text at its position in the shard's files.

    Texts were passed by length, and lie in the files by row.
    """
    for layer, array in states.layers.items():
        scales = states.scales.get(layer)
        # Texts of a batch follow one another in its states, whatever their order in the shard.
        start = 0
        for text in batch.tolist():
            stop = start + int(offsets[text + 1] - offsets[text])
            text_scales = None if scales is None else scales[start:stop]
            writer.put(layer, int(offsets[text]), array[start:stop], text_scales)
            start = stop


def _check_values(
    target: ShardTarget,
    dtype: str,
    peak: float,
    batch: np.ndarray,
    ids: list[np.ndarray],
    texts: ShardTexts,
) -> None:
    """Raise UsageError for states that are not finite, _TooLarge for those beyond `dtype`."""
    if peak <= largest_value(dtype):  # False for nan too
        return
    # Once more in float32, where each text's own states tell whether it is the one.
    exact = target.backbone.states(ids, "float32")
    ends = np.cumsum([len(text) for text in ids])
    peaks = np.zeros(len(ids))
    for array in exact.layers.values():
        parts = np.split(array, ends[:-1])
        # np.maximum, unlike max, keeps a nan.
        layer_peaks = [np.abs(part).max() for part in parts]
        peaks = np.maximum(peaks, layer_peaks)
    # A finite peak beyond the dtype is a question of the dtype, anything else one of the model.
    if np.isfinite(peak):
        # The text that holds the peak, for the message.
        index = int(np.argmax(peaks))
        raise _TooLarge(int(batch[index]), peak)
    text = batch[int(np.argmax(~np.isfinite(peaks)))]
    wider = "float32"
    if target.backbone.compute_dtype == "float16":
        wider = "bfloat16 or float32"
    raise UsageError(
        rule="hidden states must be finite",
        got=f"nan or inf in split {target.split}, row {texts.rows[text]}",
        fix=f"Use --compute-dtype {wider}, or check the model's weights.",
    )


class _TooLarge(Exception):
    """A state exceeds the storage dtype.

    Attributes:
        text: the text with the largest state, by its position in the shard.
        peak: that state's magnitude.
    """

    def __init__(self, text: int, peak: float):
        self.text = text
        self.peak = peak
        super().__init__(f"text {text}: {peak}")


def _error_summary(errors: list[np.ndarray]) -> dict[str, float]:
    """Mean and maximum of the cosine errors, over tokens and layers; 0 for a shard without any."""
    if not errors:
        return {"mean": 0.0, "max": 0.0}
    # In float64: a mean over a hundred thousand tokens and more.
    joint = np.concatenate(errors).astype(np.float64)
    return {
        "mean": float(joint.mean()),
        "max": float(joint.max()),
    }
