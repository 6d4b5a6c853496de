"""One split of a store: rows of one or more texts, each a ragged block of states."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.remote.fetching import FileCache
from glot_jax.store.arrays import DTYPES, Shape, load_array
from glot_jax.store.integrity import FileRecord, require_file
from glot_jax.store.layout import LABELS, shard_name
from glot_jax.store.records import SplitRecord
from glot_jax.store.scaled_states import float16_bound, is_scaled
from glot_jax.store.shard_reader import ShardReader, offsets_of

_BLOCK = 65_536
"""Tokens that are converted at once."""

_INT8 = np.dtype(np.int8)
_INT64 = np.dtype(np.int64)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a split."""

    texts: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Per text (hidden [length, (layers,) dim], token_ids [length] int32)."""
    label: int | float | tuple[int, ...] | None
    """A class, a score, or the ascending indices of all classes of the row."""

    @property
    def hidden(self) -> np.ndarray:
        """States of the row's only text: [length, dim].

        [length, layers, dim] for a store opened with `layers=`.
        """
        hidden, _ = self._only_text()
        return hidden

    @property
    def token_ids(self) -> np.ndarray:
        """Token ids of the row's only text, [length] int32."""
        _, token_ids = self._only_text()
        return token_ids

    def _only_text(self) -> tuple[np.ndarray, np.ndarray]:
        # A pair has two of everything; which of them is meant cannot be guessed.
        if len(self.texts) != 1:
            raise UsageError(
                rule="a row must have one text for `hidden` and `token_ids`",
                got=f"a row of {len(self.texts)}",
                fix="Use row.texts.",
            )
        return self.texts[0]


@dataclasses.dataclass(frozen=True)
class Selection:
    """What is read of a store."""

    layers: tuple[int, ...]
    dim: int
    stack: bool
    """Whether states have a layers axis."""
    trust: bool
    """Whether only the sizes and shapes of files are checked."""
    label_shape: Shape = ()
    """Shape of a row's label: (), or (classes,) where it may have several."""
    cache: FileCache | None = None
    """What fetches the files of a store at a URL; None for one of this machine."""

    @property
    def token_shape(self) -> Shape:
        """Shape of one token's states: (dim,), or (layers, dim) where several are read."""
        if self.stack:
            return (len(self.layers), self.dim)
        return (self.dim,)


