"""Token states that were computed before, kept on disk by their token ids.

    ~/.cache/glot-jax/states/<what made them>/<chunk>/
        keys.npy offsets.npy hidden-L6.npy ...

$GLOT_JAX_CACHE is another place than ~/.cache/glot-jax. States tell much about the texts that they
were made of: the folder is its user's alone (0700). A chunk is there whole or not at all, holds
arrays and nothing that is run when it is read, and several processes may read and add at the same
time. Beyond $GLOT_JAX_STATES_GB (20 gigabytes by default) chunks that were not read for longest are
removed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from glot_jax import disk
from glot_jax.errors import UsageError
from glot_jax.files import (
    locked,
    make_folders,
    make_private,
    most_bytes,
    user_cache,
    whole_folder,
    write_bytes,
)
from glot_jax.store.arrays import load_array, npy_bytes, stored_dtype
from glot_jax.store.identity import canonical_sha256
from glot_jax.store.shard_reader import offsets_of

_KEY_BYTES = 16
_DEFAULT_GB = 20.0
_LOCK = "lock"

_MOST_MAPPED = 32
"""Chunks that are mapped at a time: each takes a descriptor a layer, and a small call makes one."""

Key = bytes


def text_key(token_ids: Sequence[int] | np.ndarray) -> Key:
    """What a text is known by: a hash of its token ids."""
    ids = np.ascontiguousarray(token_ids, "<i4")
    return hashlib.blake2b(ids.tobytes(), digest_size=_KEY_BYTES).digest()


def states_folder() -> Path:
    """The folder of all cached states."""
    return user_cache("states")


def clear_cache(folder: Path | None = None) -> int:
    """Remove all cached states; returns how many bytes they took.

    Args:
        folder: of the cache. Default: `states_folder()`.
    """
    root = folder or states_folder()
    size = 0
    for chunk in _chunks(root):
        size += _size(chunk)
        # Another process may be removing it too.
        with contextlib.suppress(FileNotFoundError):
            disk.remove(chunk)
    return size


@dataclasses.dataclass(frozen=True)
class _Span:
    """Where a text's states lie."""

    chunk: _Chunk
    start: int
    end: int


class _Chunk:
    """States of some texts, mapped when they are read and until others are read instead."""

    def __init__(self, folder: Path, layers: Sequence[int], dim: int, dtype: str):
        self.folder = folder
        self._layers = tuple(layers)
        self._dim = dim
        self._dtype = stored_dtype(dtype)
        self._arrays: dict[int, np.ndarray] = {}
        keys = np.load(folder / "keys.npy", allow_pickle=False)
        mapped = load_array(folder / "offsets.npy", np.dtype(np.int64), (len(keys) + 1,))
        # In memory, where they take little: a mapped file would keep a descriptor open.
        self.offsets: np.ndarray = np.array(mapped)
        if keys.dtype != np.uint8 or keys.shape[1:] != (_KEY_BYTES,):
            raise UsageError(
                rule="keys of cached states must be of 16 bytes each",
                got=folder,
                fix="Remove this folder.",
            )
        self.keys: list[Key] = [row.tobytes() for row in keys]

    def opened(self) -> dict[int, np.ndarray]:
        """Layer -> states of all tokens, [tokens, dim].

        Raises:
            UsageError: the chunk was removed or damaged meanwhile.
        """
        if not self._arrays:
            shape = (int(self.offsets[-1]), self._dim)
            arrays: dict[int, np.ndarray] = {}
            # All of them: a chunk that cannot be read is left out as a whole.
            for layer in self._layers:
                arrays[layer] = load_array(self.folder / _states_name(layer), self._dtype, shape)
            self._arrays = arrays
        return self._arrays

    def close(self) -> None:
        """Let go of the maps, but for those that somebody reads at the moment."""
        self._arrays = {}


