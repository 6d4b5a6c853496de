"""Shards of ragged token states, read through memory maps: `HiddenStore`."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.errors import lookup, require
from glot_jax.store.arrays import DTYPES, REPAIR, check_file, hash_ahead, load_array, stored_dtype
from glot_jax.store.manifest import (
    Manifest,
    ShardRecord,
    SplitRecord,
    read_manifest,
    scales_name,
    shard_files,
    shard_name,
    states_name,
)
from glot_jax.store.recipe import Recipe

_BLOCK = 65_536  # tokens that are converted at once


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a split."""

    texts: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Per text (hidden [length, (layers,) dim], token_ids [length] int32)."""
    label: int | float | None

    @property
    def hidden(self) -> np.ndarray:
        """States of the row's only text, [length, dim], or [length, layers, dim] of a store opened
        with `layers=`.
        """
        return self._only()[0]

    @property
    def token_ids(self) -> np.ndarray:
        """Token ids of the row's only text, [length] int32."""
        return self._only()[1]

    def _only(self) -> tuple[np.ndarray, np.ndarray]:
        require(
            len(self.texts) == 1,
            "hidden and token_ids are for rows of one text",
            f"a row of {len(self.texts)}",
            "Use row.texts.",
        )
        return self.texts[0]


class HiddenStore:
    """A finished store of token states, opened for reading.

        store = HiddenStore("stores/cola")
        row = store["validation"][7]  # row.hidden [length, dim], row.token_ids [length], row.label

    `layer` picks one stored layer (0 .. L, or negative from the end; default: the last stored);
    `layers` picks several, and states then have a layers axis, [length, layers, dim]. Every file is
    checked against the manifest's sha256 the first time this process opens it; `trust=True` checks
    its size and shape only.

    Attributes: `path`, `manifest`, `content` (identity, hex), `dim`, `layers` (those read,
    resolved), `stored_layers`, `recipe`, `task` (TaskSpec as JSON), `splits` (names).
    Raises UsageError for a folder that is no finished store, an unknown layer or split, and any
    damaged file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        layer: int | None = None,
        layers: Sequence[int] | None = None,
        trust: bool = False,
    ):
        self.path = Path(path)
        self.manifest: Manifest = read_manifest(self.path)
        self.content: str = self.manifest.content
        self.recipe: Recipe = self.manifest.recipe
        self.task: dict[str, Any] = self.manifest.task
        self.dim: int = self.recipe.dim
        self.splits: tuple[str, ...] = tuple(self.manifest.splits)
        self.stored_layers: tuple[int, ...] = self.recipe.layers
        require(
            layer is None or layers is None,
            "a store is opened with layer= or layers=",
            f"{layer=}, {layers=}",
            "Give one of them.",
        )
        require(
            layers is None or len(layers) > 0,
            "layers= needs at least one layer",
            layers,
            f"Stored: {self._stored()}.",
        )
        wanted = (
            layers if layers is not None else (self.stored_layers[-1] if layer is None else layer,)
        )
        self.layers: tuple[int, ...] = tuple(self._resolve(index) for index in wanted)
        self._readers = {
            name: SplitReader(
                self.path / name,
                split,
                self.stored_layers,
                self.layers,
                self.dim,
                stack=layers is not None,
                trust=trust,
            )
            for name, split in self.manifest.splits.items()
        }

    def _stored(self) -> str:
        return ", ".join(map(str, self.stored_layers))

    def _resolve(self, layer: int) -> int:
        resolved = layer if layer >= 0 else self.recipe.num_layers + 1 + layer
        require(
            resolved in self.stored_layers,
            "only a stored layer can be read",
            f"layer {layer}",
            f"Stored: {self._stored()}.",
        )
        return resolved

    def __getitem__(self, split: str) -> SplitReader:
        return lookup(self._readers, split, f"split of {self.path}")

    def __contains__(self, split: object) -> bool:
        return split in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)


class SplitReader:
    """One split of a `HiddenStore`: rows of one or more texts, each a ragged [length, (layers,)
    dim] block of states.

    Rows are read by index; `states` and `token_ids` read single texts by their number (`row_texts`
    says which texts a row has). Arrays are read-only views of the files, except where shards had to
    be joined or states converted.
    """

    def __init__(
        self,
        folder: Path,
        record: SplitRecord,
        stored_layers: tuple[int, ...],
        layers: tuple[int, ...],
        dim: int,
        *,
        stack: bool,
        trust: bool,
    ):
        self._folder, self._record, self._layers, self._stack, self._trust = (
            folder,
            record,
            layers,
            stack,
            trust,
        )
        self._stored_layers, self._dim = stored_layers, dim
        self.dim: int = dim
        self._shards: dict[int, _Shard] = {}
        self.tokens: int = record.tokens
        names = {shard.dtypes[str(layer)] for shard in record.shards for layer in layers}
        self.dtype: np.dtype = DTYPES[_read_as(names, record.max_abs)]
        """Of every array of states this reader returns; float32 where shards differ. int8 states
        come back as float16 where they fit.
        """
        self.shard_texts: np.ndarray = _offsets([shard.texts for shard in record.shards])
        """int64 [shards + 1]: shard s holds the texts shard_texts[s] .. shard_texts[s + 1]."""

    def __len__(self) -> int:
        return self._record.rows

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Shape of one token's states: (dim,), or (layers, dim) of a store opened with
        `layers=`.
        """
        return (len(self._layers), self.dim) if self._stack else (self.dim,)

    @functools.cached_property
    def row_offsets(self) -> np.ndarray:
        """int64 [rows + 1]: row r has the slots row_offsets[r] .. row_offsets[r + 1] of `row_texts`
        and `roles`.
        """
        return self._array("row_offsets.npy", np.dtype(np.int64), len(self) + 1)

    @functools.cached_property
    def row_texts(self) -> np.ndarray:
        """int64 [slots]: the stored text of each slot."""
        return self._array("row_texts.npy", np.dtype(np.int64), int(self.row_offsets[-1]))

    @functools.cached_property
    def roles(self) -> np.ndarray:
        """int8 [slots]: index of each slot's role in the task's `roles`."""
        return self._array("roles.npy", np.dtype(np.int8), int(self.row_offsets[-1]))

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """[rows]: int64 classes, float32 regression targets, or None for a task without labels."""
        if "labels.npy" not in self._record.arrays:
            return None
        return self._array("labels.npy", None, len(self))

    @functools.cached_property
    def text_lengths(self) -> np.ndarray:
        """int32 [texts]: stored tokens of each text."""
        return np.concatenate(
            [
                np.zeros(0, np.int32),
                *(self._shard(index).lengths for index in range(len(self._record.shards))),
            ]
        )

    @functools.cached_property
    def text_offsets(self) -> np.ndarray:
        """int64 [texts + 1]: text t has the tokens text_offsets[t] .. text_offsets[t + 1] of
        `read_all()`.
        """
        return _offsets(self.text_lengths)

    @functools.cached_property
    def texts_per_row(self) -> int:
        """Texts of every row: 1, or 2 for pairs. Raises UsageError if rows differ."""
        counts = np.unique(np.diff(self.row_offsets))
        require(
            len(counts) == 1,
            "texts_per_row needs rows of equally many texts",
            f"{counts.tolist()} in {self._folder}",
            "Use row_offsets.",
        )
        return int(counts[0])

    def __getitem__(self, row: int) -> Row:
        """One row; negative counts from the end. Raises IndexError beyond the split."""
        rows = len(self)
        if not -rows <= row < rows:
            raise IndexError(f"row {row} of {self._folder.name}, which has {rows} rows")
        row = row % rows
        texts = self.row_texts[self.row_offsets[row] : self.row_offsets[row + 1]]
        label = None if self.labels is None else self.labels[row].item()
        return Row(
            tuple((self.states(text), self.token_ids(text)) for text in texts.tolist()), label
        )

    def states(self, text: int) -> np.ndarray:
        """States of one text, [length, dim] ([length, layers, dim] of a store opened with
        `layers=`), of `dtype`.
        """
        shard, index = self._locate(text)
        span = slice(shard.offsets[index], shard.offsets[index + 1])
        parts = [shard.read(layer, span) for layer in self._layers]
        block = np.stack(parts, axis=1) if self._stack else parts[0]
        return block.astype(self.dtype, copy=False)

    def token_ids(self, text: int) -> np.ndarray:
        """Token ids of one text, int32 [length]."""
        shard, index = self._locate(text)
        return shard.token_ids[shard.offsets[index] : shard.offsets[index + 1]]

    def read_all(self) -> np.ndarray:
        """Every state of the split in text order: one contiguous array [tokens, (layers,) dim] of
        `dtype`, in memory.
        """
        layers = (len(self._layers),) if self._stack else ()
        out = np.empty((self.tokens, *layers, self._dim), self.dtype)
        start = 0
        for index, record in enumerate(self._record.shards):
            block = out[start : start + record.tokens].reshape(
                record.tokens, len(self._layers), self._dim
            )
            for axis, layer in enumerate(self._layers):
                # Block by block: what is converted is never in memory as a whole.
                for first in range(0, record.tokens, _BLOCK):
                    span = slice(first, min(first + _BLOCK, record.tokens))
                    block[span, axis] = self._shard(index).read(layer, span)
            start += record.tokens
        return out

    def _locate(self, text: int) -> tuple[_Shard, int]:
        if not 0 <= text < self._record.texts:
            raise IndexError(
                f"text {text} of {self._folder.name}, which has {self._record.texts} texts"
            )
        index = int(np.searchsorted(self.shard_texts, text, side="right")) - 1
        return self._shard(index), text - int(self.shard_texts[index])

    def _shard(self, index: int) -> _Shard:
        if index not in self._shards:
            self._shards[index] = _Shard(
                self._folder / shard_name(index), index, self._record.shards[index], self._trust
            )
        return self._shards[index]

    def hash_ahead(self) -> None:
        """Begin to hash, on other threads, every file that reading the states will ask for; a
        damaged one is refused when it is read.
        """
        if not self._trust:
            for index in range(len(self._record.shards)):
                self._shard(index).hash_ahead(self._layers)

    def _array(self, name: str, dtype: np.dtype | None, length: int) -> np.ndarray:
        path = self._folder / self._record.array_files[name]
        check_file(path, self._record.arrays[name], trust=self._trust)
        return load_array(path, dtype, (length,))


