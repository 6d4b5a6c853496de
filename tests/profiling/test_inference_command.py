"""Costs of inference at toy size, with a tiny random backbone: records and their sums, what is
timed, what is refused.
"""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from flax import nnx
from support.tiny_backbones import MAX_POSITIONS, make_backbone

from glot_jax import pooling, token_graph
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.profiling.head import synthetic_batch
from glot_jax.profiling.inference import batch_of, edges_of, graph_cost, head_cost, pooler_cost
from glot_jax.profiling.inference_command import POOLERS, run_graph_cost, run_inference_cost

DIM = 32


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return str(make_backbone("bert", tmp_path_factory.mktemp("inference") / "tiny", dim=DIM))


def require_spreads(record, *names):
    for name in names:
        low, high = record[f"{name}_spread_ms"]
        assert 0 < low <= record[f"{name}_ms"] <= high


def test_a_record_for_each_length_whose_parts_add_up(backbone, capsys):
    records = run_graph_cost(backbone, (8, MAX_POSITIONS), 3)
    assert json.loads(json.dumps(records)) == records
    assert [record["length"] for record in records] == [8, MAX_POSITIONS]
    for record in records:
        assert set(record) == {
            "backbone",
            "load_per_core",
            "length",
            "repeats",
            "graph_ms",
            "graph_spread_ms",
            "forward_ms",
            "forward_spread_ms",
            "head_ms",
            "head_spread_ms",
            "total_ms",
            "overhead_percent",
        }
        assert (record["backbone"], record["repeats"]) == ("tiny", 3)
        assert record["load_per_core"] >= 0
        require_spreads(record, "graph", "forward", "head")
        assert record["total_ms"] == pytest.approx(
            record["graph_ms"] + record["forward_ms"] + record["head_ms"]
        )
        assert 0 < record["overhead_percent"] < 100
        assert record["overhead_percent"] == pytest.approx(
            100 * record["graph_ms"] / record["total_ms"]
        )
    shown = capsys.readouterr().out
    assert "graph / total" in shown
    assert f"{records[0]['overhead_percent']:.2f} %" in shown


def test_a_record_for_each_pooler_whose_parts_add_up(backbone, capsys):
    records = run_inference_cost(backbone, batch_size=4, length=16, repeats=1)
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
    assert [
        record["pooler"]
        for record in run_inference_cost(folder, ("cls",), batch_size=2, length=8, repeats=1)
    ] == ["cls"]
    assert len(run_graph_cost(folder, (1, 8), 1)) == 2


def test_a_length_beyond_the_positions_is_refused(backbone):
    for measure in (
        lambda: run_graph_cost(backbone, (8, MAX_POSITIONS + 1)),
        lambda: run_inference_cost(backbone, length=MAX_POSITIONS + 1),
    ):
        with pytest.raises(UsageError) as error:
            measure()
        assert error.value.rule == f"tiny has positions for texts of up to {MAX_POSITIONS} tokens"
        assert error.value.got == f"a length of {MAX_POSITIONS + 1}"
        assert error.value.fix == f"Give {MAX_POSITIONS} or less."


@pytest.mark.parametrize(
    ("measure", "rule"),
    [
        (lambda: run_graph_cost("nowhere", ()), "at least 1 token"),
        (lambda: run_graph_cost("nowhere", (0, 8)), "at least 1 token"),
        (lambda: run_graph_cost("nowhere", (8,), 0), "at least once"),
        (lambda: run_inference_cost("nowhere", ()), "at least one pooler"),
        (lambda: run_inference_cost("nowhere", ("mena",)), "unknown pooler"),
        (lambda: run_inference_cost("nowhere", batch_size=0), "at least 1 text"),
    ],
)
def test_nonsense_is_refused_before_the_model_is_looked_for(measure, rule):
    with pytest.raises(UsageError, match=rule):
        measure()


@pytest.mark.parametrize("backend", ["dense", "blockwise", "sparse"])
def test_what_is_timed_as_the_graph_is_all_of_its_edges(backend):
    batch = synthetic_batch(dim=DIM, length=12, batch_size=2, tokens_per_text=8)
    graph = token_graph(batch.hidden, batch.mask, backend=backend)
    kept = edges_of(graph)
    assert len(kept) == len(jax.tree.leaves(graph)) - 1
    assert not any(leaf is graph.nodes for leaf in kept)
    named = {"dense": ["adjacency"], "blockwise": ["bits"]}.get(backend)
    wanted = (
        [graph.tuple.senders, graph.tuple.receivers]
        if named is None
        else [getattr(graph, name) for name in named]
    )
    assert all(any(leaf is of for leaf in kept) for of in wanted)
    # Traced, the nodes are left out as well.
    traced = jax.jit(lambda hidden, mask: edges_of(token_graph(hidden, mask, backend=backend)))(
        batch.hidden, batch.mask
    )
    assert all(np.array_equal(a, b) for a, b in zip(traced, kept, strict=True))
    assert graph_cost(batch.hidden, batch.mask, GraphConfig(backend=backend), 1).median_ms > 0
    assert (
        head_cost(
            batch.hidden, batch.mask, GraphConfig(backend=backend), PoolerConfig(hidden_dim=8), 1
        ).median_ms
        > 0
    )


def test_k_fits_the_texts_where_a_graph_is_read():
    batch = batch_of(np.ones((1, 4, DIM), np.float32), np.ones((1, 4), bool))
    wide = GraphConfig(graph="knn", k=5)
    for measure in (
        lambda: graph_cost(batch.hidden, batch.mask, wide),
        lambda: head_cost(batch.hidden, batch.mask, wide, PoolerConfig()),
        lambda: pooler_cost(wide, PoolerConfig(), [batch]),
    ):
        with pytest.raises(UsageError, match="--k is at most"):
            measure()
    assert pooler_cost(wide, PoolerConfig(pooler="mean"), [batch], 1).parameters == 0
