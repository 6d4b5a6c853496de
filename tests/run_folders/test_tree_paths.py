"""One spelling of paths for dicts, lists, named tuples and states of a module."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from flax import nnx

from glot_jax.run_folders.tree_paths import tree_paths


class Moments(NamedTuple):
    mean: list[int]
    value: dict[int, int]


def test_keys_fields_and_indices_are_spelled_by_their_names():
    tree = {"b": Moments([1, 2], {7: 3}), "a": 4}
    assert tree_paths(tree) == {"a": 4, "b/mean/0": 1, "b/mean/1": 2, "b/value/7": 3}


def test_a_state_has_the_paths_of_its_module():
    state = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    shapes = {path: np.shape(array) for path, array in tree_paths(state, ".").items()}
    assert shapes == {"bias": (3,), "kernel": (2, 3)}


def test_a_parameter_may_be_called_value():
    assert tree_paths({"attention": {"value": 1, "key": 2}}, ".") == {
        "attention.key": 2,
        "attention.value": 1,
    }
