"""InfoNCE against a plain one in float64.

It is symmetric, blind to order and to repeats, and finite where vectors vanish.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError
from glot_jax.objectives import losses
from glot_jax.objectives.heads import EmbeddingHead
from glot_jax.objectives.losses import info_nce


def plain_info_nce(outputs: np.ndarray, texts: np.ndarray) -> list[float]:
    """The definition, text by text, in Python floats.

    outputs [batch, batch * (slots - 1)], texts [batch, slots].
    """
    batch = len(texts)
    query, positive, candidates = texts[:, 0], texts[:, 1], texts[:, 1:].T.reshape(-1)

    def one_way(row, anchors, partners, others, score):
        wanted = {int(partners[k]) for k in range(batch) if anchors[k] == anchors[row]} | {
            int(anchors[row])
        }
        negatives = {
            int(text): score(row, place)
            for place, text in reversed(list(enumerate(others)))
            if text >= 0 and int(text) not in wanted
        }
        own = float(outputs[row, row])
        return (
            math.log(math.exp(own) + sum(math.exp(float(value)) for value in negatives.values()))
            - own
        )

    forward = [
        one_way(row, query, positive, candidates, lambda i, c: outputs[i, c])
        for row in range(batch)
    ]
    backward = [
        one_way(row, positive, query, query, lambda i, c: outputs[c, i]) for row in range(batch)
    ]
    return [(a + b) / 2 for a, b in zip(forward, backward, strict=True)]


def similarities(vectors: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Equal texts have equal vectors; -1 is the zero vector."""
    of = np.concatenate([vectors, np.zeros((1, vectors.shape[1]))])[texts]
    return of[:, 0] @ of[:, 1:].transpose(1, 0, 2).reshape(-1, vectors.shape[1]).T / 0.5


def loss_of(vectors: np.ndarray, texts: np.ndarray) -> np.ndarray:
    return np.asarray(
        info_nce(
            jnp.asarray(similarities(vectors, texts), jnp.float32), jnp.asarray(texts, jnp.int32)
        )
    )


@pytest.mark.parametrize("slots", [2, 3, 4])
@pytest.mark.parametrize("texts_there_are", [100, 9, 4])
def test_the_loss_is_the_plain_one(slots, texts_there_are):
    rng = np.random.default_rng(slots)
    for _ in range(5):
        # Few texts: the same ones meet as queries, positives and negatives in every way there is.
        texts = rng.integers(0, texts_there_are, (7, slots))
        texts[:, 2:][rng.random((7, slots - 2)) < 0.3] = -1
        vectors = rng.normal(size=(texts_there_are, 5))
        np.testing.assert_allclose(
            loss_of(vectors, texts),
            plain_info_nce(similarities(vectors, texts), texts),
            rtol=2e-5,
            atol=2e-6,
        )


def test_without_repeats_it_is_cross_entropy_both_ways():
    rng = np.random.default_rng(0)
    texts, vectors = np.arange(12).reshape(6, 2), rng.normal(size=(12, 4))
    outputs = similarities(vectors, texts)
    both = [np.log(np.exp(of).sum(axis=1)) - np.diag(of) for of in (outputs, outputs.T)]
    np.testing.assert_allclose(loss_of(vectors, texts), np.mean(both, axis=0), rtol=1e-5)


