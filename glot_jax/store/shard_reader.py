"""One shard, read through memory maps."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.remote.fetching import FileCache
from glot_jax.store.arrays import DTYPES, Shape, load_array, stored_dtype
from glot_jax.store.integrity import REPAIR, FileRecord, hash_ahead, require_file
from glot_jax.store.layout import scales_name, shard_files, states_name
from glot_jax.store.records import ShardRecord
from glot_jax.store.scaled_states import decode, is_scaled, scales_shape, values_shape

_INT32 = np.dtype(np.int32)
_FLOAT16 = np.dtype(np.float16)


class ShardReader:
    """One shard's arrays, each checked and mapped when it is first asked for.

    Args:
        folder: folder of the shard.
        index: its number in the split.
        record: what the manifest says about it.
        trust: check only the sizes and shapes of files.
        cache: what fetches the files of a store at a URL.
    """

    def __init__(
        self,
        folder: Path,
        index: int,
        record: ShardRecord,
        trust: bool,
        cache: FileCache | None = None,
    ):
        self._folder = folder
        self._cache = cache
        self._index = index
        self._record = record
        self._trust = trust
        # Maps stay open for the life of the reader: opening one costs more than reading a text.
        self._states: dict[int, np.ndarray] = {}
        self._scales: dict[int, np.ndarray] = {}

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """int32 [texts]: tokens of each text."""
        mapped = self._load(
            "lengths.npy",
            _INT32,
            (self._record.texts,),
        )
        # In memory, where it takes little: a mapped file would keep a descriptor open.
        lengths = np.array(mapped)
        # int64: the sum of a large shard does not fit int32.
        total = int(lengths.sum(dtype=np.int64))
        is_negative = np.any(lengths < 0)
        # A file may have the hash of its record and still not fit the others. Without this check a
        # text would be read from the states of its neighbour.
        if total != self._record.tokens or is_negative:
            raise UsageError(
                rule="a shard's lengths must add up to its tokens",
                got=self._folder / "lengths.npy",
                fix=REPAIR,
            )
        return lengths

    @functools.cached_property
    def offsets(self) -> np.ndarray:
        """int64 [texts + 1]: first token of each text, and the number of tokens."""
        return offsets_of(self.lengths)

    @functools.cached_property
    def token_ids(self) -> np.ndarray:
        """int32 [tokens]: the ids of all texts, one after the other."""
        return self._load(
            "token_ids.npy",
            _INT32,
            (self._record.tokens,),
        )

    def span(self, text: int) -> slice:
        """Tokens of one text."""
        start = self.offsets[text]
        end = self.offsets[text + 1]
        return slice(start, end)

    def read(self, layer: int, span: slice) -> np.ndarray:
        """States of the tokens in `span`, [tokens, dim].

        A view of the file, or float32 for int8 and int4.
        """
        if layer not in self._states:
            self._open(layer)
        states = self._states[layer][span]
        if layer not in self._scales:
            return states
        return decode(
            self._dtype(layer),
            states,
            self._scales[layer][span],
            self._record.dim,
        )

    def require_files(self, layers: Iterable[int]) -> None:
        """Have the states of these layers on this machine, as many as the record counts.

        For the time before memory is taken for them: what a record counts is only said by a file,
        perhaps a stranger's. They are not hashed here.

        Raises:
            UsageError: files are missing, or hold less.
        """
        for layer in layers:
            logical = self._dtype(layer)
            name = states_name(layer, self._index)
            shape = values_shape(logical, self._record.tokens, self._record.dim)
            needed = math.prod(shape) * stored_dtype(logical).itemsize
            record = self._record.files[name]
            if needed > record["bytes"]:
                raise UsageError(
                    rule="a stored array must have the size of what its record counts",
                    got=f"{self._folder / name} with {record['bytes']} bytes instead of {needed}",
                    fix=REPAIR,
                )
            require_file(self._folder / name, record, self._cache, trust=True)

    def packed(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """All values and scales of a layer as they lie on the disk: views of the files.

        For layers with scales only.
        """
        if layer not in self._states:
            self._open(layer)
        return self._states[layer], self._scales[layer]

    def hash_ahead(self, layers: Iterable[int]) -> None:
        """Begin to hash the files that reading these layers will ask for."""
        for path, record in self.files(layers).items():
            hash_ahead(path, record)

    def files(self, layers: Iterable[int]) -> dict[Path, FileRecord]:
        """The files that reading these layers will ask for."""
        dtypes = {layer: self._dtype(layer) for layer in layers}
        names = shard_files(dtypes, self._index)
        return {self._folder / name: self._record.files[name] for name in names}

    def _open(self, layer: int) -> None:
        logical = self._dtype(layer)
        tokens = self._record.tokens
        # The scales first: states without them must never be taken for states.
        if is_scaled(logical):
            self._scales[layer] = self._load_scales(layer, logical)
        name = states_name(layer, self._index)
        shape = values_shape(logical, tokens, self._record.dim)
        stored = self._load(name, stored_dtype(logical), shape)
        # bfloat16 lies in the file as uint16; the view gives its bits their meaning back.
        self._states[layer] = stored.view(DTYPES[logical])

    def _load_scales(self, layer: int, logical: str) -> np.ndarray:
        name = scales_name(layer, self._index)
        shape = scales_shape(
            logical,
            self._record.tokens,
            self._record.dim,
        )
        scales = self._load(name, _FLOAT16, shape)
        # One broken scale would make a whole token NaN, and with it every vector it is part of.
        if not np.isfinite(scales).all():
            raise UsageError(
                rule=f"the scales of {logical} states must be finite",
                got=self._folder / name,
                fix=REPAIR,
            )
        return scales

    def _dtype(self, layer: int) -> str:
        # Keys of JSON are strings.
        return self._record.dtypes[str(layer)]

    def _load(
        self,
        name: str,
        dtype: np.dtype,
        shape: Shape,
    ) -> np.ndarray:
        path = self._folder / name
        require_file(path, self._record.files[name], self._cache, trust=self._trust)
        return load_array(path, dtype, shape)


def offsets_of(lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """int64 [n + 1]: where each of n consecutive pieces begins, and the end of the last."""
    # One more than pieces, so that every piece is offsets[i]:offsets[i + 1], the last one too.
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, dtype=np.int64, out=offsets[1:])
    return offsets
