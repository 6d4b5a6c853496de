"""Names for the arrays of a tree: the path of keys that leads to each."""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx


def tree_paths(tree: Any, separator: str = "/") -> dict[str, Any]:
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
    leaves = jax.tree.leaves_with_path(tree)
    return {separator.join(_name(key) for key in keys): leaf for keys, leaf in leaves}


def _name(key: Any) -> str:
    # DictKey has a `key`, GetAttrKey a `name`, SequenceKey an `idx`.
    attribute = next(name for name in ("key", "name", "idx") if hasattr(key, name))
    return str(getattr(key, attribute))
