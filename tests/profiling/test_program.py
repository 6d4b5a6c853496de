"""What is read from a compiled step, and what is said of a fault of XLA."""

from __future__ import annotations

import jax
import pytest

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.profiling import program
from glot_jax.profiling.head import Head
from glot_jax.profiling.shapes import synthetic_batch


@pytest.mark.parametrize("gnn", ["gat", "gcn", "gin", "gine", "sage"])
@pytest.mark.parametrize("backend", ["dense", "blockwise"])
def test_a_step_for_cuda_has_no_scatter(gnn, backend):
    batch = synthetic_batch(dim=16, length=8, batch_size=2)
    pooler = PoolerConfig(gnn=gnn, hidden_dim=8, dtype="bfloat16")
    head = Head(GraphConfig(backend=backend), pooler, [batch])
    lowered = head.steps.lower("train", head.state, batch, platforms=("cuda",))
    text = lowered.as_text()
    assert "dot_general" in text
    assert "scatter" not in text


def test_a_known_fault_of_xla_is_warned_of(monkeypatch):
    assert program.scatter_warning("sparse") is None  # on this machine
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for version, warned in [
        ("0.10.2", True),
        ("0.11.0", True),
        ("0.10.1", False),
        ("0.11.1", False),
    ]:
        monkeypatch.setattr(program.jaxlib, "__version__", version)
        assert (program.scatter_warning("sparse") is not None) == warned
        assert program.scatter_warning("dense") is None


def test_donated_buffers_count_once():
    donating = jax.jit(lambda values: values + 1, donate_argnums=0)
    plain = jax.jit(lambda values: values + 1)
    values = jax.numpy.zeros(1 << 12)
    size = values.nbytes
    assert program.peak_bytes(plain.lower(values).compile()) == 2 * size
    assert program.peak_bytes(donating.lower(values).compile()) == size
