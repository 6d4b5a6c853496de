"""Stores for the tests of this folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.linked_stores import make_linked
from support.synthetic_stores import make_store


@pytest.fixture
def store(tmp_path) -> Path:
    """Three shards of layers 0 and 2; train has 40 rows, validation 12."""
    return make_store(tmp_path / "store", layers=(0, 2), shards=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Two shards of layer 2, not to be changed."""
    return make_store(tmp_path_factory.mktemp("made") / "store")


@pytest.fixture
def plain(made, tmp_path) -> Path:
    """A copy of `made`."""
    return Path(shutil.copytree(made, tmp_path / "plain"))


@pytest.fixture
def linked(made, tmp_path) -> Path:
    """A copy of `made` of links into `tmp_path`/cache."""
    return make_linked(made, tmp_path)
