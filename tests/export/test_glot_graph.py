"""Edges in PyTorch: ties, strict thresholds, zero vectors, and vectors of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import DIM, TAU, assert_close, by_jax, by_torch, glot, model_of, padded
from support.graph_parts import adjacency_of

from glot_jax.export.glot_graph import link
from glot_jax.export.torch_head import settings_of, torch_head, weights_of
from glot_jax.graphs import token_graph


def test_ties_strict_thresholds_and_zero_vectors():
    """The rules decide, and not the rounding.

    Entries are ±1, so every cosine is exactly -1, -0.5, 0, 0.5 or 1.
    """
    rng = np.random.default_rng(0)
    hidden, mask = rng.choice(np.array([-1, 1], np.float32), (6, 9, DIM)), rng.random((6, 9)) < 0.7
    hidden[..., 4:] = 0
    hidden[:, 2] = 0  # a zero vector has no edge, not even to itself
    hidden[:, 5] = hidden[:, 3]
    threshold, knn, window = (
        [{"graph": graph, name: value} for value in values]
        for graph, name, values in (
            ("threshold", "tau", (0.5, 0.4999, -1.0, 1.0)),
            ("knn", "k", (1, 2, 4, 9)),
            ("window", "window", (0, 2, 2**40)),
        )
    )
    rules: list[dict[str, Any]] = [*threshold, *knn, *window]
    rules += [{"graph": "self"}, {"graph": "complete"}]
    for rule in rules:
        wanted = adjacency_of(token_graph(hidden, mask, backend="dense", **rule))
        numbers = {"tau": 0.6, "k": 8, "window": 4, **rule}
        found = link(
            torch.from_numpy(hidden),
            torch.from_numpy(mask),
            rule["graph"],
            torch.tensor(numbers["tau"]),
            numbers["k"],
            min(numbers["window"], 2**31 - 1),
        )
        assert np.array_equal(found, wanted), rule
        assert 0 < wanted.sum() < wanted.size or rule.get("tau") == 1


@pytest.mark.parametrize("scale", [1e-30, 1e15])
def test_lengths_of_vectors_do_not_change_who_is_linked(scale):
    pooler = glot(gnn="sage", jk="max", num_layers=1)
    model = model_of(pooler, TAU)
    hidden, mask = padded(model, (7, 5), "right", 0.0)
    hidden *= np.float32(scale)
    assert_close(
        by_torch(torch_head(settings_of(model, pooler), weights_of(model)), hidden, mask),
        by_jax(model)(hidden, mask),
    )
