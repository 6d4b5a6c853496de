"""What runs of one process share."""

from __future__ import annotations

import pytest
from support.head_runs import config

from glot_jax.store import HiddenStore
from glot_jax.training import Workspace, train


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


def test_a_program_is_built_once():
    workspace = Workspace()
    first = workspace.steps("program", lambda: object())
    assert workspace.steps("program", lambda: object()) is first
    assert workspace.steps("other", lambda: object()) is not first
    workspace.clear_states()
    assert workspace.steps("program", lambda: object()) is first


def test_a_dict_of_version_0_1_is_still_one_workspace(stores, tmp_path):
    residents: dict = {}
    assert Workspace.shared(residents) is Workspace.shared(residents)
    assert Workspace.shared(None) is not Workspace.shared(None)
    with pytest.deprecated_call(match=r"train\(residents=...\) is workspace=... now"):
        first = train(config(stores["classes"], tmp_path / "1"), quiet=True, residents=residents)
    with pytest.deprecated_call():
        second = train(config(stores["classes"], tmp_path / "2"), quiet=True, residents=residents)
    assert first["compilations"] == second["compilations"] > 0
    assert second["seconds"]["compile"] == 0
