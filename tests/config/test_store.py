"""Settings of `glot store`."""

from __future__ import annotations

from pathlib import Path

import pytest

from glot_jax.config.store import StoreConfig
from glot_jax.errors import UsageError


def test_a_store_is_looked_at_checked_or_finished():
    for action in ("info", "verify", "finish"):
        assert StoreConfig(action, Path("store")).action == action
    with pytest.raises(UsageError, match="--action must be one of info, verify, finish"):
        StoreConfig("repair", Path("store"))  # pyright: ignore[reportArgumentType]
