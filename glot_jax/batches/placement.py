"""Where the token states of a split wait: on the device, in host memory, or in the memory map."""

from __future__ import annotations

import itertools
import math
import os
from typing import Protocol

import jax
import numpy as np
from jax import Array

from glot_jax.batches.packed_states import PackedStates, Tokens
from glot_jax.batches.planned_batches import padded_states
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.mesh.device_mesh import ONE, Mesh
from glot_jax.store.scaled_states import bytes_per_token
from glot_jax.store.split_reader import SplitReader


class States(Protocol):
    """Token states of one split, wherever they wait."""

    location: str
    """device, host, or none: the memory map."""
    size: int
    """Bytes of the split's states."""
    budget: int
    """Bytes that `--cache auto` would have put there, as of before they came; 0 on disk."""
    mesh: Mesh
    """The devices of the run: each gathers, or is sent, the states of its own texts."""

    def gather(
        self,
        starts: np.ndarray,
        lengths: np.ndarray,
        length: int,
    ) -> tuple[Array | np.ndarray, Array | np.ndarray]:
        """Padded states of some texts.

        Args:
            starts: [texts] first token of each text in the split.
            lengths: [texts] tokens of each text.
            length: padded length.

        Returns:
            hidden [texts, length, (layers,) dim] and mask [texts, length].
        """
        ...


# A single batch, for what looks at a few: steps gather their own (`PlannedBatches.gather`).
_gather = jax.jit(padded_states, static_argnames="length")


class DeviceStates:
    """The split's ragged tokens [tokens, (layers,) dim] on the device.

    Programs gather their batches from `tokens`, which lie on every device of the mesh.
    """

    location = "device"

    def __init__(self, reader: SplitReader, mesh: Mesh = ONE):
        self.mesh = mesh
        self.size = bytes_on_device(reader)
        self.budget = device_budget()
        if reader.is_packed and reader.tokens:
            # A quarter of the memory: a batch is unpacked where it is gathered.
            tokens = PackedStates(
                *reader.read_packed(),
                dim=reader.dim,
                dtype=reader.dtype,
            )
        elif reader.tokens:
            tokens = reader.read_all()
        else:
            # Nothing can be gathered from nothing, not even the no tokens of empty texts.
            shape = (1, *reader.token_shape)
            tokens = np.zeros(shape, reader.dtype)
        self.tokens: Tokens = mesh.place_everywhere(tokens)

    def gather(
        self,
        starts: np.ndarray,
        lengths: np.ndarray,
        length: int,
    ) -> tuple[Array, Array]:
        """See `States.gather`."""
        return _gather(self.tokens, starts.astype(np.int32), lengths, length=length)


class HostStates:
    """The same tokens in host memory, or in the memory map; batches are padded on the host.

    Args:
        reader: the split.
        copy: read all tokens into memory now.
        mesh: the devices that batches are sent to.
    """

    def __init__(self, reader: SplitReader, *, copy: bool, mesh: Mesh = ONE):
        self.mesh = mesh
        self.location = "host" if copy else "none"
        self.size = states_bytes(reader)
        self.budget = host_budget() if copy else 0
        self.reader = reader
        self.tokens = reader.read_all() if copy else None
        if not copy:
            self._check_hashes()

    def _check_hashes(self) -> None:
        # Reading one text of each shard checks its hash now, before anything is written, not in
        # the middle of a run. What is fetched is hashed as it comes, while the first epoch runs.
        if self.reader.is_fetched:
            return
        for first, after in itertools.pairwise(self.reader.shard_texts):
            if after > first:
                self.reader.states(int(first))

    def gather(
        self,
        starts: np.ndarray,
        lengths: np.ndarray,
        length: int,
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `States.gather`."""
        no_tokens = (0, *self.reader.token_shape)
        empty = np.zeros(no_tokens, self.reader.dtype)
        # The text of a token is the last one that begins at or before it.
        begun = np.searchsorted(self.reader.text_offsets, starts, side="right")
        numbers = begun - 1
        texts = []
        for number, start, size in zip(numbers, starts, lengths, strict=True):
            if size == 0:
                # What only fills a batch is not read: its shard may not be needed at all.
                texts.append(empty)
            elif self.tokens is None:
                texts.append(self.reader.states(int(number)))
            else:
                end = start + size
                texts.append(self.tokens[start:end])
        batch = TokenBatch.from_ragged(texts, lengths, length=length)
        return batch.hidden, batch.mask


_PLACES = ("device", "host", "none")
"""From the fastest to the roomiest."""


def place_states(reader: SplitReader, cache: str, mesh: Mesh = ONE) -> States:
    """Put a split where `--cache` says.

    Args:
        reader: the split.
        cache: device, host, none, or auto: the device, else the host, if half of what is free there
            holds the split.
        mesh: the devices of the run.
    """
    if cache == "auto":
        roomy = _roomy(reader, mesh.copies)
        # One program for all: where one process has no room, none puts them there.
        cache = max(mesh.processes.gather(roomy), key=_PLACES.index)
    # On a CPU the device is the host, and a gather there is compiled like any step.
    if cache == "device":
        return DeviceStates(reader, mesh)
    return HostStates(reader, copy=cache == "host", mesh=mesh)


def _roomy(reader: SplitReader, copies: int) -> str:
    if bytes_on_device(reader) * copies <= device_budget():
        return "device"
    if states_bytes(reader) <= host_budget():
        return "host"
    return "none"


def states_bytes(reader: SplitReader) -> int:
    """Bytes of a split's token states."""
    numbers = reader.tokens * math.prod(reader.token_shape)
    return numbers * reader.dtype.itemsize


def bytes_on_device(reader: SplitReader) -> int:
    """Bytes that a split's token states take on the device, where int4 stays packed."""
    if not reader.is_packed:
        return states_bytes(reader)
    # Of one layer, or of several side by side.
    *layers, dim = reader.token_shape
    states = reader.tokens * math.prod(layers)
    return states * bytes_per_token("int4", dim)


def device_budget() -> int:
    """Bytes the cache may take on the device: half of what is free there.

    On the CPU that is the host's memory.
    """
    stats = jax.local_devices()[0].memory_stats()
    # A CPU has no statistics of its own.
    if not stats or "bytes_limit" not in stats:
        return host_budget()
    in_use = stats.get("bytes_in_use", 0)
    free = stats["bytes_limit"] - in_use
    return free // 2


def host_budget() -> int:
    """Half of the memory that the system calls available, in bytes."""
    try:
        return _available_bytes() // 2
    except (OSError, StopIteration):
        # Not Linux: what is installed has to do.
        page = os.sysconf("SC_PAGE_SIZE")
        installed = page * os.sysconf("SC_PHYS_PAGES")
        return installed // 2


def _available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as lines:
        line = next(line for line in lines if line.startswith("MemAvailable:"))
    # A line such as "MemAvailable:   123456 kB", whose kB are KiB.
    kibibytes = int(line.split()[1])
    return kibibytes * 1024
