"""A Hub for every test of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_server import HubServer
from tiny_backbones import make_backbone


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny BERT."""
    return make_backbone("bert", tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same model with other weights: what a branch moves on to."""
    return make_backbone("bert", tmp_path_factory.mktemp("retrained") / "bert", seed=1)
