"""The head in PyTorch computes what the model computes, for every pooler, layer and rule."""

from __future__ import annotations

import json
from typing import Any

import jax
import numpy as np
import pytest
import torch

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from sentence_transformers.sentence_transformer.modules.pooling import Pooling
from support.exported_heads import (
    DIM,
    PLAIN,
    TAU,
    assert_close,
    by_jax,
    by_torch,
    glot,
    model_of,
    padded,
    randomised,
)

from glot_jax.batches.token_choice import TokenChoice
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig
from glot_jax.export.glot_head import GlotHead
from glot_jax.export.glot_pooling import GlotPooling
from glot_jax.export.torch_head import settings_of, torch_head, weights_of
from glot_jax.model import ModelSpec
from glot_jax.pooling import GNN_LAYERS, POOLERS
from glot_jax.texts.tasks import TASKS

SINK = 3.0
"""A norm that some of the random states have and others do not."""

CASES: dict[str, tuple[PoolerConfig, GraphConfig, dict[str, Any]]] = {
    **{name: (PoolerConfig(pooler=name), TAU, {}) for name in ("first", "last", "mean", "adapool")},
    "weighted-mean": (PoolerConfig(pooler="weighted-mean", projection_dim=5), TAU, {}),
    "mean-sqrt-len": (
        PoolerConfig(pooler="mean-sqrt-len", standardise=True),
        TAU,
        {"layers": (0, 2)},
    ),
    "max": (PoolerConfig(pooler="max", standardise=True), TAU, {}),
    "cls-encoder": (PoolerConfig(pooler="cls"), TAU, {"kind": "encoder"}),
    "cls-decoder": (PoolerConfig(pooler="cls", projection_dim=5), TAU, {"kind": "decoder"}),
    "adapool-wide": (
        PoolerConfig(pooler="adapool", scorer_dim=7, standardise=True, projection_dim=5),
        TAU,
        {"layers": (0, 3)},
    ),
    "attention": (PoolerConfig(pooler="adapool-attention"), TAU, {}),
    "attention-3": (
        PoolerConfig(pooler="adapool-attention", heads=3, standardise=True),
        TAU,
        {"layers": (0, 1, 2)},
    ),
    "mlp": (glot(pooler="mlp", num_layers=2), TAU, {}),
    "mlp-max": (
        glot(pooler="mlp", num_layers=1, jk="max", scorer_dim=6),
        GraphConfig(graph="random"),
        {"kind": "decoder"},
    ),
    "mlp-0": (glot(pooler="mlp", num_layers=0), TAU, {}),
    # glot: layer, rule, jumping knowledge, heads, edge term, residual, virtual node, projection,
    # standardise, mixed layers, in pairs
    "gat-threshold": (glot(heads=2, edge_term=True, jk="cat", residual=True), TAU, {}),
    "gat-knn": (
        glot(heads=4, jk="max", virtual_node=True, projection_dim=8),
        GraphConfig(graph="knn", k=3),
        {},
    ),
    "gat-window": (
        glot(jk="mean", edge_term=True, standardise=True),
        GraphConfig(graph="window", window=2),
        {"layers": (0, 2)},
    ),
    "gat-complete": (
        glot(jk="none", num_layers=4, residual=True, virtual_node=True),
        GraphConfig(graph="complete"),
        {},
    ),
    "gcn-threshold": (
        glot(gnn="gcn", jk="max", num_layers=1, standardise=True),
        GraphConfig(tau=0.3),
        {"layers": (1, 2)},
    ),
    "gcn-knn": (
        glot(gnn="gcn", jk="none", residual=True, projection_dim=5),
        GraphConfig(graph="knn", k=1),
        {},
    ),
    "gcn-self": (glot(gnn="gcn", jk="cat", virtual_node=True), GraphConfig(graph="self"), {}),
    "gin-threshold": (
        glot(gnn="gin", jk="mean", virtual_node=True, projection_dim=5),
        GraphConfig(tau=-0.2),
        {},
    ),
    "gin-window": (
        glot(gnn="gin", jk="cat", residual=True),
        GraphConfig(graph="window", window=0),
        {"layers": (0, 1, 2)},
    ),
    "gin-complete": (
        glot(gnn="gin", jk="none", num_layers=1, standardise=True),
        GraphConfig(graph="complete"),
        {},
    ),
    "gine-threshold": (
        glot(gnn="gine", jk="none", standardise=True, residual=True),
        GraphConfig(tau=0.4, learn_tau=True),
        {"layers": (0, 2)},
    ),
    "gine-knn": (glot(gnn="gine", jk="cat", num_layers=3), GraphConfig(graph="knn", k=100), {}),
    "gine-self": (
        glot(gnn="gine", jk="max", virtual_node=True, projection_dim=8),
        GraphConfig(graph="self"),
        {},
    ),
    "sage-threshold": (
        glot(gnn="sage", jk="cat", scorer_dim=9, projection_dim=5),
        GraphConfig(learn_tau=True),
        {},
    ),
    "sage-knn": (
        glot(gnn="sage", jk="mean", residual=True, virtual_node=True),
        GraphConfig(graph="knn", k=4),
        {"layers": (0, 1)},
    ),
    "sage-tau-1": (glot(gnn="sage", jk="max"), GraphConfig(tau=1.0), {}),
    "gat-tau-1": (glot(jk="none"), GraphConfig(tau=1.0), {}),
    # Tokens that are left out, and what is linked and scaled in place of the raw states.
    "sinks-threshold": (glot(jk="cat"), TAU, {"tokens": TokenChoice(sink_limits=(SINK,))}),
    "skip-knn": (
        glot(gnn="gcn", token_norm="l2", standardise=True),
        GraphConfig(graph="knn", k=2, graph_states="standardised"),
        {"tokens": TokenChoice(skip_first=2), "layers": (0, 2)},
    ),
    "sinks-mixed": (
        PoolerConfig(pooler="adapool", token_norm="rms"),
        TAU,
        {"tokens": TokenChoice(1, (None, SINK)), "layers": (0, 2)},
    ),
    "centred": (glot(gnn="gin"), GraphConfig(tau=0.1, graph_states="centred"), {}),
    "glot-0": (glot(num_layers=0), GraphConfig(graph="random"), {}),
    "glot-0-none": (
        glot(num_layers=0, jk="none", standardise=True, projection_dim=5),
        GraphConfig(learn_tau=True),
        {"layers": (0, 2)},
    ),
}


