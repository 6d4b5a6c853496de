"""Settings of every command: frozen dataclasses, checked where they are born.

No numpy, jax or torch is imported, so a typing mistake on the command line costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import Any

from glot_jax import moved

_HOMES = {
    "config.base": ("flag",),
    "config.checks": ("is_number", "require_divisor"),
    "config.extract": ("ExtractConfig",),
    "config.train": (
        "GraphConfig",
        "ObjectiveConfig",
        "OptimizerConfig",
        "PoolerConfig",
        "TrainConfig",
    ),
    "pooling.options": ("unread_options",),
    "errors": ("UsageError", "lookup", "require"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """What `glot_jax.config` held as one module can be imported from here for one release."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'glot_jax.config' has no attribute {name!r}")
    moved.warn(f"config.{name}", f"{_HOME_OF[name]}.{name}")
    return getattr(importlib.import_module(f"glot_jax.{_HOME_OF[name]}"), name)