class SplitReader:
    """One split of a `HiddenStore`.

    Its rows have one or more texts, each a ragged [length, (layers,) dim] block of states. Rows are
    read by index; `states` and `token_ids` read single texts by their number (`row_texts` says
    which texts a row has). Arrays are read-only views of the files, except where shards had to be
    joined or states converted.

    Args:
        folder: folder of the split.
        record: what the manifest says about it.
        selection: what is read of it.
    """

    def __init__(self, folder: Path, record: SplitRecord, selection: Selection):
        self._folder = folder
        self._record = record
        self._selection = selection
        self._shards: dict[int, ShardReader] = {}
        self.dim: int = selection.dim
        """Width of a state."""
        self.tokens: int = record.tokens
        """Stored tokens of all texts."""
        self.dtype: np.dtype = DTYPES[self._read_as()]
        """dtype of every array of states this reader returns; float32 where shards differ. int8
        and int4 states come back as float16 where they fit.
        """
        texts = [shard.texts for shard in record.shards]
        self.shard_texts: np.ndarray = offsets_of(texts)
        """int64 [shards + 1]: shard s holds the texts shard_texts[s] .. shard_texts[s + 1]."""

    def _stored_as(self) -> set[str]:
        """Logical dtypes that lie on the disk."""
        stored: set[str] = set()
        for shard in self._record.shards:
            for layer in self._selection.layers:
                stored.add(shard.dtypes[str(layer)])
        return stored

    @property
    def is_packed(self) -> bool:
        """Whether every state has four bits a value: `read_packed`."""
        return self._stored_as() == {"int4"}

    def _read_as(self) -> str:
        """Logical dtype that states come back in."""
        stored = self._stored_as()
        if len(stored) == 1 and is_scaled(min(stored)):
            # The bound keeps a distance from float16's own: a state can come back a little larger
            # than the largest that was stored.
            fits = self._record.max_abs < float16_bound(min(stored))
            return "float16" if fits else "float32"
        if len(stored) == 1:
            return stored.pop()
        # Shards of several dtypes: the one that holds them all. Also a split without shards.
        return "float32"

    def __len__(self) -> int:
        return self._record.rows

    @property
    def token_shape(self) -> Shape:
        """Shape of one token's states: (dim,), or (layers, dim) where several are read."""
        return self._selection.token_shape

    @functools.cached_property
    def row_offsets(self) -> np.ndarray:
        """int64 [rows + 1]: where the slots of each row begin.

        Row r has the slots row_offsets[r] .. row_offsets[r + 1] of `row_texts` and `roles`.
        """
        return self._array("row_offsets.npy", _INT64, len(self) + 1)

    @property
    def _slots(self) -> int:
        return int(self.row_offsets[-1])

    @functools.cached_property
    def row_texts(self) -> np.ndarray:
        """int64 [slots]: the stored text of each slot."""
        return self._array("row_texts.npy", _INT64, self._slots)

    @functools.cached_property
    def roles(self) -> np.ndarray:
        """int8 [slots]: index of each slot's role in the task's `roles`."""
        return self._array("roles.npy", _INT8, self._slots)

    @functools.cached_property
    def labels(self) -> np.ndarray | None:
        """[rows]: int64 classes, float32 regression targets, or None for a task without labels.

        [rows, classes]: uint8, 1 for every class of a row, where it may have several.
        """
        if LABELS not in self._record.arrays:
            return None
        # Any dtype: the task decides it, and the file's hash says that it is the one written.
        return self._array(LABELS, None, len(self), *self._selection.label_shape)

    @functools.cached_property
    def text_lengths(self) -> np.ndarray:
        """int32 [texts]: stored tokens of each text."""
        # The empty array gives a split without shards its dtype.
        lengths = [np.zeros(0, np.int32)]
        for index in range(len(self._record.shards)):
            lengths.append(self._shard(index).lengths)
        return np.concatenate(lengths)

    @functools.cached_property
    def text_offsets(self) -> np.ndarray:
        """int64 [texts + 1]: where the tokens of each text begin in `read_all()`.

        Text t has the tokens text_offsets[t] .. text_offsets[t + 1].
        """
        return offsets_of(self.text_lengths)

    @functools.cached_property
    def texts_per_row(self) -> int:
        """Texts of every row: 1, or 2 for pairs.

        Raises:
            UsageError: rows differ.
        """
        # A split without rows has no count either.
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
        # IndexError, not UsageError: it is what ends Python's own iteration over a sequence.
        if not -rows <= row < rows:
            raise IndexError(f"row {row} of {self._folder.name}, which has {rows} rows")
        # Python's remainder is never negative: -1 becomes the last row.
        row = row % rows
        # The slots of a row are its texts in the order of their roles.
        first = self.row_offsets[row]
        end = self.row_offsets[row + 1]
        texts = []
        for text in self.row_texts[first:end].tolist():
            states = self.states(text)
            texts.append((states, self.token_ids(text)))
        return Row(tuple(texts), self.label(row))

    def label(self, row: int) -> int | float | tuple[int, ...] | None:
        """The label of a row, as `Row.label`."""
        if self.labels is None:
            return None
        # Indices and not the row of the file: an example has them so, and rows are compared.
        if self.labels.ndim == 2:
            return tuple(np.flatnonzero(self.labels[row]).tolist())
        return self.labels[row].item()

    def states(self, text: int) -> np.ndarray:
        """States of one text, [length, (layers,) dim] of `dtype`.

        Raises:
            IndexError: the split has fewer texts.
        """
        shard, index = self._locate(text)
        span = shard.span(index)
        parts = [shard.read(layer, span) for layer in self._selection.layers]
        # Without a layers axis a view of the file is returned, not a copy.
        block = parts[0]
        if self._selection.stack:
            block = np.stack(parts, axis=1)
        return block.astype(self.dtype, copy=False)

    def token_ids(self, text: int) -> np.ndarray:
        """Token ids of one text, int32 [length].

        Raises:
            IndexError: the split has fewer texts.
        """
        shard, index = self._locate(text)
        return shard.token_ids[shard.span(index)]

    def read_all(self) -> np.ndarray:
        """Every state of the split in text order, in memory.

        Returns:
            One contiguous array [tokens, (layers,) dim] of `dtype`.
        """
        layers = self._selection.layers
        # Before memory is taken: a manifest may count what no file holds.
        for index in range(len(self._record.shards)):
            self._shard(index).require_files(layers)
        shape = (self.tokens, *self.token_shape)
        states = np.empty(shape, self.dtype)
        # The same memory with a layers axis in any case.
        by_layer = states.reshape(self.tokens, len(layers), self.dim)
        # Shard after shard, so that the disk reads each file from its beginning to its end.
        start = 0
        for index, record in enumerate(self._record.shards):
            end = start + record.tokens
            self._copy_shard(index, record.tokens, by_layer[start:end])
            start = end
        return states

    def read_packed(self) -> tuple[np.ndarray, np.ndarray]:
        """Every state of the split in text order, as `scaled_states.decode` takes int4.

        Returns:
            Values uint8 [tokens, (layers,) ceil(dim / 2)] and scales float16 [tokens, (layers,)
            ceil(dim / 64)].

        Raises:
            UsageError: states of another dtype, or a damaged file.
        """
        if not self.is_packed:
            raise UsageError(
                rule="packed states must be stored as int4",
                got=f"{self._folder} with {', '.join(sorted(self._stored_as()))}",
                fix="Read them with read_all.",
            )
        values = []
        scales = []
        layers = self._selection.layers
        for index in range(len(self._record.shards)):
            shard = self._shard(index)
            parts = [shard.packed(layer) for layer in layers]
            values.append(np.stack([part[0] for part in parts], axis=1))
            scales.append(np.stack([part[1] for part in parts], axis=1))
        joint_values = np.concatenate(values)
        joint_scales = np.concatenate(scales)
        if self._selection.stack:
            return joint_values, joint_scales
        # The only layer's, without an axis for it.
        return joint_values[:, 0], joint_scales[:, 0]

    def _copy_shard(
        self,
        index: int,
        tokens: int,
        target: np.ndarray,
    ) -> None:
        """Copy a shard's states into `target` [tokens, layers, dim]."""
        shard = self._shard(index)
        for axis, layer in enumerate(self._selection.layers):
            # Block by block: what is converted is never in memory as a whole.
            for first in range(0, tokens, _BLOCK):
                end = min(first + _BLOCK, tokens)
                span = slice(first, end)
                target[span, axis] = shard.read(layer, span)

    def hash_ahead(self) -> None:
        """Begin to hash, on other threads, every file that reading the states will ask for.

        A damaged file is refused when it is read.
        """
        if self._selection.trust:
            return
        for index in range(len(self._record.shards)):
            self._shard(index).hash_ahead(self._selection.layers)

    @property
    def is_fetched(self) -> bool:
        """Whether files come from a URL when they are first read, and are hashed as they come."""
        return self._selection.cache is not None

    def files(self) -> dict[Path, FileRecord]:
        """Every file that reading the states will ask for, the small ones first."""
        paths = {}
        for name, file in self._record.array_files.items():
            paths[self._folder / file] = self._record.arrays[name]
        # What plans are made of comes before what they are about.
        for layers in ((), self._selection.layers):
            for index in range(len(self._record.shards)):
                paths |= self._shard(index).files(layers)
        return paths

    def _locate(self, text: int) -> tuple[ShardReader, int]:
        """The shard that holds a text, and the text's number inside it."""
        texts = self._record.texts
        if not 0 <= text < texts:
            raise IndexError(f"text {text} of {self._folder.name}, which has {texts} texts")
        # "right": a shard without texts ends where it begins, and holds none.
        after = np.searchsorted(self.shard_texts, text, side="right")
        # Its place is behind the beginning of its shard.
        index = int(after) - 1
        first = int(self.shard_texts[index])
        return self._shard(index), text - first

    def _shard(self, index: int) -> ShardReader:
        # Kept: a shard that was opened has its files checked and mapped.
        if index not in self._shards:
            self._shards[index] = ShardReader(
                self._folder / shard_name(index),
                index,
                self._record.shards[index],
                self._selection.trust,
                self._selection.cache,
            )
        return self._shards[index]

    def _array(
        self,
        name: str,
        dtype: np.dtype | None,
        *shape: int,
    ) -> np.ndarray:
        path = self._folder / self._record.array_files[name]
        record = self._record.arrays[name]
        require_file(path, record, self._selection.cache, trust=self._selection.trust)
        return load_array(path, dtype, shape)
