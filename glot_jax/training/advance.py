"""The steps of an epoch: blocks where token states wait on the device, batches elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple, Protocol

import jax
import numpy as np
from jax import Array

from glot_jax.batches.feed import Feed
from glot_jax.batches.placement import DeviceStates
from glot_jax.batches.planned_batches import PlannedBatches, run_lengths
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.mesh.device_mesh import ONE, Mesh
from glot_jax.training.step_functions import JUDGED_TOGETHER, TrainState
from glot_jax.training.steps import Block, StepName, Steps

IN_FLIGHT = 8
"""Batches evaluated ahead of the device; more would only hold more batches in memory."""


class Advance(Protocol):
    """Training steps of one epoch, in order."""

    def most(self, step: int) -> int:
        """Steps from this one on that one dispatch can have."""
        ...

    def train(
        self, state: TrainState, step: int, count: int
    ) -> tuple[TrainState, dict[str, Array]]:
        """The state after `count` steps from `step` on, and their logs (see `Steps`)."""
        ...


class Turn(NamedTuple):
    """What a run wants to have dispatched next."""

    advance: Advance
    state: TrainState
    step: int
    """Number of the first of its steps."""
    limit: int
    """Steps at most; `Advance.most` says how many can be one dispatch."""


class Trained(NamedTuple):
    """What came of a turn."""

    state: TrainState
    logs: dict[str, Array]
    steps: int
    """How many were trained."""


def epoch_of(steps: Steps, feed: Feed, first: int, last: int) -> Advance:
    """Steps first .. last - 1 of a feed, all of one epoch."""
    if isinstance(feed.states, DeviceStates):
        return Blocks(steps, feed, feed.states, first)
    return _Batches(steps, feed, first, last)


class Blocks:
    """Token states wait on the device: consecutive steps of one shape are one dispatch."""

    def __init__(self, steps: Steps, feed: Feed, states: DeviceStates, first: int):
        begin = time.perf_counter()
        self.steps = steps
        self.mesh = states.mesh
        self.tokens = states.tokens
        per_epoch = feed.plan.steps_per_epoch
        # Of the whole epoch, however far it is: its size is a shape of the program.
        self.begin = first - first % per_epoch
        self.padded = padded_of_epoch(feed, self.begin)
        self.planned = on_device(feed.planned(self.begin, self.begin + per_epoch), self.mesh)
        self.runs = run_lengths(self.padded)
        self.next_step = first
        self.next_index = _number(first - self.begin, self.mesh)
        self.sizes: dict[int, Array] = {}
        feed.waited += time.perf_counter() - begin

    def most(self, step: int) -> int:
        """See `Advance.most`."""
        return int(self.runs[step - self.begin])

    def train(
        self, state: TrainState, step: int, count: int
    ) -> tuple[TrainState, dict[str, Array]]:
        """See `Advance.train`."""
        block = self.block(step, count, self.length(step))
        state, logs = self.steps.train_block(state, block)
        self.trained(count, logs)
        return state, logs

    def length(self, step: int) -> int:
        """Padded length of a step's batch."""
        return int(self.padded[step - self.begin])

    def block(self, step: int, count: int, length: int) -> Block:
        """The `count` steps from `step` on, which is the one that follows those trained last."""
        # The program says itself where the next block begins: a number that the host would move to
        # the device takes longer than a small step.
        assert step == self.next_step
        if count not in self.sizes:
            self.sizes[count] = _number(count, self.mesh)
        return Block(self.tokens, self.planned, length, self.next_index, self.sizes[count])

    def trained(self, count: int, logs: dict[str, Array]) -> None:
        """Go on behind a block of `count` steps, whose logs lose what is not for people."""
        self.next_step += count
        self.next_index = logs.pop("next")


class _Batches:
    """Token states wait on the host: batches are read ahead, and a dispatch has one."""

    def __init__(self, steps: Steps, feed: Feed, first: int, last: int):
        self.steps = steps
        self.source: Iterator[tuple[int, TokenBatch]] = feed.batches(first, last)

    def most(self, step: int) -> int:
        """See `Advance.most`."""
        del step
        return 1

    def train(
        self, state: TrainState, step: int, count: int
    ) -> tuple[TrainState, dict[str, Array]]:
        """See `Advance.train`."""
        number, batch = next(self.source)
        # Read in order, one by one: whoever asks for another step would train on the wrong rows.
        assert (number, count) == (step, 1)
        return self.steps.train(state, batch)


