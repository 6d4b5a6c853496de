"""Forward passes of a shard that is not complete yet, kept so that a kill costs a minute at most.

A shard is a folder that appears whole. For a slow model it is minutes or hours of work, so while
one is open its finished passes are put into `OUT.lock/passes/SPLIT/SHARD/`, a file for what was
computed since the last one, at most every 20 seconds. The next process takes them from there, and
the shard has the bytes that it would have had. A model that fills a shard in less time leaves none.

Where a shard has turned out to need another dtype, the pass that decided it is kept beside them:
without it the next process would begin with the first dtype, and remove what is there of the other.
"""

from __future__ import annotations

import contextlib
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from glot_jax import disk
from glot_jax.backbones.storage_dtypes import States
from glot_jax.files import make_folders, write_npz
from glot_jax.store.identity import canonical_sha256
from glot_jax.store.layout import passes_folder, shard_name
from glot_jax.store.recipe import Recipe

SECONDS = 20.0
"""Between two files: what a kill costs, and a pass more."""
_DECISION = "decision.npz"
"""Which pass has decided the dtype."""
_MOST_BYTES = 64 * 1024**2
"""States that wait for their file; beyond it they are written earlier."""
# What NumPy raises of an archive that is cut or holds something else.
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)


class FinishedPasses:
    """The finished passes of one shard in the making.

    Args:
        store: folder of the store.
        split: name of the split.
        index: of the shard.
        recipe: of the store: passes of another one are not taken.
        dtype: storage dtype of the states.
        clock: seconds, from anywhere.
    """

    def __init__(
        self,
        store: Path,
        split: str,
        index: int,
        recipe: Recipe,
        dtype: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._folder = passes_folder(store) / split / shard_name(index)
        self._identity = f"{canonical_sha256(recipe.to_json())} {dtype}"
        self._clock = clock
        self._opened_at = clock()
        self._written_at = self._opened_at
        self._waiting: dict[str, np.ndarray] = {}
        self._waiting_bytes = 0
        self._files = self._open()

    def _open(self) -> dict[int, Path]:
        """Pass -> the file that holds it; files that are not what is needed are left out."""
        files: dict[int, Path] = {}
        for path in sorted(self._folder.glob("*.npz")):
            try:
                with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                    if str(arrays["identity"]) != self._identity:
                        continue
                    numbers = arrays["passes"].tolist()
            # A file that cannot be read is work to be done again, and no more than that.
            except _UNREADABLE:
                continue
            files |= dict.fromkeys(numbers, path)
        return files

    @property
    def found(self) -> int:
        """How many passes an earlier process has left."""
        return len(self._files)

    def take(self, number: int, ids: list[np.ndarray]) -> States | None:
        """The states of a pass that was finished before; None if it was not.

        Args:
            number: of the pass within the shard.
            ids: token ids of its texts, which must be those that it was made of.
        """
        path = self._files.get(number)
        if path is None:
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if not np.array_equal(arrays[f"{number} ids"], np.concatenate(ids)):
                    return None
                if not np.array_equal(arrays[f"{number} lengths"], [len(text) for text in ids]):
                    return None
                layers = {}
                scales = {}
                for name in arrays.files:
                    owner, _, what = name.partition(" ")
                    kind, _, layer = what.partition(" ")
                    if owner != str(number):
                        continue
                    if kind == "states":
                        layers[int(layer)] = arrays[name]
                    elif kind == "scales":
                        scales[int(layer)] = arrays[name]
                peak = float(arrays[f"{number} peak"])
                return States(layers, peak, scales, arrays[f"{number} errors"])
        except _UNREADABLE:
            return None

    def decide(
        self,
        number: int,
        ids: list[np.ndarray],
        peak: float,
    ) -> None:
        """Keep which pass has decided that the shard has this dtype.

        Args:
            number: of the pass within the shard.
            ids: token ids of its texts.
            peak: largest magnitude of its states.

        Raises:
            UsageError: the disk refused.
        """
        make_folders(self._folder)
        arrays = {
            "identity": np.array(self._identity),
            # As every file of this folder says it: here are the states of none.
            "passes": np.zeros(0, np.int64),
            "number": np.array(number),
            "ids": np.concatenate(ids),
            "lengths": np.array([len(text) for text in ids]),
            "peak": np.array(peak),
        }
        write_npz(self._folder / _DECISION, arrays)

    def decided_peak(self, ids_of: Callable[[int], list[np.ndarray]]) -> float | None:
        """The peak of the pass that has decided the dtype; None if none has.

        Args:
            ids_of: token ids of the texts of a pass, by its number; empty where there is no such
                pass.
        """
        path = self._folder / _DECISION
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if str(arrays["identity"]) != self._identity:
                    return None
                # Of other texts, or of other passes of the same ones, it decides nothing.
                ids = ids_of(int(arrays["number"]))
                if not np.array_equal(arrays["ids"], np.concatenate(ids)):
                    return None
                if not np.array_equal(arrays["lengths"], [len(text) for text in ids]):
                    return None
                return float(arrays["peak"])
        except _UNREADABLE:
            return None

    def add(self, number: int, ids: list[np.ndarray], states: States) -> None:
        """Keep a pass that was just finished; it is on the disk when the next file is due.

        Raises:
            UsageError: the disk refused.
        """
        self._waiting[f"{number} ids"] = np.concatenate(ids)
        self._waiting[f"{number} lengths"] = np.array([len(text) for text in ids])
        for layer, array in states.layers.items():
            self._waiting[f"{number} states {layer}"] = array
            self._waiting_bytes += array.nbytes
        for layer, array in states.scales.items():
            self._waiting[f"{number} scales {layer}"] = array
        self._waiting[f"{number} peak"] = np.array(states.peak)
        self._waiting[f"{number} errors"] = states.cosine_errors
        now = self._clock()
        is_due = now - self._written_at >= SECONDS
        is_full = self._waiting_bytes > _MOST_BYTES
        if is_due or (is_full and now - self._opened_at >= SECONDS):
            self._write(number)
        elif is_full:
            # A model this fast may have the shard done before a file is due: seconds of work are
            # let go rather than written twice.
            self._forget()

    def _write(self, number: int) -> None:
        numbers = [int(name.split()[0]) for name in self._waiting if name.endswith(" ids")]
        make_folders(self._folder)
        arrays = {
            "identity": np.array(self._identity),
            "passes": np.array(numbers),
            **self._waiting,
        }
        write_npz(self._folder / f"{number:08d}.npz", arrays)
        self._forget()
        self._written_at = self._clock()

    def _forget(self) -> None:
        self._waiting = {}
        self._waiting_bytes = 0

    def remove(self) -> None:
        """Remove what was kept: the shard is complete.

        What cannot be removed stays: it is room on the disk, and no reason to stop.
        """
        self._forget()
        with contextlib.suppress(OSError):
            disk.remove(self._folder)
