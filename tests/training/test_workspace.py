"""What runs of one process share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
from support.head_runs import config

from glot_jax.store import HiddenStore
from glot_jax.training import Workspace, train
from glot_jax.training.steps import Steps


def test_equal_states_are_placed_once(stores):
    workspace = Workspace()
    store = HiddenStore(stores["classes"])
    again = HiddenStore(stores["classes"])
    states = workspace.states(store, "train", "host")
    assert workspace.states(again, "train", "host") is states
    assert workspace.states(store, "train", "none") is not states
    assert workspace.states(store, "validation", "host") is not states
    workspace.clear_states()
    assert workspace.states(store, "train", "host") is not states


def test_one_layer_is_not_one_of_several(stores):
    workspace = Workspace()
    one = HiddenStore(stores["classes"], layer=2)
    stacked = HiddenStore(stores["classes"], layers=[2])
    states = workspace.states(one, "train", "host")
    assert workspace.states(stacked, "train", "host") is not states


def new_steps() -> Steps:
    """A workspace keeps steps and looks at nothing in them."""
    return cast(Steps, object())


def test_a_program_is_built_once():
    workspace = Workspace()
    first = workspace.steps("program", new_steps)
    assert workspace.steps("program", new_steps) is first
    assert workspace.steps("other", new_steps) is not first
    workspace.clear_states()
    assert workspace.steps("program", new_steps) is first


def test_a_dict_of_version_0_1_is_still_one_workspace(stores, tmp_path):
    residents: dict = {}
    # The keyword of 0.1, which the types have no more.
    train_as_before = cast(Callable[..., dict[str, Any]], train)
    assert Workspace.shared(residents) is Workspace.shared(residents)
    assert Workspace.shared(None) is not Workspace.shared(None)
    with pytest.deprecated_call(match=r"train\(residents=...\) is workspace=... now"):
        first = train_as_before(
            config(stores["classes"], tmp_path / "1"), quiet=True, residents=residents
        )
    with pytest.deprecated_call():
        second = train_as_before(
            config(stores["classes"], tmp_path / "2"), quiet=True, residents=residents
        )
    assert first["compilations"] == second["compilations"] > 0
    assert second["seconds"]["compile"] == 0
