"""Costs of the graph at toy size: records and their sums, what is timed, what is refused."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from support.graph_parts import tuple_of
from support.spreads import require_spreads
from support.tiny_backbones import MAX_POSITIONS, make_backbone

from glot_jax import token_graph
from glot_jax.config.train import GraphConfig
from glot_jax.errors import UsageError
from glot_jax.profiling.graph_cost import edges_of, graph_cost, run_graph_cost
from glot_jax.profiling.shapes import synthetic_batch

DIM = 32


def test_a_record_for_each_length_whose_parts_add_up(backbone, capsys):
    costs = run_graph_cost(backbone, (8, MAX_POSITIONS), 3)
    records = [cost.to_json() for cost in costs]
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


@pytest.mark.parametrize("backend", ["dense", "blockwise", "sparse"])
def test_what_is_timed_as_the_graph_is_all_of_its_edges(backend):
    batch = synthetic_batch(dim=DIM, length=12, batch_size=2, tokens_per_text=8)
    graph = token_graph(batch.hidden, batch.mask, backend=backend)
    kept = edges_of(graph)
    assert len(kept) == len(jax.tree.leaves(graph)) - 1
    assert not any(leaf is graph.nodes for leaf in kept)
    named = {"dense": ["adjacency"], "blockwise": ["bits"]}.get(backend)
    if named is None:
        edges = [tuple_of(graph).senders, tuple_of(graph).receivers]
    else:
        edges = [getattr(graph, name) for name in named]
    for array in edges:
        assert any(leaf is array for leaf in kept)
    # Traced, the nodes are left out as well.
    traced = jax.jit(lambda hidden, mask: edges_of(token_graph(hidden, mask, backend=backend)))(
        batch.hidden, batch.mask
    )
    assert all(np.array_equal(a, b) for a, b in zip(traced, kept, strict=True))
    assert graph_cost(batch.hidden, batch.mask, GraphConfig(backend=backend), 1).median_ms > 0


def test_decoders_are_measured_too(tmp_path):
    folder = str(make_backbone("llama", tmp_path / "tiny", dim=DIM))
    assert [cost.length for cost in run_graph_cost(folder, (1, 8), 1)] == [1, 8]


@pytest.mark.parametrize(
    ("lengths", "repeats", "rule"),
    [((), 20, "at least 1 token"), ((0, 8), 20, "at least 1 token"), ((8,), 0, "at least once")],
)
def test_nonsense_is_refused_before_the_model_is_looked_for(lengths, repeats, rule):
    with pytest.raises(UsageError, match=rule):
        run_graph_cost("nowhere", lengths, repeats)


def test_k_fits_the_texts():
    with pytest.raises(UsageError, match="--k"):
        graph_cost(
            np.ones((1, 4, DIM), np.float32), np.ones((1, 4), bool), GraphConfig(graph="knn", k=5)
        )
