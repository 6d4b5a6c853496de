"""Costs of poolers at toy size: records and their sums, what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from flax import nnx
from support.spreads import require_spreads
from support.tiny_backbones import make_backbone

from glot_jax import pooling
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.profiling.pooler_cost import (
    POOLERS,
    head_cost,
    pooler_cost,
    run_inference_cost,
    unlabelled_batch,
)
from glot_jax.profiling.shapes import synthetic_batch

DIM = 32


def test_a_record_for_each_pooler_whose_parts_add_up(backbone, capsys):
    costs = run_inference_cost(backbone, batch_size=4, length=16, repeats=1)
    records = [cost.to_json() for cost in costs]
    assert json.loads(json.dumps(records)) == records
    assert tuple(record["pooler"] for record in records) == POOLERS
    for record in records:
        assert set(record) == {
            "backbone",
            "load_per_core",
            "pooler",
            "batch_size",
            "length",
            "repeats",
            "forward_ms",
            "forward_spread_ms",
            "head_ms",
            "head_spread_ms",
            "total_ms",
            "head_percent",
            "parameters",
            "peak_bytes",
        }
        assert (record["batch_size"], record["length"]) == (4, 16)
        require_spreads(record, "forward", "head")
        assert record["total_ms"] == pytest.approx(record["forward_ms"] + record["head_ms"])
        assert 0 < record["head_percent"] < 100
        assert record["peak_bytes"] > 4 * 16 * DIM * 4  # the states alone
    # One forward pass stands for all: it knows nothing of poolers.
    assert len({record["forward_ms"] for record in records}) == 1
    parameters = {record["pooler"]: record["parameters"] for record in records}
    assert parameters["cls"] == parameters["mean"] == parameters["max"] == 0
    assert parameters["glot"] == pooling.count_parameters(pooling.Glot(DIM, rngs=nnx.Rngs(0)))
    assert parameters["mlp"] == pytest.approx(parameters["glot"], rel=0.02)
    shown = capsys.readouterr().out
    assert all(name in shown for name in POOLERS)
    assert f"{parameters['glot']:,}" in shown


def test_decoders_are_measured_too(tmp_path):
    folder = str(make_backbone("llama", tmp_path / "tiny", dim=DIM))
    (cost,) = run_inference_cost(folder, ("cls",), batch_size=2, length=8, repeats=1)
    assert cost.pooler == "cls"


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"poolers": ()}, "at least one pooler"),
        ({"poolers": ("mena",)}, "unknown pooler"),
        ({"batch_size": 0}, "at least 1 text"),
    ],
)
def test_nonsense_is_refused_before_the_model_is_looked_for(options, rule):
    with pytest.raises(UsageError, match=rule):
        run_inference_cost("nowhere", **options)


@pytest.mark.parametrize("backend", ["dense", "blockwise", "sparse"])
def test_the_head_is_timed_on_a_graph_of_every_backend(backend):
    batch = synthetic_batch(dim=DIM, length=12, batch_size=2, tokens_per_text=8)
    graph = GraphConfig(backend=backend)
    timing = head_cost(batch.hidden, batch.mask, graph, PoolerConfig(hidden_dim=8), 1)
    assert timing.median_ms > 0


def test_k_fits_the_texts_where_a_graph_is_read():
    batch = unlabelled_batch(np.ones((1, 4, DIM), np.float32), np.ones((1, 4), bool))
    wide = GraphConfig(graph="knn", k=5)
    with pytest.raises(UsageError, match="--k"):
        head_cost(batch.hidden, batch.mask, wide, PoolerConfig())
    with pytest.raises(UsageError, match="--k"):
        pooler_cost(wide, PoolerConfig(), [batch])
    assert pooler_cost(wide, PoolerConfig(pooler="mean"), [batch], 1).parameters == 0
