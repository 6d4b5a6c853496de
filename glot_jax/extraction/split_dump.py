"""One split through the backbone into its shards and row arrays."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
from rich.console import Console

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError, require
from glot_jax.extraction.backbone import Backbone
from glot_jax.extraction.progress import SplitProgress, say
from glot_jax.extraction.shard_texts import RowTable, ShardTexts, cut_shards, row_key
from glot_jax.extraction.states import States
from glot_jax.files import file_sha256, make_folders, write_bytes
from glot_jax.store.arrays import DTYPES, load_array, npy_bytes
from glot_jax.store.finish import OTHER_TEXTS
from glot_jax.store.integrity import FileRecord
from glot_jax.store.layout import EXTRACT_AGAIN, TEXT_FILES, array_file, refuse_link, shard_name
from glot_jax.store.records import DAMAGED, Appended, ShardRecord, SplitRecord, read_record, sum_up
from glot_jax.store.split_reader import SplitReader
from glot_jax.store.worker_plan import SplitPlan
from glot_jax.store.writer import ShardCounts, ShardWriter
from glot_jax.store.writer_thread import WriterThread
from glot_jax.texts import Split, TaskSpec


class SplitDump:
    """Extract, or check, the shards and row arrays of one split.

    `base` is the split of a finished store that the rows are appended to, with its record; None
    where the split is new.
    """

    def __init__(
        self,
        config: ExtractConfig,
        spec: TaskSpec,
        split: Split,
        backbone: Backbone,
        console: Console,
        base: tuple[SplitRecord, SplitReader] | None = None,
    ):
        self._config, self._spec, self._split, self._backbone, self._console = (
            config,
            spec,
            split,
            backbone,
            console,
        )
        self._folder, self._base = config.out / split.name, base
        self._skip = 0
        self._records: list[ShardRecord | Future[ShardRecord]] = []
        self._texts: list[tuple[str, ...]] = []
        """Of every shard the sha256 of its TEXT_FILES, as worker 0 sees them."""
        self.shards = 0
        """Shards that the rows of this split make, counted by `run`."""
        self.plan: SplitPlan | None = None
        """What `glot store finish` needs to know of the split; filled by worker 0."""

    def find_new_rows(self) -> tuple[int, str]:
        """(how many, sha256) of the rows that an append adds: all, or those after the ones the
        store holds already.

        Files that begin with every row of the split are taken for the split's own, grown at the
        end.
        """
        if self._base and len(self._split) >= self._base[0].rows:
            self._skip = self._count_stored(*self._base)
        return self.new_rows, self._sha256(self._skip, len(self._split))

    @property
    def new_rows(self) -> int:
        """Rows that are not in the store yet; all of them before `find_new_rows`."""
        return len(self._split) - self._skip

    def _count_stored(self, record: SplitRecord, reader: SplitReader) -> int:
        """How many rows the files begin with that are the split's own: all or none.

        UsageError for nearly all.
        """
        differ: list[int] = []
        begun = zip(_stored_rows(reader), self._row_keys(record.rows), strict=True)
        for row, (stored, given) in enumerate(begun):
            if stored != given:
                differ.append(row)
                if 2 * len(differ) > record.rows:
                    return 0
        require(
            not differ,
            "files that an append reads hold new rows alone, or begin with the rows of the store as"
            " they are",
            f"{self._split.name} with {len(differ):,} of the {record.rows:,} stored rows changed,"
            f" the first of them row {differ[0] if differ else 0}",
            "Leave the stored rows out of the file, or extract into another --out.",
        )
        return record.rows

    def _row_keys(self, rows: int) -> Iterator[bytes]:
        table = RowTable(self._spec, keys=True)
        for _ in cut_shards(
            itertools.islice(self._split, rows), self._backbone, self._config.shard_tokens, table
        ):
            yield from table.take_keys()
        yield from table.take_keys()

    def _sha256(self, first: int, last: int) -> str:
        table = RowTable(self._spec, digest=True)
        for _ in cut_shards(
            itertools.islice(self._split, first, last),
            self._backbone,
            self._config.shard_tokens,
            table,
        ):
            pass
        return table.sha256

    def check(self) -> SplitRecord:
        """The record of a finished split; UsageError if anything is missing or of other texts.

        Nothing is written.
        """
        table = self._table()
        records: list[Any] = []
        for index, shard in enumerate(
            cut_shards(self._split, self._backbone, self._config.shard_tokens, table)
        ):
            record = self._finished_shard(index, shard)
            require(
                record is not None,
                "a finished store holds every shard",
                f"{self._folder / shard_name(index)}, which is missing",
                DAMAGED,
            )
            records.append(record)
        return self._sum_up(table, records, finished=True)

    def run(self, tokens: int, thread: WriterThread, first_number: int = 0) -> None:
        """Hand every shard that is missing to `thread`; `result` waits for them.

        Args:
            tokens: of the split, for the progress bar.
            thread: writes the shards.
            first_number: shards of the splits before this one; a worker takes every N-th of all.
        """
        refuse_link(self._folder)
        self._rows, self._thread = self._table(), thread
        self._records = list(self._base[0].shards) if self._base else []
        number, workers = self._config.share or (0, 1)
        rows = itertools.islice(self._split, self._skip, None)
        with SplitProgress(self._console, self._split.name, tokens) as progress:
            for index, shard in enumerate(
                cut_shards(rows, self._backbone, self._config.shard_tokens, self._rows),
                len(self._records),
            ):
                self.shards += 1
                if self._config.share is not None and number == 0:
                    arrays = (shard.lengths, shard.token_ids)
                    hashes = (hashlib.sha256(npy_bytes(array)).hexdigest() for array in arrays)
                    self._texts.append(tuple(hashes))
                if (first_number + index) % workers != number:
                    continue
                record = self._finished_shard(index, shard)
                if record is not None:
                    progress.advance(record.tokens, 0)
                self._records.append(record or self._write_shard(index, shard, progress, thread))
        self._progress = progress

    def result(self) -> SplitRecord | None:
        """The split's record, once its shards are on the disk; None for a worker, who sees its own
        shards only.
        """
        records = [
            self._thread.result(record) if isinstance(record, Future) else record
            for record in self._records
        ]
        if self._config.share is not None:
            self._finish_share(self._rows, self._config.share[0])
            return None
        record = self._sum_up(self._rows, records, finished=False)
        self._progress.summarise(record, self._backbone.max_length)
        return record

    # ----------------------------------------------------------------------------------------------
    # Rows

    def _table(self) -> RowTable:
        table = RowTable(
            self._spec, deduplicate=self._config.deduplicate, digest=self._config.append
        )
        if self._base:
            table.continue_from(self._base[1])
        return table

    def _sum_up(
        self, table: RowTable, records: list[ShardRecord], *, finished: bool
    ) -> SplitRecord:
        extra = self._folder / shard_name(len(records))
        require(
            not extra.exists(),
            "the texts are those that the store was begun with",
            f"{extra}, a shard beyond the last text",
            OTHER_TEXTS,
        )
        before = self._base[0] if self._base else None
        appended = before.appended or () if before else ()
        if self._config.append:
            texts = table.texts - (before.texts if before else 0)
            appended = (*appended, Appended(table.rows, texts, table.sha256))
        files = {
            name: self._row_array(name, len(appended), array, finished)
            for name, array in table.arrays().items()
        }
        duplicates = (
            table.duplicates + ((before.duplicates or 0) if before else 0)
            if self._config.deduplicate
            else None
        )
        return sum_up(
            table.rows + (before.rows if before else 0),
            records,
            files,
            duplicates=duplicates,
            appended=appended or None,
        )

    def _finish_share(self, table: RowTable, number: int) -> None:
        """Every worker cuts the same rows; the first one writes them."""
        if number == 0:
            arrays = {
                name: self._row_array(name, 0, array, finished=False)
                for name, array in table.arrays().items()
            }
            duplicates = table.duplicates if self._config.deduplicate else None
            self.plan = SplitPlan(table.rows, tuple(self._texts), arrays, duplicates)

    def _row_array(self, name: str, appended: int, array: np.ndarray, finished: bool) -> FileRecord:
        """Write a row array, or check the one that is there; its size and hash."""
        path, content = self._folder / array_file(name, appended), npy_bytes(array)
        record: FileRecord = {
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
        refuse_link(path)
        if path.exists():
            require(
                path.read_bytes() == content,
                "the rows are those that the store was begun with",
                f"other rows or labels than those of {path}",
                OTHER_TEXTS,
            )
        else:
            require(
                not finished,
                "a finished store holds its row arrays",
                f"{path}, which is missing",
                DAMAGED,
            )
            make_folders(self._folder)
            write_bytes(path, content, again=EXTRACT_AGAIN)
        return record

    # ----------------------------------------------------------------------------------------------
    # Shards

    def _finished_shard(self, index: int, shard: ShardTexts) -> ShardRecord | None:
        """The record of a shard that is there, after a check that it holds these very texts; None
        if it is not there.
        """
        record = read_record(self._folder, index, self._backbone.layers)
        if record is None:
            return None
        folder = self._folder / shard_name(index)
        lengths = load_array(folder / "lengths.npy", np.dtype(np.int32), (record.texts,))
        token_ids = load_array(folder / "token_ids.npy", np.dtype(np.int32), (record.tokens,))
        same = np.array_equal(lengths, shard.lengths) and np.array_equal(token_ids, shard.token_ids)
        for name in TEXT_FILES if not same else ():
            # Rot, or other texts? Only now is it worth a look at the hash.
            found = file_sha256(folder / name)
            require(
                found == record.files[name]["sha256"],
                "a stored file has the sha256 of its record",
                f"{folder / name}, whose content differs",
                f"Delete {folder} and run the same command again: the other shards are kept.",
            )
        require(
            same,
            "the texts are those that the store was begun with",
            f"other token ids than those of {folder}",
            OTHER_TEXTS,
        )
        return record

    def _write_shard(
        self, index: int, shard: ShardTexts, progress: SplitProgress, thread: WriterThread
    ) -> Future[ShardRecord]:
        asked, done = self._config.storage_dtype, progress.done
        try:
            return self._write_shard_as(
                "float16" if asked == "auto" else asked, index, shard, progress, thread
            )
        except _TooLarge as error:
            row, limit = int(shard.rows[error.text]), float(np.finfo(np.float16).max)
            if asked != "auto":
                wider = "bfloat16" if asked == "float16" else "float32"
                raise UsageError(
                    f"{asked} states do not exceed what it can hold",
                    f"{error.peak:.6g} in split {self._split.name}, row {row}",
                    f"Use --storage-dtype {wider}.",
                ) from error
            say(
                self._console,
                f"{self._split.name}: states up to {error.peak:.6g} exceed float16's {limit:.0f};"
                f" {shard_name(index)} is stored as bfloat16",
            )
            progress.rewind(done)
            return self._write_shard_as("bfloat16", index, shard, progress, thread)

    def _write_shard_as(
        self,
        dtype: str,
        index: int,
        shard: ShardTexts,
        progress: SplitProgress,
        thread: WriterThread,
    ) -> Future[ShardRecord]:
        dtypes, offsets, peak = dict.fromkeys(self._backbone.layers, dtype), shard.offsets, 0.0
        errors: list[np.ndarray] = []
        writer = ShardWriter(
            self._folder,
            index,
            shard.lengths,
            shard.token_ids,
            dim=self._backbone.dim,
            dtypes=dtypes,
        )
        thread.begin(writer)
        for batch in shard.batches(self._config.tokens_per_batch):
            ids = [shard.token_ids[offsets[text] : offsets[text + 1]] for text in batch]
            states = self._backbone.states(ids, dtype)
            try:
                self._check_values(states, batch, ids, shard, dtype)
            except _TooLarge:
                thread.abandon(writer)
                raise
            size = sum(array.nbytes for array in states.layers.values())
            thread.put(functools.partial(_put, writer, states, batch, offsets), size)
            peak = max(peak, states.peak)
            errors.append(states.cosine_errors)
            progress.advance(sum(map(len, ids)), size)
        counts = ShardCounts(
            truncated=shard.truncated,
            empty=shard.empty,
            max_abs=peak,
            cosine_error=_error_of(errors) if dtype == "int8" else None,
        )
        return thread.finish(writer, counts)

    def _check_values(
        self,
        states: States,
        batch: np.ndarray,
        ids: list[np.ndarray],
        shard: ShardTexts,
        dtype: str,
    ) -> None:
        """UsageError for states that are not finite, _TooLarge for those that `dtype` cannot
        hold.
        """
        if states.peak <= _limit(dtype):
            return
        exact = self._backbone.states(ids, "float32").layers.values()
        ends = np.cumsum([len(text) for text in ids])
        peaks = np.max(
            [[np.abs(part).max() for part in np.split(array, ends[:-1])] for array in exact], axis=0
        )
        if np.isfinite(states.peak):
            raise _TooLarge(int(batch[int(np.argmax(peaks))]), states.peak)
        text = batch[int(np.argmax(~np.isfinite(peaks)))]
        raise UsageError(
            "hidden states are finite",
            f"nan or inf in split {self._split.name}, row {shard.rows[text]}",
            "Use --compute-dtype"
            f" {'bfloat16 or float32' if self._backbone.compute_dtype == 'float16' else 'float32'},"
            " or check the model's weights.",
        )


class _TooLarge(Exception):
    """A state exceeds the storage dtype."""

    def __init__(self, text: int, peak: float):
        self.text, self.peak = text, peak
        super().__init__(f"text {text}: {peak}")


def _limit(dtype: str) -> float:
    if dtype == "int8":
        return 127 * float(np.finfo(np.float16).max)  # 127 of the largest scale
    # bfloat16's largest number through float32's layout: NumPy has no finfo for it.
    return (
        float(np.array(0x7F7F, np.uint16).view(DTYPES["bfloat16"]))
        if dtype == "bfloat16"
        else float(np.finfo(DTYPES[dtype]).max)
    )


def _stored_rows(reader: SplitReader) -> Iterator[bytes]:
    """`row_key` of every row of a stored split."""
    for row in range(len(reader)):
        texts = reader.row_texts[reader.row_offsets[row] : reader.row_offsets[row + 1]]
        yield row_key(
            [reader.token_ids(text) for text in texts.tolist()],
            None if reader.labels is None else reader.labels[row].item(),
        )


def _error_of(errors: list[np.ndarray]) -> dict[str, float]:
    joint = np.concatenate([np.zeros(0, np.float32), *errors]).astype(np.float64)
    return {"mean": float(joint.mean()) if joint.size else 0.0, "max": float(joint.max(initial=0))}


def _put(writer: ShardWriter, states: States, batch: np.ndarray, offsets: np.ndarray) -> None:
    """Each text's states to its own place in the shard's files."""
    for layer, array in states.layers.items():
        scales, start = states.scales.get(layer), 0
        for text in batch.tolist():
            stop = start + int(offsets[text + 1] - offsets[text])
            writer.put(
                layer,
                int(offsets[text]),
                array[start:stop],
                None if scales is None else scales[start:stop],
            )
            start = stop
