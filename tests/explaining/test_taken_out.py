"""`MaskedPooling`: a token that is taken out leaves the text as if it had never been there."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

from glot_jax.batches.token_choice import TokenChoice
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig
from glot_jax.explaining.taken_out import MaskedPooling
from glot_jax.graphs import token_graph
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.texts.tasks import TaskSpec, roles_of

DIM = 6
TASK = TaskSpec(
    name="custom",
    text_columns=("text",),
    label_column="label",
    roles=roles_of(1),
    label_kind="classes",
    classes=("a", "b"),
)
POOLERS = {
    "mean": PoolerConfig(pooler="mean"),
    "adapool": PoolerConfig(pooler="adapool"),
    "mlp": PoolerConfig(pooler="mlp", hidden_dim=8),
    "gat": PoolerConfig(pooler="glot", gnn="gat", hidden_dim=8),
    "gin": PoolerConfig(pooler="glot", gnn="gin", hidden_dim=8),
}


def encoder(pooler: str, *, layers: int = 1, tokens: TokenChoice | None = None) -> SentenceEncoder:
    spec = ModelSpec(
        dim=DIM,
        layers=tuple(range(layers)),
        mixed=layers > 1,
        kind="encoder",
        task=TASK,
        tokens=tokens or TokenChoice(),
    )
    model = SentenceModel(
        spec,
        graph=GraphConfig(tau=0.1),
        pooler=POOLERS[pooler],
        objective=ObjectiveConfig(),
        rngs=nnx.Rngs(0),
    )
    return SentenceEncoder(model, None, spec.layers)


def states(count: int, layers: int = 1, seed: int = 0) -> np.ndarray:
    shape = (count, DIM) if layers == 1 else (count, layers, DIM)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("pooler", POOLERS)
def test_a_token_taken_out_is_a_text_without_it(pooler, layers):
    hidden = states(9, layers)
    whole = encoder(pooler, layers=layers)
    vectors = MaskedPooling(whole).vectors(hidden, ~np.eye(9, dtype=bool))
    for token in range(9):
        shorter = np.delete(hidden, token, axis=0)
        expected = whole.encode_states(shorter[None], np.ones((1, 8), bool))
        np.testing.assert_allclose(vectors[token], expected[0], atol=2e-6)


def test_batches_of_masks_meet():
    """More masks than a batch holds, the last of them alone."""
    hidden = states(40)
    masks = np.random.default_rng(1).random((65, 40)) < 0.5
    pooling = MaskedPooling(encoder("gat"))
    together = pooling.vectors(hidden, masks)
    for number in (0, 31, 32, 64):
        alone = pooling.vectors(hidden, masks[number : number + 1])
        np.testing.assert_allclose(together[number], alone[0], atol=2e-6)


def test_no_token_left_is_a_vector_of_zeros():
    pooling = MaskedPooling(encoder("gat"))
    masks = np.array([[False, False], [True, True]])
    vectors = pooling.vectors(states(2), masks)
    assert not vectors[0].any()
    assert vectors[1].any()


def test_what_the_model_leaves_out_is_not_left_out_again():
    """The caller has chosen: the first of the tokens that it gives is not skipped."""
    hidden = states(5)
    skipping = MaskedPooling(encoder("mean", tokens=TokenChoice(skip_first=1)))
    vectors = skipping.vectors(hidden, np.ones((1, 5), bool))
    np.testing.assert_allclose(vectors[0], hidden.mean(axis=0), atol=1e-6)


def test_links_and_weights_are_those_of_the_graph():
    hidden = states(7)
    whole = encoder("gat")
    inside = MaskedPooling(whole).look(hidden)
    graph = token_graph(hidden[None], np.ones((1, 7), bool), tau=0.1)
    np.testing.assert_array_equal(inside.links.sum(axis=1), np.asarray(graph.degree())[0, :, 0])
    unit = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    expected = (unit @ unit.T > 0.1) | np.eye(7, dtype=bool)
    np.testing.assert_array_equal(inside.links, expected)
    np.testing.assert_allclose(inside.weights.sum(), 1, atol=1e-6)
    np.testing.assert_array_equal(inside.compared, hidden)


def test_texts_of_similar_length_share_a_program():
    pooling = MaskedPooling(encoder("gat"))
    for count in (9, 12, 16):
        pooling.vectors(states(count), ~np.eye(count, dtype=bool))
    assert pooling.compilations == 1
