"""Parts that live in other packages: poolers, GNN layers, graph rules and objectives.

A plugin is a module that registers its parts when it is imported:

    # my_plugin.py
    from glot_jax.pooling import POOLERS, Mean

    @POOLERS.register("my-mean")
    class MyMean(Mean): ...

It is imported when somebody names it, and at no other time: `--plugin my_plugin` on the command
line, `load(["my_plugin"])` or `plugins=[my_plugin]` in Python. A run folder records the names of
the plugins that it needs. They are compared with those that were loaded, never imported: a folder
from a stranger executes nothing by being read.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Iterable
from types import ModuleType

from glot_jax.errors import UsageError
from glot_jax.registry import registering, sources

GROUP = "glot_jax.plugins"
"""Group of the entry points under which installed packages offer plugins."""

_loaded: dict[str, ModuleType] = {}


def load(plugins: Iterable[str | ModuleType]) -> None:
    """Import plugins, in this order; one that is loaded already is left as it is.

    Args:
        plugins: each the name of an entry point of the group `glot_jax.plugins`, the name of a
            module that can be imported from the installed packages or from the working directory,
            or a module.

    Raises:
        UsageError: there is nothing of this name.
    """
    for plugin in plugins:
        if isinstance(plugin, ModuleType):
            # Its import has registered its parts.
            _loaded[plugin.__name__] = plugin
        # Not imported twice under a name: parts would be registered again.
        elif plugin not in _loaded:
            _loaded[plugin] = _import(plugin)


def loaded() -> frozenset[str]:
    """Names of the plugins that this process has loaded, or whose parts it has registered."""
    # Both: parts of a notebook, or of a module that was simply imported, have no plugin's name.
    return frozenset(_loaded) | sources()


def require_loaded(needed: Iterable[str], owner: object) -> None:
    """Require that every plugin that a run folder names was loaded.

    Args:
        needed: names from the folder. They are only compared.
        owner: the folder, for the message.

    Raises:
        UsageError: a plugin that nobody has named in this process.
    """
    # A folder from a stranger may hold anything in the place of a name.
    missing = sorted(set(map(str, needed)) - loaded())
    if not missing:
        return
    flags = " ".join(f"--plugin {name}" for name in missing)
    modules = ", ".join(missing)
    raise UsageError(
        rule=f"a run with parts from plugin {modules} must be told to load it",
        got=f"{owner}, without",
        fix=(f"If you trust it, add {flags}; in Python: glot_jax.plugins.load with {missing}."),
    )


def _import(name: str) -> ModuleType:
    """Import the plugin `name`; what it registers is noted as its own."""
    target = _entry_points().get(name, name)
    # The working directory comes last, so that no file there hides an installed module; and it is
    # looked at for this import only.
    folder = os.getcwd()
    sys.path.append(folder)
    try:
        with registering(name):
            return importlib.import_module(target)
    except ModuleNotFoundError as error:
        # A module that the plugin itself needs is the plugin's own affair, traceback and all.
        if error.name is None or not f"{target}.".startswith(f"{error.name}."):
            raise
        raise UsageError(
            rule="--plugin must be a module that can be imported, or an installed plugin",
            got=repr(name),
            fix=f"Install it, or run where {name.partition('.')[0]}.py is. {_installed()}",
        ) from error
    finally:
        sys.path.remove(folder)


def _entry_points() -> dict[str, str]:
    """Name -> module of the plugins that installed packages offer; nothing of them is imported."""
    entries = importlib.metadata.entry_points(group=GROUP)
    return {entry.name: entry.module for entry in entries}


def _installed() -> str:
    names = sorted(_entry_points())
    if not names:
        return "No plugin is installed."
    return f"Installed: {', '.join(names)}."
