"""What a checkpoint says of itself, by which damage to its files is found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from glot_jax.run_folders.orbax_files import is_key
from glot_jax.run_folders.tree_paths import tree_paths

Arrays = Mapping[str, Any]
"""A training state, or a part of one: a tree of arrays."""


@dataclasses.dataclass(frozen=True)
class Record:
    """What is known of a checkpoint without reading its arrays."""

    arrays: Mapping[str, Any] | None
    """Path -> [dtype, shape, sha256]; None in checkpoints of 0.1, which are read without the
    check.
    """
    selection: float | None
    """The number that the best one is chosen by; None at a step that takes no part in it."""
    notes: Mapping[str, Any]
    """What was saved beside the state."""


def describe_arrays(state: Arrays) -> dict[str, list[Any]]:
    """`Record.arrays` of a state."""
    hashes = _hashes(state)
    entries = {}
    for path, kind in array_kinds(state).items():
        entries[path] = [*kind, hashes[path]]
    return entries


def array_kinds(state: Arrays) -> dict[str, list[Any]]:
    """Path -> [dtype, shape]."""
    kinds: dict[str, list[Any]] = {}
    for path, leaf in tree_paths(state).items():
        # As JSON will give them back: a dtype by its name, a shape as a list.
        kinds[path] = [str(leaf.dtype), list(leaf.shape)]
    return kinds


def _hashes(state: Arrays) -> dict[str, str]:
    """sha256 of each array's bytes, as they lie on the host; of a PRNG key, of its data."""
    paths = tree_paths(state)
    for name, leaf in paths.items():
        if is_key(leaf):
            paths[name] = jax.random.key_data(leaf)
    # All at once: one copy from the device for each array would wait for each.
    arrays = jax.device_get(paths)
    hashes = {}
    for name, array in arrays.items():
        # `tobytes` is in C order, whatever the array's own: equal values have equal hashes.
        content = np.asarray(array).tobytes()
        hashes[name] = hashlib.sha256(content).hexdigest()
    return hashes


def first_difference(state: Arrays, record: Record) -> str | None:
    """How a state that was read differs from its record; None if it does not, or has none."""
    if record.arrays is None:
        return None
    arrays = record.arrays
    broken = []
    for path, sha256 in _hashes(state).items():
        _, _, saved = arrays[path]
        if sha256 != saved:
            broken.append(path)
    if not broken:
        return None
    return f"{len(broken)} of {len(arrays)} arrays are not what was saved, the first {broken[0]}"


def digest(record: object) -> str:
    """sha256 of a record as JSON."""
    # Sorted: JSON promises no order of keys to whoever reads the record back.
    content = json.dumps(record, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
