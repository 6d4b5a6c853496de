"""From a store to TokenBatches on the device: resident token states gathered there, or read ahead
on the host.
"""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from glot_jax.batches.plan import Batch, BatchPlan
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.errors import UsageError
from glot_jax.store.reader import HiddenStore
from glot_jax.store.split_reader import SplitReader

_READ_AHEAD = 8  # batches


class States(Protocol):
    """Token states of one split, wherever they wait."""

    place: str
    size: int
    """Bytes of the split's states."""
    budget: int
    """Bytes that `--cache auto` would have put there, as of before they came; 0 on disk."""
    compile_seconds: float

    def gather(
        self, starts: np.ndarray, lengths: np.ndarray, length: int
    ) -> tuple[Array | np.ndarray, Array | np.ndarray]:
        """hidden [texts, length, (layers,) dim] and mask [texts, length] of texts at token
        `starts`, `lengths` tokens long.
        """
        ...


@functools.partial(jax.jit, static_argnames="length")
def _gather(tokens: Array, starts: Array, lengths: Array, length: int) -> tuple[Array, Array]:
    position = jnp.arange(length, dtype=starts.dtype)
    mask = position < lengths[:, None]
    hidden = jnp.take(tokens, starts[:, None] + position, axis=0, mode="clip")
    return jnp.where(mask.reshape(*mask.shape, *[1] * (tokens.ndim - 1)), hidden, 0), mask


class DeviceStates:
    """The split's ragged tokens [tokens, (layers,) dim] on the device; a batch is one gather
    there.
    """

    place = "device"

    def __init__(self, reader: SplitReader):
        self.size, self.budget = states_bytes(reader), device_budget()
        # A split of empty texts alone has no token, and nothing can be gathered from nothing.
        self.tokens = jnp.asarray(
            reader.read_all() if reader.tokens else np.zeros((1, *reader.token_shape), reader.dtype)
        )
        self.compile_seconds = 0.0
        self._executables: dict[tuple[int, int], Callable] = {}

    def gather(self, starts: np.ndarray, lengths: np.ndarray, length: int) -> tuple[Array, Array]:
        arguments = (self.tokens, starts.astype(np.int32), lengths)
        shape = (len(starts), length)
        if shape not in self._executables:
            begin = time.perf_counter()
            self._executables[shape] = _gather.lower(*arguments, length).compile()
            self.compile_seconds += time.perf_counter() - begin
        return self._executables[shape](*arguments)


class HostStates:
    """The same tokens in host memory, or in the memory map (`place` "none"); batches are padded on
    the host.
    """

    def __init__(self, reader: SplitReader, *, copy: bool):
        self.place = "host" if copy else "none"
        self.size, self.budget = states_bytes(reader), host_budget() if copy else 0
        self.reader = reader
        self.tokens = reader.read_all() if copy else None
        if not copy:
            # Reading one text of each shard checks its hash now, before anything is written, not in
            # the middle of a run.
            for first, after in zip(reader.shard_texts[:-1], reader.shard_texts[1:], strict=True):
                if after > first:
                    reader.states(int(first))
        self.compile_seconds = 0.0

    def gather(
        self, starts: np.ndarray, lengths: np.ndarray, length: int
    ) -> tuple[np.ndarray, np.ndarray]:
        hidden = np.zeros((len(starts), length, *self.reader.token_shape), self.reader.dtype)
        texts = np.searchsorted(self.reader.text_offsets, starts, side="right") - 1
        for slot, (text, start, size) in enumerate(zip(texts, starts, lengths, strict=True)):
            if size:
                source = (
                    self.reader.states(int(text))
                    if self.tokens is None
                    else self.tokens[start : start + size]
                )
                hidden[slot, :size] = source
        return hidden, np.arange(length) < lengths[:, None]


def place_states(reader: SplitReader, cache: str) -> States:
    """Put a split where `--cache` says; `auto` takes the device, else the host, if half of what is
    free holds it.
    """
    if cache == "auto":
        size = states_bytes(reader)
        cache = "device" if size <= device_budget() else "host" if size <= host_budget() else "none"
    if cache == "device":
        return DeviceStates(reader)
    return HostStates(reader, copy=cache == "host")


def states_bytes(reader: SplitReader) -> int:
    """Bytes of a split's token states."""
    return reader.tokens * math.prod(reader.token_shape) * reader.dtype.itemsize


def device_budget() -> int:
    """Bytes the cache may take on the device: half of what is free there (on the CPU, of the host's
    memory).
    """
    stats = jax.local_devices()[0].memory_stats()
    if not stats or "bytes_limit" not in stats:
        return host_budget()
    return (stats["bytes_limit"] - stats.get("bytes_in_use", 0)) // 2


