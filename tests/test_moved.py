"""Old names are answered with a warning; nothing else is."""

from __future__ import annotations

import importlib
import importlib.util

import pytest

from glot_jax import moved


@pytest.mark.parametrize("old", sorted(moved.MODULES))
def test_every_old_module_has_a_new_place(old):
    assert importlib.util.find_spec(f"glot_jax.{moved.MODULES[old]}") is not None


def test_an_old_module_is_the_module_of_today():
    with pytest.deprecated_call(match="glot_jax.config_json is glot_jax.config.json now"):
        old = importlib.import_module("glot_jax.config_json")
    assert old.to_json is importlib.import_module("glot_jax.config.json").to_json


def test_an_old_name_of_the_settings_is_the_class_of_today():
    import glot_jax.config

    with pytest.deprecated_call(match="glot_jax.errors.UsageError"):
        old = glot_jax.config.UsageError
    assert old is importlib.import_module("glot_jax.errors").UsageError
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = glot_jax.config.no_such_name


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("glot_jax.no_such_module")