def test_it_is_symmetric_and_blind_to_the_order_of_rows():
    rng = np.random.default_rng(1)
    texts, vectors = rng.integers(0, 12, (8, 3)), rng.normal(size=(12, 4))
    loss, order = loss_of(vectors, texts), rng.permutation(8)
    np.testing.assert_allclose(loss_of(vectors, texts[order]), loss[order], rtol=1e-5, atol=1e-6)
    pairs = texts[:, :2]
    np.testing.assert_allclose(
        loss_of(vectors, pairs[:, ::-1]), loss_of(vectors, pairs), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("again", [(0, 6, 12), (3, 9, 13)], ids=["a row", "another row"])
def test_a_row_that_stands_there_twice_changes_nothing(again):
    rng = np.random.default_rng(2)
    texts, vectors = np.arange(18).reshape(3, 6).T, rng.normal(size=(18, 4))
    longer = np.concatenate([texts, [again]])
    np.testing.assert_allclose(loss_of(vectors, longer)[:6], loss_of(vectors, texts), rtol=1e-5)


def test_what_is_known_to_be_relevant_is_no_negative():
    vectors = np.random.default_rng(3).normal(size=(9, 4))
    same_query = np.array([[0, 1], [0, 2]])
    # Neither positive is a negative of the one query; going back each has only its own query.
    np.testing.assert_allclose(loss_of(vectors, same_query), 0, atol=1e-6)
    same_positive, own_text = np.array([[0, 1], [2, 1]]), np.array([[0, 1], [2, 0]])
    np.testing.assert_allclose(loss_of(vectors, same_positive), 0, atol=1e-6)
    assert loss_of(vectors, own_text)[0] != 0  # text 2 asks: it is a negative of positive 1
    np.testing.assert_allclose(
        loss_of(vectors, own_text),
        plain_info_nce(similarities(vectors, own_text), own_text),
        atol=1e-6,
    )


def head(**options) -> EmbeddingHead:
    return EmbeddingHead(6, 3, ObjectiveConfig(**options), rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    "options", [{}, {"embedding_vectors": "raw"}, {"embedding_head": "linear"}]
)
def test_gradients_are_finite_at_zero_vectors(options):
    texts = jnp.array([[0, 1, -1], [2, 3, 4], [-1, -1, -1], [5, 1, 4]])
    graphdef, params, rest = nnx.split(head(**options), nnx.Param, ...)

    def total(params, pooled):
        return info_nce(nnx.merge(graphdef, params, rest)(pooled), texts).sum()

    for pooled in (
        jnp.zeros((3, 4, 6)),
        jnp.ones((3, 4, 6)),
        jax.random.normal(jax.random.key(0), (3, 4, 6)) * 1e3,
    ):
        value, gradients = jax.value_and_grad(total, argnums=(0, 1))(params, pooled)
        assert all(np.isfinite(leaf).all() for leaf in [value, *jax.tree.leaves(gradients)])


def test_the_step_has_no_scatter():
    texts = jnp.arange(12, dtype=jnp.int32).reshape(4, 3)
    model = head()
    text = str(
        jax.make_jaxpr(jax.grad(lambda pooled: info_nce(model(pooled), texts).sum()))(
            jnp.ones((3, 4, 6))
        )
    )
    assert "scatter" not in text
    assert "gather" not in text


def test_vectors_are_of_unit_length_or_raw_and_the_temperature_divides():
    pooled = jax.random.normal(jax.random.key(1), (3, 4, 6))
    unit, raw = (
        np.asarray(head().vectors(pooled)),
        np.asarray(head(embedding_vectors="raw").vectors(pooled)),
    )
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1, rtol=1e-6)
    np.testing.assert_array_equal(raw, pooled)
    outputs = np.asarray(head(loss_temperature=0.5)(pooled))
    assert outputs.shape == (4, 8)
    np.testing.assert_allclose(outputs[2, 5], unit[0, 2] @ unit[2, 1] / 0.5, rtol=1e-5)
    refused: list[dict[str, Any]] = [
        {"loss_temperature": 0.0},
        {"hard_negatives": -1},
        {"embedding_vectors": "short"},
    ]
    for wrong in refused:
        with pytest.raises(UsageError):
            ObjectiveConfig(**wrong)


def test_repeats_are_the_same_compared_and_sorted(monkeypatch):
    """Large batches sort their texts, where a mask of all pairs would not fit."""
    rng = np.random.default_rng(3)
    texts = jnp.asarray(rng.integers(-1, 30, (40, 3)), jnp.int32)
    outputs = jnp.asarray(rng.normal(size=(40, 80)), jnp.float32)
    compared = np.asarray(info_nce(outputs, texts))
    monkeypatch.setattr(losses, "_COMPARED", 8)
    assert np.asarray(info_nce(outputs, texts)).tobytes() == compared.tobytes()
