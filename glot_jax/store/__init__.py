"""Token states on disk: what a store was made from (`manifest`) and its shards of ragged arrays
(`shards`).

NumPy only: neither torch nor jax is imported here, so a store can be read anywhere.
"""

from glot_jax.store.finish import finish
from glot_jax.store.manifest import (
    Manifest,
    ShardRecord,
    SplitRecord,
    read_manifest,
)
from glot_jax.store.reader import HiddenStore, Row, SplitReader
from glot_jax.store.recipe import PendingAppend, Recipe
from glot_jax.store.verify import describe, verify

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
