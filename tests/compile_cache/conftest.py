"""JAX's own settings of its cache, as they were."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from glot_jax.compile_cache import switch

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
    "jax_persistent_cache_enable_xla_caches",
)


@pytest.fixture
def switchable(monkeypatch) -> Iterator[None]:
    """The compile cache may be switched in this process, in which no other has been named."""
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    monkeypatch.delenv(switch.JAX_VARIABLE, raising=False)
    monkeypatch.setattr(switch, "_in_use", None)
    yield
    compilation_cache.reset_cache()
    for name, value in before.items():
        jax.config.update(name, value)
