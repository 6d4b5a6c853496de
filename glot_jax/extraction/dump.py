"""A task's texts through the backbone into a store: resumable shard by shard, never half-written."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from glot_jax.config import ExtractConfig, UsageError, require
from glot_jax.config_json import from_json, read_json
from glot_jax.extraction.backbone import Backbone, States, load_tokenizer, vocabulary
from glot_jax.extraction.progress import SplitProgress, check_disk, estimate_tokens, say
from glot_jax.extraction.shard_texts import RowTable, ShardTexts, cut_shards
from glot_jax.extraction.sources import find_source
from glot_jax.store.files import DTYPES, TEMPORARY, check_file, load_array, refuse_link, write_atomically
from glot_jax.store.lock import StoreLock, read_recipe
from glot_jax.store.manifest import (
    MANIFEST,
    RECORD,
    Manifest,
    ShardRecord,
    SplitRecord,
    canonical,
    check_split_name,
    explain_mismatch,
    lock_folder,
    read_manifest,
    shard_files,
    shard_name,
    write_manifest,
)
from glot_jax.store.shards import HiddenStore, ShardWriter
from glot_jax.texts import Split, TaskData, TaskSpec, open_task
from glot_jax.texts.diagnostic import whole_words


def dump(config: ExtractConfig, *, console: Console | None = None) -> HiddenStore:
    """Store the token states of `config.task` under `config.out`, and return the finished store.

    Continues an unfinished store of the same recipe after its last finished shard; a finished one of the same recipe
    and texts is checked and left as it is. Messages go to `console` (default: stderr).
    Raises UsageError for everything the caller can put right: data, backbone, lengths, a store of another recipe or of
    other texts, a second writer, states that are not finite or exceed the storage dtype, a full disk.
    """
    console = console or Console(stderr=True)
    _refuse_other_folder(config.out)
    data = open_task(config, vocabulary=lambda: whole_words(vocabulary(load_tokenizer(find_source(config.backbone, config.revision)))))
    for name, split in data.splits.items():
        check_split_name(name)
        require(len(split) > 0, "a split has at least one row", f"{name} with none", "Fill the split or leave it out.")
    for notice in data.notices:
        say(console, notice)
    backbone = Backbone(config, default_max_length=data.spec.max_length)
    recipe = _recipe(config, data.spec, backbone)
    if (config.out / MANIFEST).exists():
        return _check_finished(config, data, backbone, recipe, console)
    with StoreLock(config.out, lambda text: say(console, text, "yellow")) as lock:
        _require_same(config.out, lock.recipe(), recipe)
        _extract(config, data, backbone, recipe, lock, console)
        lock.finished()
    store = HiddenStore(config.out, trust=True)
    say(console, f"{config.out}: finished, content {store.content[:12]}")
    return store


def _extract(config: ExtractConfig, data: TaskData, backbone: Backbone, recipe: dict[str, Any], lock: StoreLock, console: Console) -> None:
    _remove_leftovers(config.out)
    tokens = estimate_tokens(data.splits, backbone)
    present = sum(path.stat().st_size for path in config.out.rglob("*.npy"))
    say(console, check_disk(config.out, sum(tokens.values()), backbone, config.storage_dtype, present))
    lock.begin(recipe)
    made = not config.out.exists()
    try:
        records = {
            name: _SplitDump(config, data.spec, split, backbone, console).run(tokens[name], finished=False) for name, split in data.splits.items()
        }
        _refuse_foreign_splits(config.out, data.splits)
        write_manifest(config.out, Manifest.build(recipe, data.spec.to_json(), records))
    finally:
        _remove_empty(config.out, made)


def _check_finished(config: ExtractConfig, data: TaskData, backbone: Backbone, recipe: dict[str, Any], console: Console) -> HiddenStore:
    """Everything about a finished store that can be told without running the model: recipe, texts, labels, file sizes."""
    manifest = read_manifest(config.out)
    _require_same(config.out, manifest.recipe, recipe)
    records = {name: _SplitDump(config, data.spec, split, backbone, console).run(0, finished=True) for name, split in data.splits.items()}
    # The label of the backbone may differ, the rest may not.
    expected = Manifest.build(manifest.recipe, data.spec.to_json(), records)
    require(expected.content == manifest.content, "a store is extended by nothing but its own texts", f"{config.out}, whose task or splits differ", _OTHER_TEXTS)
    if lock_folder(config.out).exists():
        # A run that died between its last two steps left this beside a finished store.
        with StoreLock(config.out) as lock:
            lock.finished()
    say(console, f"{config.out}: complete already, content {manifest.content[:12]}; nothing to do")
    return HiddenStore(config.out)


def _recipe(config: ExtractConfig, spec: TaskSpec, backbone: Backbone) -> dict[str, Any]:
    """Everything that decides the store's bytes and is known before the first shard; see `Manifest`."""
    recipe = {
        **backbone.recipe(), "storage_dtype": config.storage_dtype, "shard_tokens": config.shard_tokens, "task": spec.name,
        "text_columns": spec.text_columns, "label_column": spec.label_column,
        "max_train_rows": config.max_train_rows or spec.max_train_rows, "sample_seed": config.sample_seed,
    }
    if spec.name == "diagnostic":
        recipe |= {"protocol": config.protocol, "ratio": config.ratio, "diagnostic_rows": config.diagnostic_rows}
    # Through JSON, as the stored recipe it will be compared with: tuples become lists.
    return json.loads(canonical(recipe))


