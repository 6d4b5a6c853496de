"""What the tests of profiling share: small measurements, and a tiny backbone."""

from __future__ import annotations

import pytest
from support.tiny_backbones import make_backbone

from glot_jax.profiling import ceilings


@pytest.fixture(autouse=True)
def small_ceilings(monkeypatch):
    """Ceilings of this machine are measured on smaller arrays."""
    monkeypatch.setattr(ceilings, "_SQUARES", ((128, 128, 128),))
    monkeypatch.setattr(ceilings, "_TALL", ())
    monkeypatch.setattr(ceilings, "_COPIES", (1 << 12, 1 << 16))
    monkeypatch.setattr(ceilings, "_SECONDS", 0)
    ceilings.forget_ceilings()
    yield
    ceilings.forget_ceilings()


@pytest.fixture(scope="session")
def backbone(tmp_path_factory) -> str:
    """A tiny random backbone of width 32."""
    return str(make_backbone("bert", tmp_path_factory.mktemp("costs") / "tiny", dim=32))