def judge_all(
    steps: Steps, state: TrainState, feed: Feed, name: StepName
) -> list[dict[str, np.ndarray]]:
    """What `Steps.evaluate` or `Steps.features` gives for every batch of a feed, on the host."""
    count = feed.plan.steps_per_epoch
    results: list[dict[str, Array]] = []
    sizes = []
    for size, result in _judged(steps, state, feed, name):
        results.append(result)
        sizes.append(size)
        steps.mesh.settle(result)
        # As in training the host runs ahead of a GPU, but not so far that its batches fill memory.
        if len(results) > IN_FLIGHT:
            jax.block_until_ready(results[-1 - IN_FLIGHT])
    # One transfer for the whole split: reading each result would stop the device at every step.
    read = jax.device_get(results)
    batches = []
    for size, result in zip(sizes, read, strict=True):
        if size is None:
            batches.append(result)
            continue
        for index in range(size):
            batches.append({key: values[index] for key, values in result.items()})
    assert len(batches) == count
    return batches


def _judged(
    steps: Steps, state: TrainState, feed: Feed, name: StepName
) -> Iterator[tuple[int | None, dict[str, Array]]]:
    """(batches, their results) by dispatch; None for a batch that stands alone."""
    count = feed.plan.steps_per_epoch
    if not isinstance(feed.states, DeviceStates):
        for _, batch in feed.batches(0, count):
            yield None, steps.judge(name, state, batch)
        return
    mesh = feed.states.mesh
    planned = on_device(feed.planned(0, count), mesh)
    padded = padded_of_epoch(feed, 0)
    runs = run_lengths(padded)
    first = 0
    while first < count:
        size = min(int(runs[first]), JUDGED_TOGETHER)
        length = int(padded[first])
        begin = _number(first, mesh)
        block = Block(feed.states.tokens, planned, length, begin, _number(size, mesh))
        yield size, steps.judge_block(name, state, block)
        first += size


def compile_ahead(
    steps: Steps, state: TrainState, feeds: dict[str, Feed], judged_by: StepName
) -> int:
    """Have the programs of a run compiled on other threads, in the order of their first use.

    Where token states wait on the host nothing is: the first batches of a shape bring it.

    Returns:
        How many they are.
    """
    before = len(steps.executables)
    for split, feed in feeds.items():
        if not isinstance(feed.states, DeviceStates):
            continue
        name: StepName = "train" if split == "train" else judged_by
        tokens = feed.states.tokens
        whole = shapes_of_epoch(feed)
        # A batch of every epoch: further lengths that only chance brings are compiled when met.
        for length in dict.fromkeys(padded_of_epoch(feed, 0).tolist()):
            steps.compile_ahead(name, state, tokens, whole, length)
    return len(steps.executables) - before


def padded_of_epoch(feed: Feed, first: int) -> np.ndarray:
    """[steps] int64: padded length of each batch of the epoch that begins with step `first`."""
    steps = range(first, first + feed.plan.steps_per_epoch)
    return np.array([feed.plan.batch(step).length for step in steps])


def on_device(planned: PlannedBatches, mesh: Mesh = ONE) -> PlannedBatches:
    """All of it on the device, in one transfer an array; of several each has its own texts."""
    # The first axis counts steps, the second what is divided.
    return mesh.place_whole(_narrow(planned), axis=1)


def _number(value: int, mesh: Mesh) -> Array:
    return mesh.everywhere(jax.device_put(np.int32(value)))


def _narrow(planned: PlannedBatches) -> PlannedBatches:
    # Tokens of a split on the device are counted by 32 bits: more would not fit there.
    starts = planned.starts.astype(np.int32)
    return PlannedBatches(starts, planned.lengths, planned.labels, planned.row_mask)


def shapes_of_epoch(feed: Feed) -> PlannedBatches:
    """The shapes of an epoch's batches, of which only the first is planned."""

    def for_all_steps(values: np.ndarray) -> jax.ShapeDtypeStruct:
        shape = (feed.plan.steps_per_epoch, *values.shape[1:])
        return jax.ShapeDtypeStruct(shape, values.dtype)

    return jax.tree.map(for_all_steps, _narrow(feed.planned(0, 1)))