# ---------------------------------------------------------------------------------------------------------------------
# One split


class _SplitDump:
    """Extract, or check, the shards and row arrays of one split."""

    def __init__(self, config: ExtractConfig, spec: TaskSpec, split: Split, backbone: Backbone, console: Console):
        self._config, self._spec, self._split, self._backbone, self._console = config, spec, split, backbone, console
        self._folder = config.out / split.name

    def run(self, tokens: int, *, finished: bool) -> SplitRecord:
        """The split's record; with `finished`, nothing is written and what is missing is a UsageError."""
        refuse_link(self._folder)
        table, records = RowTable(), []
        with SplitProgress(self._console, self._split.name, tokens) as progress:
            for index, shard in enumerate(cut_shards(self._split, self._backbone, self._config.shard_tokens, table)):
                record = self._finished_shard(index, shard)
                require(record is not None or not finished, "a finished store holds every shard", f"{self._folder / shard_name(index)}, which is missing", _DAMAGED)
                if record is not None:
                    progress.advance(record.tokens, 0)
                else:
                    record = self._write_shard(index, shard, progress)
                records.append(record)
            extra = self._folder / shard_name(len(records))
            require(not extra.exists(), "the texts are those that the store was begun with", f"{extra}, a shard beyond the last text", _OTHER_TEXTS)
            arrays = table.arrays(len(self._spec.roles), self._spec.label_kind)
            files = {name: self._row_array(name, array, finished) for name, array in arrays.items()}
        record = _sum_up(len(table.labels), records, files)
        if not finished:
            progress.summarise(record, self._backbone.max_length)
        return record

    def _finished_shard(self, index: int, shard: ShardTexts) -> ShardRecord | None:
        """The record of a shard that is there, after a check that it holds these very texts; None if it is not there."""
        folder = self._folder / shard_name(index)
        refuse_link(folder)
        if not folder.exists():
            return None
        try:
            record = from_json(ShardRecord, read_json(folder / RECORD))
            names = shard_files(self._backbone.layers, index)
            require(set(record.files) == set(names), "a shard's record lists its files", folder / RECORD, _DAMAGED)
        except (TypeError, AttributeError) as error:
            raise UsageError("a shard's record is complete", f"{folder / RECORD} ({error})", _DAMAGED) from error
        for name in names:
            check_file(folder / name, record.files[name], trust=True)
        lengths = load_array(folder / "lengths.npy", np.dtype(np.int32), (record.texts,))
        token_ids = load_array(folder / "token_ids.npy", np.dtype(np.int32), (record.tokens,))
        same = np.array_equal(lengths, shard.lengths) and np.array_equal(token_ids, shard.token_ids)
        require(same, "the texts are those that the store was begun with", f"other token ids than those of {folder}", _OTHER_TEXTS)
        return record

    def _write_shard(self, index: int, shard: ShardTexts, progress: SplitProgress) -> ShardRecord:
        asked, done = self._config.storage_dtype, progress.done
        try:
            return self._write_shard_as("float16" if asked == "auto" else asked, index, shard, progress)
        except _TooLarge as error:
            row, limit = int(shard.rows[error.text]), float(np.finfo(np.float16).max)
            if asked != "auto":
                wider = "bfloat16" if asked == "float16" else "float32"
                raise UsageError(
                    f"{asked} states do not exceed what it can hold", f"{error.peak:.6g} in split {self._split.name}, row {row}", f"Use --storage-dtype {wider}."
                ) from error
            say(self._console, f"{self._split.name}: states up to {error.peak:.6g} exceed float16's {limit:.0f}; {shard_name(index)} is stored as bfloat16")
            progress.rewind(done)
            return self._write_shard_as("bfloat16", index, shard, progress)

    def _write_shard_as(self, dtype: str, index: int, shard: ShardTexts, progress: SplitProgress) -> ShardRecord:
        dtypes, offsets, peak = dict.fromkeys(self._backbone.layers, dtype), shard.offsets, 0.0
        with ShardWriter(self._folder, index, shard.lengths, shard.token_ids, dim=self._backbone.dim, dtypes=dtypes) as writer:
            for batch in shard.batches(self._config.tokens_per_batch):
                ids = [shard.token_ids[offsets[text] : offsets[text + 1]] for text in batch]
                states = self._backbone.states(ids, dtype)
                self._check_values(states, batch, ids, shard, dtype)
                _put(writer, states, batch, offsets)
                peak = max(peak, states.peak)
                progress.advance(sum(map(len, ids)), sum(array.nbytes for array in states.layers.values()))
            return writer.finish(truncated=shard.truncated, empty=shard.empty, max_abs=peak)

    def _check_values(self, states: States, batch: np.ndarray, ids: list[np.ndarray], shard: ShardTexts, dtype: str) -> None:
        """UsageError for states that are not finite, _TooLarge for those that `dtype` cannot hold."""
        if states.peak <= _limit(dtype):
            return
        exact = self._backbone.states(ids, "float32").layers.values()
        ends = np.cumsum([len(text) for text in ids])
        peaks = np.max([[np.abs(part).max() for part in np.split(array, ends[:-1])] for array in exact], axis=0)
        if np.isfinite(states.peak):
            raise _TooLarge(int(batch[int(np.argmax(peaks))]), states.peak)
        text = batch[int(np.argmax(~np.isfinite(peaks)))]
        raise UsageError(
            "hidden states are finite", f"nan or inf in split {self._split.name}, row {shard.rows[text]}",
            f"Use --compute-dtype {'bfloat16 or float32' if self._backbone.compute_dtype == 'float16' else 'float32'}, or check the model's weights.",
        )

    def _row_array(self, name: str, array: np.ndarray, finished: bool) -> dict[str, Any]:
        """Write a row array, or check the one that is there; its {"sha256", "bytes"}."""
        buffer, path = io.BytesIO(), self._folder / name
        np.save(buffer, array, allow_pickle=False)
        content = buffer.getvalue()
        record = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        refuse_link(path)
        if path.exists():
            require(path.read_bytes() == content, "the rows are those that the store was begun with", f"other rows or labels than those of {path}", _OTHER_TEXTS)
        else:
            require(not finished, "a finished store holds its row arrays", f"{path}, which is missing", _DAMAGED)
            write_atomically(path, content)
        return record


