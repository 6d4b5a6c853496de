"""Shards of ragged token states, read through memory maps: `HiddenStore`."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.errors import UsageError, lookup
from glot_jax.store.arrays import DTYPES, load_array, stored_dtype
from glot_jax.store.integrity import REPAIR, check_file, hash_ahead
from glot_jax.store.layout import LABELS, scales_name, shard_files, shard_name, states_name
from glot_jax.store.manifest import Manifest, read_manifest
from glot_jax.store.recipe import Recipe
from glot_jax.store.records import ShardRecord, SplitRecord

_BLOCK = 65_536
"""Tokens that are converted at once."""

_FLOAT16_BOUND = 65_000
"""int8 states below it come back as float16, whose largest value is 65,504."""

_INT32 = np.dtype(np.int32)
_INT64 = np.dtype(np.int64)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a split."""

    texts: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Per text (hidden [length, (layers,) dim], token_ids [length] int32)."""
    label: int | float | None

    @property
    def hidden(self) -> np.ndarray:
        """States of the row's only text: [length, dim].

        [length, layers, dim] for a store opened with `layers=`.
        """
        return self._only_text()[0]

    @property
    def token_ids(self) -> np.ndarray:
        """Token ids of the row's only text, [length] int32."""
        return self._only_text()[1]

    def _only_text(self) -> tuple[np.ndarray, np.ndarray]:
        if len(self.texts) != 1:
            raise UsageError(
                rule="a row must have one text for `hidden` and `token_ids`",
                got=f"a row of {len(self.texts)}",
                fix="Use row.texts.",
            )
        return self.texts[0]


