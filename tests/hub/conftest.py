"""A Hub for every test of this folder, and a process that walks it.

Tiny models are made where a test asks for one: the clients' own tests need no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_server import HubServer
from support.hub_walks import texts
from support.walks import EXTRACTION, Walker

Folders = pytest.TempPathFactory


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    """A Hub of the test's own."""
    with HubServer(tmp_path / "hub") as server:
        yield server


@pytest.fixture(scope="session")
def shared(tmp_path_factory: Folders) -> Iterator[HubServer]:
    """The Hub that `walker` knows; a test puts repositories of its own name there."""
    with HubServer(tmp_path_factory.mktemp("shared")) as server:
        yield server


@pytest.fixture(scope="session")
def walker(shared: HubServer, tmp_path_factory: Folders) -> Iterator[Walker]:
    """A process with everything imported, for tests of one xdist group."""
    with Walker(shared.env(), tmp_path_factory.mktemp("walks"), EXTRACTION) as process:
        yield process


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: Folders) -> Path:
    """Folder of a tiny BERT."""
    from support.tiny_backbones import make_backbone

    return make_backbone("bert", tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def retrained(tmp_path_factory: Folders) -> Path:
    """The same model with other weights: what a branch moves on to."""
    from support.tiny_backbones import make_backbone

    return make_backbone("bert", tmp_path_factory.mktemp("retrained") / "bert", seed=1)


@pytest.fixture(scope="session")
def data(tmp_path_factory: Folders) -> Path:
    """Texts of a custom task."""
    return texts(tmp_path_factory.mktemp("data") / "texts")
