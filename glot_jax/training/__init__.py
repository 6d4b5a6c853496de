"""Store -> trained head: feeding, compiled steps, the loop and its evaluation.

No torch is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from glot_jax.training.loop import train
    from glot_jax.training.seeds import train_seeds
    from glot_jax.training.workspace import Workspace

__all__ = ["Workspace", "train", "train_seeds"]

_HOMES = {"Workspace": "workspace", "train": "loop", "train_seeds": "seeds"}


def __getattr__(name: str) -> object:
    # On first use: the command line is read without an import of jax.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