class _TooLarge(Exception):
    """A state exceeds the storage dtype."""

    def __init__(self, text: int, peak: float):
        self.text, self.peak = text, peak
        super().__init__(f"text {text}: {peak}")


def _limit(dtype: str) -> float:
    # bfloat16's largest number through float32's layout: NumPy has no finfo for it.
    return float(np.array(0x7F7F, np.uint16).view(DTYPES["bfloat16"])) if dtype == "bfloat16" else float(np.finfo(DTYPES[dtype]).max)


def _put(writer: ShardWriter, states: States, batch: np.ndarray, offsets: np.ndarray) -> None:
    """Each text's states to its own place in the shard's files."""
    for layer, array in states.layers.items():
        start = 0
        for text in batch.tolist():
            stop = start + int(offsets[text + 1] - offsets[text])
            writer.put(layer, int(offsets[text]), array[start:stop])
            start = stop


def _sum_up(rows: int, shards: list[ShardRecord], arrays: dict[str, dict[str, Any]]) -> SplitRecord:
    return SplitRecord(
        rows=rows, texts=sum(shard.texts for shard in shards), tokens=sum(shard.tokens for shard in shards),
        truncated=sum(shard.truncated for shard in shards), empty=sum(shard.empty for shard in shards),
        max_abs=max(shard.max_abs for shard in shards), shards=tuple(shards), arrays=arrays,
    )


# ---------------------------------------------------------------------------------------------------------------------
# The folder

_OTHER_TEXTS = "The data changed since: choose another --out, or restore the data."
_DAMAGED = "`glot store verify` lists what is damaged; extract the store again into a new folder."


def _refuse_other_folder(out: Path) -> None:
    """OUT may be new, empty, a store, or a store in the making; anything else is somebody's own folder."""
    require(not out.exists() or out.is_dir(), "--out is a folder", f"{out}, which is a file", "Choose another --out.")
    if not out.is_dir() or (out / MANIFEST).exists() or not any(out.iterdir()):
        return
    require(
        read_recipe(out) is not None, "--out is a new or empty folder, or a store", f"{out}, which holds other things", "Choose another --out, or empty the folder."
    )


def _require_same(out: Path, stored: dict[str, Any] | None, wanted: dict[str, Any]) -> None:
    lines = [] if stored is None else explain_mismatch(stored, wanted)
    require(
        not lines, f"{out} holds states of another recipe (stored -> asked for)", "\n  " + "\n  ".join(lines),
        "\nChoose another --out, or repeat the options that the store was made with.",
    )


def _remove_leftovers(out: Path) -> None:
    """What an interrupted run was writing when it died."""
    for pattern in (f"{TEMPORARY}*", f"*/{TEMPORARY}*"):
        for path in out.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


def _remove_empty(out: Path, made: bool) -> None:
    """Take back the folders of a run that stored nothing."""
    for folder in (*out.glob("*/"), *([out] if made else [])):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _refuse_foreign_splits(out: Path, splits: Iterable[str]) -> None:
    foreign = sorted({path.name for path in out.iterdir()} - {*splits})
    require(not foreign, "a store in the making holds the splits of its task", f"{', '.join(foreign)} in {out}", _OTHER_TEXTS)
