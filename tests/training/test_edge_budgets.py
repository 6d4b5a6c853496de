"""Budgets of the sparse backend: measured, chosen, and overflowing."""

from __future__ import annotations

import dataclasses
import json

import jax
import numpy as np
import pytest
from support.graph_parts import adjacency_of
from support.head_runs import config, run
from support.synthetic_stores import CLASSES, make_store

from glot_jax.config.train import (
    GraphConfig,
)
from glot_jax.errors import UsageError
from glot_jax.graphs import token_graph
from glot_jax.run_folders.run_log import Display
from glot_jax.training import edge_budgets
from glot_jax.training.evaluate import evaluate_split
from glot_jax.training.evaluation import open_run
from glot_jax.training.prepare import prepare


def test_sparse_trains_like_dense(stores, tmp_path):
    losses = {}
    for backend in ("dense", "sparse"):
        run(stores["classes"], tmp_path / backend, graph=GraphConfig(backend=backend))
        losses[backend] = [
            json.loads(line)["loss"]
            for line in (tmp_path / backend / "metrics.jsonl").read_text().splitlines()
        ]
    np.testing.assert_allclose(losses["sparse"], losses["dense"], atol=1e-4)


def test_an_edge_budget_that_is_too_small_stops_the_run(stores, tmp_path):
    with pytest.raises(
        UsageError, match=r"at most 16 edges; got .* too many. Give --edge-budget \d+ or more"
    ) as raised:
        run(
            stores["classes"],
            tmp_path / "run",
            graph=GraphConfig(backend="sparse", graph="complete", edge_budget=16),
        )
    enough = int(raised.value.fix.split()[2])
    assert enough & (enough - 1) == 0
    run(
        stores["classes"],
        tmp_path / "enough",
        graph=GraphConfig(backend="sparse", graph="complete", edge_budget=8 * 12 * 12),
    )


def test_auto_lists_the_edges_of_long_texts_that_have_few(stores, tmp_path, monkeypatch):
    settings = config(
        stores["classes"], tmp_path / "run", graph=GraphConfig(graph="self", backend="auto")
    )
    assert prepare(settings, Display(quiet=True)).steps.edge_budgets == {}
    monkeypatch.setattr(edge_budgets, "SPARSE_LENGTH", 8)
    monkeypatch.setattr(edge_budgets, "SPARSE_DENSITY", 1 / 4)
    prepared = prepare(settings, Display(quiet=True))
    bounds = prepared.feeds["train"].plan.bounds
    assert {length for _, length in prepared.steps.edge_budgets} == {
        length for length in bounds if length >= 8
    }
    assert all(
        budget <= texts * length**2 / 4
        for (texts, length), budget in prepared.steps.edge_budgets.items()
    )
    # What a run that outgrew its budget is told to give is read.
    roomier = dataclasses.replace(
        settings, graph=dataclasses.replace(settings.graph, edge_budget=512)
    )
    monkeypatch.setattr(edge_budgets, "SPARSE_DENSITY", 1.0)
    assert set(prepare(roomier, Display(quiet=True)).steps.edge_budgets.values()) == {512}
    monkeypatch.setattr(edge_budgets, "SPARSE_DENSITY", 1 / 1000)
    assert prepare(settings, Display(quiet=True)).steps.edge_budgets == {}


@pytest.mark.parametrize("seed", range(2))
def test_measured_edge_budgets_hold_every_batch(tmp_path, seed):
    """Few long rows among many short ones: what a bucket holds is what its own rows hold."""
    store = make_store(
        tmp_path / "store", CLASSES, rows={"train": 120, "validation": 60}, longest=30, seed=seed
    )
    settings = config(
        store, tmp_path / "run", graph=GraphConfig(backend="sparse", tau=0.2), buckets=3
    )
    prepared = prepare(settings, Display(quiet=True))
    linked = jax.jit(
        lambda hidden, mask: adjacency_of(token_graph(hidden, mask, tau=0.2, backend="dense")).sum()
    )
    for feed in prepared.feeds.values():
        for step in range(2 * feed.plan.steps_per_epoch):
            batch = feed.batch(step)
            edges = prepared.steps.budget(batch)
            assert edges is not None
            assert int(linked(batch.hidden, batch.mask)) <= edges
            assert edges & (edges - 1) == 0


@pytest.mark.parametrize("states", ["raw", "centred", "standardised"])
def test_a_trained_run_is_judged_with_the_budgets_of_its_own_graphs(tmp_path, states):
    # One direction that all tokens share: before it is taken off nearly every pair is linked.
    store = make_store(tmp_path / "store", CLASSES, common=3.0)
    graph = GraphConfig(backend="sparse", graph_states=states)
    settings = config(store, tmp_path / "run", graph=graph)
    budgets = prepare(settings, Display(quiet=True)).steps.edge_budgets
    trained = run(store, tmp_path / "run", graph=graph)
    judged, state = open_run(tmp_path / "run", quiet=True)
    assert judged.steps.edge_budgets == budgets
    scores, _ = evaluate_split(judged, state, "validation")
    assert scores["accuracy"] == trained["validation"]["best"]["accuracy"]
