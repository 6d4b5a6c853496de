"""Token states on disk: written shard by shard, read through memory maps, checked by their hashes.

NumPy only: neither torch nor jax is imported here, so a store can be read anywhere.
"""

from glot_jax.moved import moved_name
from glot_jax.store.finish import finish
from glot_jax.store.info import describe
from glot_jax.store.manifest import Manifest, read_manifest
from glot_jax.store.reader import HiddenStore
from glot_jax.store.recipe import PendingAppend, Recipe
from glot_jax.store.records import ShardRecord, SplitRecord
from glot_jax.store.split_reader import Row, SplitReader
from glot_jax.store.verify import verify

__all__ = [
    "HiddenStore",
    "Manifest",
    "PendingAppend",
    "Recipe",
    "Row",
    "ShardRecord",
    "SplitReader",
    "SplitRecord",
    "describe",
    "finish",
    "read_manifest",
    "verify",
]


_MOVED = {
    "explain_mismatch": "store.recipe",
}


def __getattr__(name: str) -> object:
    """Names of version 0.1 that have moved."""
    return moved_name(__name__, name, _MOVED)
