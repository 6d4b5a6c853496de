"""Fixtures of tests about the files of frozen models."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.backbone_fixtures import folders, llama, llama_copy


@pytest.fixture
def gguf_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of dequantised models that is this test's own."""
    monkeypatch.setenv("GLOT_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


__all__ = ["folders", "gguf_cache", "llama", "llama_copy"]