class HiddenStore:
    """A finished store of token states, opened for reading.

        store = HiddenStore("stores/cola")
        row = store["validation"][7]  # row.hidden [length, dim], row.token_ids [length], row.label

    Every file is checked against the manifest's sha256 the first time this process opens it.

    Args:
        path: folder of the store.
        layer: the stored layer to read, 0 .. L, or negative from the end; default: the last stored.
        layers: several layers to read instead; states then have a layers axis, [length, layers,
            dim].
        trust: check only the sizes and shapes of files.

    Attributes:
        path: folder of the store.
        manifest: its whole description.
        content: its identity, hex.
        recipe: what it was made from.
        task: its TaskSpec as JSON.
        dim: width of a state.
        splits: names of the splits.
        stored_layers: the layers it holds.
        layers: the layers that are read, counted from 0.

    Raises:
        UsageError: the folder is not a finished store, a layer is unknown, or a file is damaged.
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
        self.layers: tuple[int, ...] = self._choose_layers(layer, layers)
        choice = _Choice(self.layers, self.dim, stack=layers is not None, trust=trust)
        self._readers = {
            name: SplitReader(self.path / name, split, choice)
            for name, split in self.manifest.splits.items()
        }

    def _choose_layers(self, layer: int | None, layers: Sequence[int] | None) -> tuple[int, ...]:
        if layer is not None and layers is not None:
            raise UsageError(
                rule="a store must be opened with either layer= or layers=",
                got=f"{layer=}, {layers=}",
                fix="Give one of them.",
            )
        if layers is None:
            return (self.stored_layers[-1] if layer is None else self._resolve(layer),)
        if len(layers) == 0:
            raise UsageError(
                rule="layers= must name at least one layer",
                got=layers,
                fix=f"Stored: {self._stored()}.",
            )
        return tuple(self._resolve(index) for index in layers)

    def _stored(self) -> str:
        return ", ".join(map(str, self.stored_layers))

    def _resolve(self, layer: int) -> int:
        """The layer counted from 0, where the input of the first block is layer 0."""
        resolved = layer if layer >= 0 else self.recipe.num_layers + 1 + layer
        if resolved not in self.stored_layers:
            raise UsageError(
                rule="a layer must be stored to be read",
                got=f"layer {layer}",
                fix=f"Stored: {self._stored()}.",
            )
        return resolved

    def __getitem__(self, split: str) -> SplitReader:
        """The reader of a split.

        Raises:
            UsageError: the store does not have it.
        """
        return lookup(self._readers, split, f"split of {self.path}")

    def __contains__(self, split: object) -> bool:
        return split in self._readers

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)


@dataclasses.dataclass(frozen=True)
class _Choice:
    """What is read of a store."""

    layers: tuple[int, ...]
    dim: int
    stack: bool
    """Whether states have a layers axis."""
    trust: bool
    """Whether files are checked by size and shape alone."""

    @property
    def token_shape(self) -> tuple[int, ...]:
        return (len(self.layers), self.dim) if self.stack else (self.dim,)


class SplitReader:
    """One split of a `HiddenStore`.

    Its rows have one or more texts, each a ragged [length, (layers,) dim] block of states. Rows are
    read by index; `states` and `token_ids` read single texts by their number (`row_texts` says
    which texts a row has). Arrays are read-only views of the files, except where shards had to be
    joined or states converted.
    """

    def __init__(self, folder: Path, record: SplitRecord, choice: _Choice):
        self._folder = folder
        self._record = record
        self._choice = choice
        self._shards: dict[int, _Shard] = {}
        self.dim: int = choice.dim
        """Width of a state."""
        self.tokens: int = record.tokens
        """Stored tokens of all texts."""
        stored = set()
        for shard in record.shards:
            stored |= {shard.dtypes[str(layer)] for layer in choice.layers}
        self.dtype: np.dtype = DTYPES[_read_as(stored, record.max_abs)]
        """dtype of every array of states this reader returns; float32 where shards differ. int8
        states come back as float16 where they fit.
        """
        self.shard_texts: np.ndarray = _offsets([shard.texts for shard in record.shards])
        """int64 [shards + 1]: shard s holds the texts shard_texts[s] .. shard_texts[s + 1]."""

    def __len__(self) -> int:
        return self._record.rows

    @property
    def token_shape(self) -> tuple[int, ...]:
        """Shape of one token's states: (dim,), or (layers, dim) where several are read."""
        return self._choice.token_shape

    @functools.cached_property
    def row_offsets(self) -> np.ndarray:
        """int64 [rows + 1]: where the slots of each row begin.

        Row r has the slots row_offsets[r] .. row_offsets[r + 1] of `row_texts` and `roles`.
        """
        return self._array("row_offsets.npy", _INT64, len(self) + 1)

    @functools.cached_property
    def row_texts(self) -> np.ndarray:
        """int64 [slots]: the stored text of each slot."""
        return self._array("row_texts.npy", _INT64, int(self.row_offsets[-1]))

    @functools.cached_property
    def roles(self) -> np.ndarray:
        """int8 [slots]: index of each slot's role in the task's `roles`."""
        return self._array("roles.npy", np.dtype(np.int8), int(self.row_offsets[-1]))

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """[rows]: int64 classes, float32 regression targets, or None for a task without labels."""
        if LABELS not in self._record.arrays:
            return None
        return self._array(LABELS, None, len(self))

    @functools.cached_property
    def text_lengths(self) -> np.ndarray:
        """int32 [texts]: stored tokens of each text."""
        lengths = [np.zeros(0, np.int32)]
        lengths += [self._shard(index).lengths for index in range(len(self._record.shards))]
        return np.concatenate(lengths)

    @functools.cached_property
    def text_offsets(self) -> np.ndarray:
        """int64 [texts + 1]: where the tokens of each text begin in `read_all()`.

        Text t has the tokens text_offsets[t] .. text_offsets[t + 1].
        """
        return _offsets(self.text_lengths)

    @functools.cached_property
    def texts_per_row(self) -> int:
        """Texts of every row: 1, or 2 for pairs.

        Raises:
            UsageError: rows differ.
        """
        counts = np.unique(np.diff(self.row_offsets))
        if len(counts) != 1:
            raise UsageError(
                rule="all rows must have the same number of texts for texts_per_row",
                got=f"{counts.tolist()} in {self._folder}",
                fix="Use row_offsets.",
            )
        return int(counts[0])

    def __getitem__(self, row: int) -> Row:
        """One row; negative numbers count from the end.

        Raises:
            IndexError: the split has fewer rows.
        """
        rows = len(self)
        if not -rows <= row < rows:
            raise IndexError(f"row {row} of {self._folder.name}, which has {rows} rows")
        row = row % rows
        slots = self.row_texts[self.row_offsets[row] : self.row_offsets[row + 1]]
        texts = tuple((self.states(text), self.token_ids(text)) for text in slots.tolist())
        label = None if self.labels is None else self.labels[row].item()
        return Row(texts, label)

    def states(self, text: int) -> np.ndarray:
        """States of one text, [length, (layers,) dim] of `dtype`.

        Raises:
            IndexError: the split has fewer texts.
        """
        shard, index = self._locate(text)
        span = slice(shard.offsets[index], shard.offsets[index + 1])
        parts = [shard.read(layer, span) for layer in self._choice.layers]
        block = np.stack(parts, axis=1) if self._choice.stack else parts[0]
        return block.astype(self.dtype, copy=False)

    def token_ids(self, text: int) -> np.ndarray:
        """Token ids of one text, int32 [length].

        Raises:
            IndexError: the split has fewer texts.
        """
        shard, index = self._locate(text)
        return shard.token_ids[shard.offsets[index] : shard.offsets[index + 1]]

    def read_all(self) -> np.ndarray:
        """Every state of the split in text order, in memory.

        Returns:
            One contiguous array [tokens, (layers,) dim] of `dtype`.
        """
        layers = self._choice.layers
        states = np.empty((self.tokens, *self.token_shape), self.dtype)
        # The same memory with a layers axis in any case.
        by_layer = states.reshape(self.tokens, len(layers), self.dim)
        start = 0
        for index, record in enumerate(self._record.shards):
            block = by_layer[start : start + record.tokens]
            for axis, layer in enumerate(layers):
                # Block by block: what is converted is never in memory as a whole.
                for first in range(0, record.tokens, _BLOCK):
                    span = slice(first, min(first + _BLOCK, record.tokens))
                    block[span, axis] = self._shard(index).read(layer, span)
            start += record.tokens
        return states

    def hash_ahead(self) -> None:
        """Begin to hash, on other threads, every file that reading the states will ask for.

        A damaged file is refused when it is read.
        """
        if self._choice.trust:
            return
        for index in range(len(self._record.shards)):
            self._shard(index).hash_ahead(self._choice.layers)

    def _locate(self, text: int) -> tuple[_Shard, int]:
        """The shard that holds a text, and the text's number inside it."""
        texts = self._record.texts
        if not 0 <= text < texts:
            raise IndexError(f"text {text} of {self._folder.name}, which has {texts} texts")
        index = int(np.searchsorted(self.shard_texts, text, side="right")) - 1
        return self._shard(index), text - int(self.shard_texts[index])

    def _shard(self, index: int) -> _Shard:
        if index not in self._shards:
            folder = self._folder / shard_name(index)
            record = self._record.shards[index]
            self._shards[index] = _Shard(folder, index, record, self._choice.trust)
        return self._shards[index]

    def _array(self, name: str, dtype: np.dtype | None, length: int) -> np.ndarray:
        path = self._folder / self._record.array_files[name]
        check_file(path, self._record.arrays[name], trust=self._choice.trust)
        return load_array(path, dtype, (length,))


