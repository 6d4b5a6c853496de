"""Stores that these tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.head_runs import make_stores


@pytest.fixture(scope="session")
def stores(tmp_path_factory) -> dict[str, Path]:
    return make_stores(tmp_path_factory.mktemp("stores"))