def test_the_cases_name_every_pooler_layer_and_rule():
    poolers = {name for name, pooler in POOLERS.items() if pooler.exportable}
    layers = {name for name, layer in GNN_LAYERS.items() if layer.exportable}
    assert {pooler.pooler for pooler, _, _ in CASES.values()} == poolers
    assert {pooler.gnn for pooler, _, _ in CASES.values()} == layers
    assert {graph.graph for _, graph, _ in CASES.values()} >= {
        "threshold",
        "knn",
        "window",
        "self",
        "complete",
    }


@pytest.mark.parametrize("case", CASES)
def test_the_module_computes_what_the_model_computes(case):
    pooler, graph, options = CASES[case]
    model = model_of(pooler, graph, **options)
    head = torch_head(settings_of(model, pooler), weights_of(model))
    assert head.width == model.pooler.pooled_dim
    assert json.loads(json.dumps(settings_of(model, pooler))) == settings_of(model, pooler)
    pool = by_jax(model)
    for side in ("right", "left"):
        hidden, mask = padded(model, (7, 4, 1, 0), side, fill=3.0)
        wanted = np.asarray(pool(hidden, mask))
        assert np.abs(wanted[:3]).max(axis=1).min() > 0
        # Padding may hold anything, and a text's vector does not hang on the others.
        hidden[~mask] = np.nan
        assert_close(by_torch(head, hidden, mask), wanted)
        assert not by_torch(head, hidden, mask)[3].any()
        for row in range(3):
            assert_close(by_torch(head, hidden[row : row + 1], mask[row : row + 1])[0], wanted[row])


PEERS: dict[str, Any] = {
    "first": "cls",
    "last": "lasttoken",
    "mean": "mean",
    "max": "max",
    "weighted-mean": "weightedmean",
    "mean-sqrt-len": "mean_sqrt_len_tokens",
}
"""Our pooler -> the mode of sentence-transformers' Pooling that computes the same."""


@pytest.mark.parametrize("name", PEERS)
def test_poolers_of_sentence_transformers_are_its_own(name):
    model = model_of(PoolerConfig(pooler=name), TAU)
    pool = by_jax(model)
    peer = Pooling(DIM, pooling_mode=PEERS[name])
    for side in ("right", "left"):
        hidden, mask = padded(model, (7, 4, 1), side, fill=3.0)
        features = {
            "token_embeddings": torch.from_numpy(hidden),
            "attention_mask": torch.from_numpy(mask).long(),
        }
        assert_close(np.asarray(pool(hidden, mask)), peer(features)["sentence_embedding"].numpy())


@pytest.mark.parametrize("head", ["none", "linear"])
@pytest.mark.parametrize("vectors", ["unit", "raw"])
def test_an_embedding_is_what_was_compared(head, vectors):
    spec = ModelSpec(DIM, (2,), False, "encoder", TASKS["embedding"])
    model = randomised(
        spec, PLAIN, TAU, ObjectiveConfig(embedding_head=head, embedding_vectors=vectors)
    )
    exported = torch_head(settings_of(model, PLAIN), weights_of(model))
    hidden, mask = padded(model, (7, 4, 1, 0), "right", fill=3.0)
    wanted = np.asarray(
        jax.jit(lambda hidden, mask: model.vectors(model.stem(hidden, mask)))(hidden, mask)
    )
    assert_close(by_torch(exported, hidden, mask), wanted)
    assert np.allclose(np.linalg.norm(wanted[:3], axis=1), 1, atol=1e-5) == (vectors == "unit")
    pooled = np.asarray(by_jax(model)(hidden, mask))
    assert np.allclose(pooled[:3], wanted[:3], atol=1e-3) == (head == "none" and vectors == "raw")


def test_unknown_names_are_listed():
    for settings, message in (
        ({"pooler": "men"}, "unknown pooler.*adapool"),
        ({"gnn": "gta"}, "unknown GNN layer.*gat"),
        ({"graph": "random"}, "unknown graph rule.*window"),
        ({"jk": "lstm"}, "unknown jumping"),
    ):
        with pytest.raises(ValueError, match=message):
            GlotHead(DIM, **settings)
    with pytest.raises(TypeError, match="hiden_dim"):
        GlotPooling(DIM, hiden_dim=8)
