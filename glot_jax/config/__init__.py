"""Settings of every command: frozen dataclasses, checked where they are born.

No numpy, jax or torch is imported, so a typing mistake on the command line costs milliseconds.
"""

from __future__ import annotations

import importlib

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
_HOME_OF: dict[str, str] = {}
for _home, _names in _HOMES.items():
    _HOME_OF |= dict.fromkeys(_names, _home)


def __getattr__(name: str) -> object:
    """What `glot_jax.config` held as one module can be imported from here for one release."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'glot_jax.config' has no attribute {name!r}")
    home = _HOME_OF[name]
    # Not `moved_name`: this room's tables are of rooms to names, and the warning must point at
    # whoever asks.
    moved.warn(f"config.{name}", f"{home}.{name}")
    # Imported now: settings alone must cost neither poolers nor JAX.
    return getattr(importlib.import_module(f"glot_jax.{home}"), name)