class _Shard:
    """One shard's arrays, each checked and mapped when it is first asked for."""

    def __init__(self, folder: Path, index: int, record: ShardRecord, trust: bool):
        self._folder, self._index, self._record, self._trust = folder, index, record, trust
        self._states: dict[int, np.ndarray] = {}
        self._scales: dict[int, np.ndarray] = {}

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """int32 [texts]."""
        # In memory, where it takes little: a mapped file would keep a descriptor open.
        lengths = np.array(self._load("lengths.npy", np.dtype(np.int32), (self._record.texts,)))
        path = self._folder / "lengths.npy"
        require(
            int(lengths.sum(dtype=np.int64)) == self._record.tokens and not np.any(lengths < 0),
            "a shard's lengths add up to its tokens",
            path,
            REPAIR,
        )
        return lengths

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """int64 [texts + 1]."""
        return _offsets(self.lengths)

    @functools.cached_property
    def token_ids(self) -> np.ndarray:
        """int32 [tokens]."""
        return self._load("token_ids.npy", np.dtype(np.int32), (self._record.tokens,))

    def read(self, layer: int, span: slice) -> np.ndarray:
        """States of the tokens in `span`, [tokens, dim]: a view of the file, or float32 for
        int8.
        """
        if layer not in self._states:
            logical = self._record.dtypes[str(layer)]
            shape = (self._record.tokens, self._record.dim)
            if logical == "int8":
                scales = self._load(
                    scales_name(layer, self._index), np.dtype(np.float16), shape[:1]
                )
                require(
                    bool(np.isfinite(scales).all()),
                    "the scales of int8 states are finite",
                    self._folder / scales_name(layer, self._index),
                    REPAIR,
                )
                self._scales[layer] = scales
            array = self._load(states_name(layer, self._index), stored_dtype(logical), shape)
            self._states[layer] = array.view(DTYPES[logical])
        states = self._states[layer][span]
        return (
            states
            if layer not in self._scales
            else states * self._scales[layer][span, None].astype(np.float32)
        )

    def hash_ahead(self, layers: Iterable[int]) -> None:
        """Begin to hash the files that reading these layers will ask for."""
        for name in shard_files(
            {layer: self._record.dtypes[str(layer)] for layer in layers}, self._index
        ):
            hash_ahead(self._folder / name, self._record.files[name])

    def _load(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        path = self._folder / name
        check_file(path, self._record.files[name], trust=self._trust)
        return load_array(path, dtype, shape)


def _read_as(stored: set[str], max_abs: float) -> str:
    """Logical dtype that states come back in, of the dtypes they are stored in."""
    if stored == {"int8"}:
        # A scale is rounded up, so a state can come back a little larger than the largest there
        # was.
        return "float16" if max_abs < 65_000 else "float32"
    return stored.pop() if len(stored) == 1 else "float32"


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