class StateCache:
    """States of one backbone in one dtype.

        cache = StateCache(identity, layers=(6,), dim=384, dtype="float16")
        with cache.writing():
            missing = [ids for ids in texts if text_key(ids) not in cache]
            cache.add(missing, {6: states})
        cache.states(texts)  # layer -> [tokens, dim]

    Args:
        identity: JSON values of everything that decides the states of a text.
        layers: layers of each text.
        dim: width of a state.
        dtype: storage dtype: float16, bfloat16 or float32.
        folder: of all cached states. Default: `states_folder()`.

    Raises:
        UsageError: the folder cannot be made or is another user's.
    """

    def __init__(
        self,
        identity: Mapping[str, object],
        *,
        layers: Sequence[int],
        dim: int,
        dtype: str,
        folder: Path | None = None,
    ):
        self.layers = tuple(layers)
        self._dim = dim
        self._dtype = dtype
        self._root = folder or states_folder()
        name = canonical_sha256({"identity": identity, "layers": list(layers), "dtype": dtype})
        self._folder = self._root / name[:32]
        make_private(self._root, "the cache of token states")
        make_folders(self._folder)
        self._spans: dict[Key, _Span] = {}
        # By folder, the one that was read longest ago first.
        self._mapped: dict[Path, _Chunk] = {}
        self._known: set[str] = set()
        self.refresh()

    def __contains__(self, key: Key) -> bool:
        return key in self._spans

    def __len__(self) -> int:
        return len(self._spans)

    def refresh(self) -> None:
        """Take notice of what other processes have added."""
        for chunk in _entries(self._folder):
            if chunk.name in self._known:
                continue
            self._known.add(chunk.name)
            try:
                self._take(_Chunk(chunk, self.layers, self._dim, self._dtype))
            except (OSError, ValueError):
                # Damaged, or removed a moment ago: its texts are computed again.
                continue

    def _take(self, chunk: _Chunk) -> None:
        # Read once at the least: what is damaged is left out before anybody relies on it.
        self._opened(chunk)
        offsets = chunk.offsets.tolist()
        for number, key in enumerate(chunk.keys):
            self._spans[key] = _Span(chunk, offsets[number], offsets[number + 1])

    def _opened(self, chunk: _Chunk) -> dict[int, np.ndarray]:
        """A chunk's states; the maps of what was read longest ago are given up for them."""
        arrays = chunk.opened()
        self._mapped.pop(chunk.folder, None)
        self._mapped[chunk.folder] = chunk
        if len(self._mapped) > _MOST_MAPPED:
            oldest = self._mapped.pop(next(iter(self._mapped)), None)
            # Another thread may have been faster.
            if oldest is not None:
                oldest.close()
        return arrays

    def _forget(self, chunk: _Chunk) -> None:
        """Take a chunk's texts for ones that are not there."""
        for key in chunk.keys:
            if self._spans[key].chunk is chunk:
                del self._spans[key]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one process that computes what is missing: another one waits, and then finds it.

        What is known is refreshed first, and what is too much removed at the end.
        """
        with locked(self._folder / _LOCK, wait=True):
            self.refresh()
            yield
        _bound(self._root)

    def add(self, texts: Sequence[Sequence[int]], layers: Mapping[int, np.ndarray]) -> None:
        """Keep the states of some texts.

        Args:
            texts: token ids of each.
            layers: layer -> [tokens, dim] in the storage dtype, the texts one after the other.

        Raises:
            UsageError: the disk refused.
        """
        if not texts:
            return
        keys = b"".join(text_key(ids) for ids in texts)
        offsets = offsets_of([len(ids) for ids in texts]).astype(np.int64)
        target = self._folder / f"{secrets.token_hex(8)}.states"
        with whole_folder(target) as folder:
            table = np.frombuffer(keys, np.uint8).reshape(len(texts), _KEY_BYTES)
            write_bytes(folder / "keys.npy", npy_bytes(table))
            write_bytes(folder / "offsets.npy", npy_bytes(offsets))
            for layer in self.layers:
                write_bytes(folder / _states_name(layer), npy_bytes(layers[layer]))
        self._known.add(target.name)
        self._take(_Chunk(target, self.layers, self._dim, self._dtype))

    def states(self, keys: Sequence[Key]) -> dict[int, np.ndarray]:
        """Layer -> [tokens, dim] in the storage dtype, the texts one after the other.

        Raises:
            KeyError: a text that is not there, or that another process has removed since.
        """
        spans = [self._spans[key] for key in keys]
        for chunk in {span.chunk.folder for span in spans}:
            # What was read last is removed last; a chunk that is removed meanwhile may be mapped.
            with contextlib.suppress(FileNotFoundError):
                os.utime(chunk)
        shape = (sum(span.end - span.start for span in spans), self._dim)
        layers = {layer: np.empty(shape, stored_dtype(self._dtype)) for layer in self.layers}
        start = 0
        # Copied one by one: views of all of them would hold as many files open.
        for key, span in zip(keys, spans, strict=True):
            try:
                arrays = self._opened(span.chunk)
            except (OSError, ValueError) as error:
                self._forget(span.chunk)
                raise KeyError(key) from error
            stop = start + span.end - span.start
            for layer, states in layers.items():
                states[start:stop] = arrays[layer][span.start : span.end]
            start = stop
        return layers


def _states_name(layer: int) -> str:
    return f"hidden-L{layer}.npy"


def _entries(folder: Path) -> list[Path]:
    """The whole chunks of one kind."""
    try:
        return sorted(folder.glob("*.states"))
    except FileNotFoundError:
        return []


def _chunks(root: Path) -> list[Path]:
    """The whole chunks of all kinds."""
    return sorted(root.glob("*/*.states"))


def _size(chunk: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in chunk.iterdir())
    return 0


def _bound(root: Path) -> None:
    """Remove what was not read for longest, beyond the cache's size."""
    most = most_bytes("GLOT_JAX_STATES_GB", _DEFAULT_GB)
    entries = []
    for chunk in _chunks(root):
        with contextlib.suppress(FileNotFoundError):
            entries.append((chunk.stat().st_mtime, _size(chunk), chunk))
    total = sum(size for _, size, _ in entries)
    for _, size, chunk in sorted(entries):
        if total <= most:
            return
        with contextlib.suppress(FileNotFoundError):
            disk.remove(chunk)
        total -= size
