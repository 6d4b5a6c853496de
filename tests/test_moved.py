"""Old names are answered with a warning; nothing else is."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Callable
from typing import cast

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


@pytest.mark.parametrize("old", sorted(moved.NAMES))
def test_names_that_other_modules_took_are_answered_by_the_old_module(old):
    with warnings.catch_warnings():
        # A module warns when it is imported first, which another test may have done.
        warnings.simplefilter("ignore", DeprecationWarning)
        module = importlib.import_module(f"glot_jax.{old}")
    for name, home in moved.NAMES[old].items():
        assert getattr(module, name) is getattr(importlib.import_module(f"glot_jax.{home}"), name)


@pytest.mark.parametrize(
    "statement",
    [
        "from glot_jax.training.loop import train_seeds",
        "from glot_jax.config import UsageError",
        "import glot_jax.stress_config",
    ],
)
def test_the_warning_points_at_whoever_imports_the_old_name(statement, monkeypatch):
    """Python shows a DeprecationWarning only where it points at the user's own code."""
    monkeypatch.delitem(sys.modules, "glot_jax.stress_config", raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        exec(compile(statement, "their_script.py", "exec"), {})
    # The import statement asks twice for a name that it takes out of a module.
    assert {warning.filename for warning in caught} == {"their_script.py"}


def test_a_keyword_under_both_of_its_names_is_refused():
    @moved.renamed_keywords(old="new")
    def function(new: int) -> int:
        return new

    # The types know the new name alone.
    called = cast(Callable[..., int], function)
    with pytest.deprecated_call(match=r"function\(old=...\) is new=... now"):
        assert called(old=1) == 1
    with pytest.raises(TypeError, match="not both"):
        called(old=1, new=2)


def test_a_module_that_never_was_is_not_found():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("glot_jax.no_such_module")


@pytest.mark.parametrize(
    "module",
    [
        "store",
        "store.lock",
        "store.manifest",
        "store.verify",
        "file_formats.dialects",
        "texts.folders",
        "texts.labels",
        "texts.survey",
        "file_formats.text_lines",
        "run_folders.run_log",
    ],
)
def test_names_that_moved_out_of_a_module_are_answered_there(module):
    home = importlib.import_module(f"glot_jax.{module}")
    for name in home._MOVED:
        # A name that the module uses itself is there as ever.
        if name in vars(home):
            continue
        with pytest.deprecated_call(match=f"glot_jax.{module}.{name} is glot_jax"):
            assert getattr(home, name) is not None