def host_budget() -> int:
    """Half of the memory the system calls available."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            free = next(
                int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")
            )
    except (OSError, StopIteration):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return free // 2


class Feed:
    """TokenBatches of a plan, in order, with the time spent waiting for them.

    Args:
        reader: the split; its rows all have the same number of texts.
        plan: which rows, in which batch, how long.
        states: where the split's token states wait.
        texts, labels: [rows, slots] stored texts and [rows] labels of what the plan's rows count,
            if these are not the rows of the split.
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
        self.reader, self.plan, self.states = reader, plan, states
        self.texts = reader.row_texts.reshape(-1, reader.texts_per_row) if texts is None else texts
        labels = reader.labels if labels is None else labels
        if labels is None:
            raise UsageError(
                "training and evaluation need labels",
                "a store without",
                "Extract with --label-column.",
            )
        self.labels = labels.astype(
            np.int32 if np.issubdtype(labels.dtype, np.integer) else np.float32
        )
        self.waited = 0.0
        """Seconds the consumer waited for input, compilation apart."""

    def batches(self, first: int, last: int) -> Iterator[tuple[int, TokenBatch]]:
        """(step, batch) for steps first .. last - 1."""
        source = (
            map(self._at, range(first, last))
            if self.states.place == "device"
            else self._read_ahead(first, last)
        )
        for step in range(first, last):
            begin, compiled = time.perf_counter(), self.states.compile_seconds
            batch = next(source)
            self.waited += time.perf_counter() - begin - (self.states.compile_seconds - compiled)
            yield step, batch

    def batch(self, step: int) -> TokenBatch:
        """One batch, without reading ahead."""
        return self._at(step)

    @property
    def texts_per_batch(self) -> int:
        return self.plan.batch_size * self.texts.shape[1]

    def stored_rows(self, rows: np.ndarray) -> np.ndarray:
        """[n] int64: rows of the stored split behind these rows of the plan."""
        return rows

    def _rows(self, step: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(texts [n, slots], -1 where there is none; labels [n, ...]) of these rows of the plan, at
        this step.
        """
        return self.texts[rows], self.labels[rows]

    def _read_ahead(self, first: int, last: int) -> Iterator[TokenBatch]:
        options = grain.ReadOptions(num_threads=2, prefetch_buffer_size=_READ_AHEAD)
        return iter(grain.MapDataset.source(_Steps(self, first, last)).to_iter_dataset(options))

    def _at(self, step: int) -> TokenBatch:
        batch: Batch = self.plan(step)
        real = batch.rows >= 0
        rows = np.where(real, batch.rows, self.plan.rows[0])
        of_rows, labels = self._rows(step, rows)
        # Stacked by role: all first texts, then all second texts.
        texts = of_rows.T.reshape(-1)
        there = np.tile(real, of_rows.shape[1]) & (texts >= 0)
        texts = np.maximum(texts, 0)
        starts = self.reader.text_offsets[texts]
        lengths = np.where(there, self.reader.text_lengths[texts], 0).astype(np.int32)
        hidden, mask = self.states.gather(starts, lengths, batch.length)
        filled = np.where(real.reshape(-1, *[1] * (labels.ndim - 1)), labels, self.no_label)
        return TokenBatch(hidden, mask, filled.astype(labels.dtype), real)  # type: ignore[arg-type]


class _Steps:
    """A grain source: `source[i]` is the batch of step first + i."""

    def __init__(self, feed: Feed, first: int, last: int):
        self.feed, self.first, self.last = feed, first, last

    def __len__(self) -> int:
        return self.last - self.first

    def __getitem__(self, index: int) -> TokenBatch:  # type: ignore[override]
        return self.feed.batch(self.first + int(index))

    def __repr__(self) -> str:
        return "steps of a plan"


def describe_feed(store: HiddenStore, feeds: Mapping[str, Feed]) -> str:
    """A line on the first of the feeds, which is "train" if there is one: rows, buckets, padding,
    and where its states lie.
    """
    main = next(iter(feeds))
    plan, states = feeds[main].plan, feeds[main].states
    where = (
        f"the {states.place}, where {states.budget / 1e9:,.1f} GB might lie"
        if states.budget
        else "disk"
    )
    return (
        f"{store.path}: {len(plan.rows):,} {'training' if main == 'train' else main} rows; buckets"
        f" {', '.join(map(str, plan.bounds))} tokens,"
        f" {int(plan.lengths.sum()) / plan.padded_tokens():.0%} of the padded tokens real;"
        f" {states.size / 1e6:,.0f} MB of states on {where}"
    )


def tokens_per_text(reader: SplitReader) -> np.ndarray:
    """[rows, texts of a row] int32."""
    return reader.text_lengths[reader.row_texts].reshape(-1, reader.texts_per_row)


def longest_text_per_row(reader: SplitReader) -> np.ndarray:
    """[rows] int32, tokens of each row's longest text."""
    return tokens_per_text(reader).max(axis=1)