class _Shard:
    """One shard's arrays, each checked and mapped when it is first asked for."""

    def __init__(self, folder: Path, index: int, record: ShardRecord, trust: bool):
        self._folder = folder
        self._index = index
        self._record = record
        self._trust = trust
        self._states: dict[int, np.ndarray] = {}
        self._scales: dict[int, np.ndarray] = {}

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """int32 [texts]."""
        # In memory, where it takes little: a mapped file would keep a descriptor open.
        lengths = np.array(self._load("lengths.npy", _INT32, (self._record.texts,)))
        # The file may have the hash of its record and still not fit the others: without this check
        # a text would be read from the states of its neighbour.
        total = int(lengths.sum(dtype=np.int64))
        if total != self._record.tokens or np.any(lengths < 0):
            raise UsageError(
                rule="a shard's lengths must add up to its tokens",
                got=self._folder / "lengths.npy",
                fix=REPAIR,
            )
        return lengths

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """int64 [texts + 1]."""
        return _offsets(self.lengths)

    @functools.cached_property
    def token_ids(self) -> np.ndarray:
        """int32 [tokens]."""
        return self._load("token_ids.npy", _INT32, (self._record.tokens,))

    def read(self, layer: int, span: slice) -> np.ndarray:
        """States of the tokens in `span`, [tokens, dim].

        A view of the file, or float32 for int8.
        """
        if layer not in self._states:
            self._open(layer)
        states = self._states[layer][span]
        if layer not in self._scales:
            return states
        return states * self._scales[layer][span, None].astype(np.float32)

    def _open(self, layer: int) -> None:
        logical = self._record.dtypes[str(layer)]
        tokens = self._record.tokens
        if logical == "int8":
            name = scales_name(layer, self._index)
            scales = self._load(name, np.dtype(np.float16), (tokens,))
            if not np.isfinite(scales).all():
                raise UsageError(
                    rule="the scales of int8 states must be finite",
                    got=self._folder / name,
                    fix=REPAIR,
                )
            self._scales[layer] = scales
        name = states_name(layer, self._index)
        array = self._load(name, stored_dtype(logical), (tokens, self._record.dim))
        self._states[layer] = array.view(DTYPES[logical])

    def hash_ahead(self, layers: Iterable[int]) -> None:
        """Begin to hash the files that reading these layers will ask for."""
        dtypes = {layer: self._record.dtypes[str(layer)] for layer in layers}
        for name in shard_files(dtypes, self._index):
            hash_ahead(self._folder / name, self._record.files[name])

    def _load(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        path = self._folder / name
        check_file(path, self._record.files[name], trust=self._trust)
        return load_array(path, dtype, shape)


def _read_as(stored: set[str], max_abs: float) -> str:
    """Logical dtype that states come back in, given the dtypes they are stored in."""
    if stored == {"int8"}:
        # A scale is rounded up, so a state can come back a little larger than the largest that was
        # stored.
        return "float16" if max_abs < _FLOAT16_BOUND else "float32"
    return stored.pop() if len(stored) == 1 else "float32"


def _offsets(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """int64 [n + 1]: where each of n consecutive pieces begins, and the end of the last."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
