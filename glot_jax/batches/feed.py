"""From a store to TokenBatches on the device, in the order of a plan."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, SupportsIndex

import numpy as np

from glot_jax.batches.placement import States
from glot_jax.batches.plan import BatchPlan
from glot_jax.batches.planned_batches import PlannedBatches
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.errors import UsageError
from glot_jax.moved import moved_name
from glot_jax.store.reader import HiddenStore
from glot_jax.store.split_reader import SplitReader

_READ_AHEAD = 8  # batches


class Feed:
    """TokenBatches of a plan, in order, with the time spent waiting for them.

    Args:
        reader: the split; its rows all have the same number of texts.
        plan: which rows, in which batch, how long.
        states: where the split's token states wait.
        texts: [rows, slots] stored texts of what the plan's rows count, if these are not the rows
            of the split.
        labels: [rows] labels of the same.

    Raises:
        UsageError: the store has no labels.
    """

    no_label: int = 0
    """Label of a row that only fills a batch."""

    def __init__(
        self,
        reader: SplitReader,
        plan: BatchPlan,
        states: States,
        texts: np.ndarray | None = None,
        labels: np.ndarray | None = None,
    ):
        self.reader = reader
        self.plan = plan
        self.states = states
        if texts is None:
            slots = reader.texts_per_row
            texts = reader.row_texts.reshape(-1, slots)
        self.texts = texts
        if labels is None:
            labels = reader.labels
        if labels is None:
            raise UsageError(
                rule="training and evaluation need labels",
                got="a store without",
                fix="Extract with --label-column.",
            )
        # What JAX has without x64: stored labels are int64 or float32.
        dtype = np.float32
        if labels.dtype == np.uint8:
            # A number for each class of a row: a quarter of the memory.
            dtype = np.uint8
        elif np.issubdtype(labels.dtype, np.integer):
            dtype = np.int32
        self.labels = labels.astype(dtype)
        self.waited = 0.0
        """Seconds the consumer waited for input."""

    def batches(
        self,
        first: int,
        last: int,
    ) -> Iterator[tuple[int, TokenBatch]]:
        """(step, batch) for steps first .. last - 1."""
        if self.states.location == "device":
            # Gathering there is dispatched like a step: a thread that reads ahead would only wait.
            steps = range(first, last)
            source = map(self.batch, steps)
        else:
            source = self._read_ahead(first, last)
        for step in range(first, last):
            begin = time.perf_counter()
            batch = next(source)
            self.waited += time.perf_counter() - begin
            yield step, batch

    def batch(self, step: int) -> TokenBatch:
        """One batch, without reading ahead: this process's share of its texts and of its rows."""
        planned = self.planned(step, step + 1)
        length = self.plan.batch(step).length
        # All of them where a process is alone. With pairs the texts of a share are not those of
        # its rows: they are stacked by role.
        texts = self.states.mesh.own(self.texts_per_batch)
        rows = self.states.mesh.own(self.plan.batch_size)
        starts = planned.starts[0, texts]
        hidden, mask = self.states.gather(starts, planned.lengths[0, texts], length)
        return TokenBatch(
            hidden=hidden,
            mask=mask,
            labels=planned.labels[0, rows],
            row_mask=planned.row_mask[0, rows],
        )

    def planned(self, first: int, last: int) -> PlannedBatches:
        """The batches of steps first .. last - 1, all of one epoch, before they are gathered."""
        rows = np.stack([self.plan.batch(step).rows for step in range(first, last)])
        real = rows >= 0
        # Rows that only fill the batch stand for a real one, with every token masked.
        stand_in = self.plan.rows[0]
        filled = np.where(real, rows, stand_in)
        # All steps in one go: a few calls of NumPy a step would take longer than a small head.
        row_texts, labels = self._rows(first, filled.reshape(-1))
        slots = row_texts.shape[1]
        by_step = row_texts.reshape(*rows.shape, slots)
        # Stacked by role: all first texts, then all second texts.
        texts = by_step.transpose(0, 2, 1).reshape(len(rows), -1)
        in_real_row = np.tile(real, slots)
        present = in_real_row & (texts >= 0)
        # A missing text is -1, which would be the last one as an index; its length is 0 below.
        texts = np.maximum(texts, 0)
        lengths = np.where(present, self.reader.text_lengths[texts], 0)
        labels = labels.reshape(*rows.shape, *labels.shape[1:])
        # Labels are a number a row, or a number for each of its texts.
        further_axes = [1] * (labels.ndim - 2)
        has_label = real.reshape(*real.shape, *further_axes)
        kept = np.where(has_label, labels, self.no_label)
        return PlannedBatches(
            # Of 64 bits: in the memory map of a large store tokens go beyond 32.
            starts=self.reader.text_offsets[texts],
            lengths=lengths.astype(np.int32),
            labels=kept.astype(labels.dtype),
            row_mask=real,
        )

    @property
    def texts_per_batch(self) -> int:
        """Texts of every batch: its rows times the texts of a row."""
        slots = self.texts.shape[1]
        return self.plan.batch_size * slots

    def outline(self) -> dict[str, Any]:
        """JSON that is equal where the same batches come from the same place.

        Of the first batch alone: the others follow from the store, the settings and NumPy.
        """
        return {
            "bounds": list(self.plan.bounds),
            "steps": self.plan.steps_per_epoch,
            "rows": len(self.plan.rows),
            "first": self.plan.batch(0).rows.tolist(),
            "states": self.states.location,
        }

    @property
    def planned_labels(self) -> np.ndarray:
        """[n] labels of the plan's rows."""
        return self.labels[self.plan.rows]

    @property
    def planned_lengths(self) -> np.ndarray:
        """[n, texts of a row] int32: tokens of every text of the plan's rows."""
        texts = self.texts[self.plan.rows]
        return self.reader.text_lengths[texts]

    def stored_rows(self, rows: np.ndarray) -> np.ndarray:
        """[n] int64: rows of the stored split behind these rows of the plan."""
        return rows

    def name_row(self, row: int) -> str:
        """What an error calls a row of the plan."""
        return f"row {row}"

    def _rows(
        self,
        step: int,
        rows: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Texts and labels of these rows of the plan, in the epoch of this step.

        Returns:
            texts [n, slots], -1 where there is none; labels [n, ...].
        """
        del step  # rows of a split are the same in every epoch
        return self.texts[rows], self.labels[rows]

    def _read_ahead(
        self,
        first: int,
        last: int,
    ) -> Iterator[TokenBatch]:
        # Threads and not processes: the states are in this one, and NumPy copies without the lock.
        # A store that stays on the device is read in one go, and needs no grain.
        import grain

        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=_READ_AHEAD)
        steps = _Steps(self, first, last)
        dataset = grain.MapDataset.source(steps)
        # Grain keeps the order of the source, however many threads read from it.
        batches = dataset.to_iter_dataset(options)
        return iter(batches)


class _Steps:
    """A grain source: `source[i]` is the batch of step first + i."""

    def __init__(
        self,
        feed: Feed,
        first: int,
        last: int,
    ):
        self.feed = feed
        self.first = first
        self.last = last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: SupportsIndex) -> TokenBatch:
        step = self.first + int(index)
        return self.feed.batch(step)

    def __repr__(self) -> str:
        # Grain prints its sources; the store behind this one would fill the screen.
        return "steps of a plan"


def describe_feed(
    store: HiddenStore,
    feeds: Mapping[str, Feed],
) -> str:
    """One line about the first of the feeds, which is "train" if there is one.

    It says rows, buckets, padding, and where the states lie.
    """
    main = next(iter(feeds))
    noun = "training" if main == "train" else main
    plan = feeds[main].plan
    states = feeds[main].states
    bounds = ", ".join(map(str, plan.bounds))
    # How well the buckets suit the texts, before the first step is paid for.
    tokens = int(plan.lengths.sum())
    share = tokens / plan.padded_tokens()
    location = "disk"
    if states.budget:
        location = f"the {states.location}, where {states.budget / 1e9:,.1f} GB might lie"
    fetched = store.describe_fetched()
    if fetched:
        location = f"{location}; {fetched}"
    return (
        f"{store.path}: {len(plan.rows):,} {noun} rows; buckets {bounds} tokens,"
        f" {share:.0%} of the padded tokens real; {states.size / 1e6:,.0f} MB of states on"
        f" {location}"
    )


def tokens_per_text(reader: SplitReader) -> np.ndarray:
    """[rows, texts of a row] int32."""
    lengths = reader.text_lengths[reader.row_texts]
    return lengths.reshape(-1, reader.texts_per_row)


def longest_text_per_row(reader: SplitReader) -> np.ndarray:
    """[rows] int32, tokens of each row's longest text."""
    return tokens_per_text(reader).max(axis=1)


def __getattr__(name: str) -> object:
    """Names that stood here in version 0.1."""
    moved = "States DeviceStates HostStates place_states states_bytes device_budget host_budget"
    homes: dict[str, str] = dict.fromkeys(moved.split(), "batches.placement")
    return moved_name(__name__, name, homes)
