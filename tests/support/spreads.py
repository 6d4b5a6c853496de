"""Checks of measured times."""

from __future__ import annotations

from typing import Any


def require_spreads(record: dict[str, Any], *names: str) -> None:
    """Each NAME_ms lies between its quartiles, NAME_spread_ms."""
    for name in names:
        low, high = record[f"{name}_spread_ms"]
        assert 0 < low <= record[f"{name}_ms"] <= high
