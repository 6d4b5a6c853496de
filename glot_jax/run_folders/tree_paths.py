"""Names for the arrays of a tree: the path of keys that leads to each."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jaxtyping import PyTree


def tree_paths(tree: PyTree, separator: str = "/") -> dict[str, Any]:
    """Path -> leaf, in the order of the tree.

    A key of a dict, a field of a named tuple and an index of a list are spelled alike, by their
    name alone: `params/stem/layer_scores`, `opt_state/0/mu/...`.

    Args:
        tree: any pytree; of an `nnx.State` its arrays.
        separator: what stands between two keys.
    """
    if isinstance(tree, nnx.State):
        # A state wraps each array in a variable, which would add a key of its own.
        tree = nnx.to_pure_dict(tree)
    paths = {}
    for keys, leaf in jax.tree.leaves_with_path(tree):
        path = separator.join(map(_name, keys))
        paths[path] = leaf
    return paths


def _name(key: object) -> str:
    # Not the key's own text, which spells its kind too: `['a']`, `.a`, `[0]`.
    # DictKey has a `key`, GetAttrKey a `name`, SequenceKey an `idx`.
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    raise TypeError(f"{type(key).__name__} has no name")
