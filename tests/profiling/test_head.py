"""A head that is profiled: its counts come from the compiled step, its batches are left alone."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from support.typed import present

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.profiling.ceilings import FULL, Ceilings
from glot_jax.profiling.head import profile_head
from glot_jax.profiling.shapes import synthetic_batch

CEILINGS = Ceilings({"float32": 1e9, FULL: 1e9, "bfloat16": 2e9, "float16": 2e9}, 1e9)


@pytest.mark.parametrize(
    ("backend", "scatters"), [("dense", False), ("blockwise", False), ("sparse", True)]
)
def test_counts_of_the_compiled_step(backend, scatters):
    batches = [synthetic_batch(dim=16, length=8, batch_size=2, seed=seed) for seed in range(2)]
    profile = profile_head(
        GraphConfig(backend=backend),
        PoolerConfig(hidden_dim=8),
        batches,
        repeats=2,
        ceilings=CEILINGS,
    )
    assert (present(profile.scatters) > 0) == scatters
    assert profile.compilations == 2  # forward and step
    assert present(profile.step_ms) > 0
    assert profile.forward_ms > 0
    assert present(profile.peak_bytes) > 2 * 8 * 16 * 4
    assert (profile.flops is not None) == (backend == "dense")
    assert 0 < present(profile.density) <= 1
    assert profile.over_floor == present(profile.step_ms) / present(profile.floor_ms)


def test_what_is_not_the_head_that_was_asked_for_is_refused():
    batch = [synthetic_batch(dim=8, length=8, batch_size=2)]
    with pytest.raises(UsageError, match="--k must be at most the longest padded text, 8"):
        profile_head(
            GraphConfig(graph="knn", k=9),
            PoolerConfig(hidden_dim=8),
            batch,
            repeats=1,
            ceilings=CEILINGS,
        )
    with pytest.raises(UsageError, match="--edge-budget must hold .* got 4 for"):
        profile_head(
            GraphConfig(backend="sparse", edge_budget=4),
            PoolerConfig(hidden_dim=8),
            batch,
            repeats=1,
            ceilings=CEILINGS,
        )


def test_density_and_floor_are_of_the_batches_that_are_timed():
    """Every pair of every batch is an edge.

    Lengths differ, and no average of them may come between.
    """
    batches = [
        synthetic_batch(dim=8, length=8, batch_size=3, tokens_per_text=5, seed=seed)
        for seed in range(3)
    ]
    profile = profile_head(
        GraphConfig(graph="complete"),
        PoolerConfig(hidden_dim=8),
        batches,
        repeats=1,
        forward_only=True,
        ceilings=CEILINGS,
    )
    assert profile.density == 1
    assert profile.step_ms is None
    assert profile.over_floor == profile.forward_ms / profile.forward_floor_ms


def test_soft_edges_are_dense_whatever_the_shape(monkeypatch):
    monkeypatch.setattr("glot_jax.graphs.backends.DENSE_PAIRS", 1)
    batch = [synthetic_batch(dim=8, length=8, batch_size=2)]
    profile = profile_head(
        GraphConfig(learn_tau=True), PoolerConfig(hidden_dim=8), batch, repeats=1, ceilings=CEILINGS
    )
    assert profile.backend == "dense"
    profile = profile_head(
        GraphConfig(), PoolerConfig(hidden_dim=8), batch, repeats=1, ceilings=CEILINGS
    )
    assert profile.backend == "blockwise"


def test_profiling_leaves_the_given_states_alone():
    batch = synthetic_batch(dim=16, length=8, batch_size=2)
    before = np.asarray(batch.hidden).copy()
    profile_head(GraphConfig(), PoolerConfig(hidden_dim=8), [batch], repeats=1, ceilings=CEILINGS)
    assert jnp.array_equal(batch.hidden, before)
