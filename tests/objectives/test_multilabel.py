"""One sigmoid a class: its loss, its metrics, its baselines."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight
from support.synthetic_stores import LABELS

from glot_jax.config.train import ObjectiveConfig
from glot_jax.objectives.baselines import multilabel_baselines
from glot_jax.objectives.losses import binary_cross_entropy
from glot_jax.objectives.metrics import METRICS, Outputs, accuracy
from glot_jax.objectives.multilabel import MultiLabel, PairMultiLabel

NAMES = LABELS.metrics


@dataclasses.dataclass(frozen=True)
class Rows:
    """As much of a feed as the baselines of rows read."""

    planned_lengths: np.ndarray
    planned_labels: np.ndarray


@pytest.fixture(scope="module")
def drawn():
    """Logits and labels of 200 rows and 5 classes, of which one never occurs."""
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 5)) < [0.5, 0.2, 0.1, 0.4, 0]).astype(np.uint8)
    logits = rng.normal(size=(200, 5)).astype(np.float32) + labels - 0.5
    # Equal logits share their rank.
    logits[::3] = np.round(logits[::3])
    return logits, labels


@pytest.mark.filterwarnings("ignore:No positive class found")
def test_metrics_are_scikit_learns(drawn):
    logits, labels = drawn
    guessed = (logits > 0).astype(int)
    for average in ("micro", "macro"):
        expected = sk.f1_score(labels, guessed, average=average, zero_division=0.0)  # type: ignore[arg-type]
        assert METRICS[f"f1_{average}"](logits, labels) == pytest.approx(expected)
    expected = sk.average_precision_score(labels, logits, average="macro")
    assert METRICS["average_precision"](logits, labels) == pytest.approx(expected)


def test_with_one_class_a_row_micro_f1_is_accuracy():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 100)
    guessed = rng.integers(0, 4, 100)
    logits = np.where(np.eye(4)[guessed] > 0, 1.5, -0.5)
    score = METRICS["f1_micro"](logits, np.eye(4, dtype=np.uint8)[labels])
    assert score == pytest.approx(accuracy(guessed, labels))
    assert score == pytest.approx(sk.f1_score(labels, guessed, average="micro"))


@pytest.mark.parametrize("name", NAMES)
def test_metrics_know_no_order_of_classes_or_rows(drawn, name):
    logits, labels = drawn
    order = np.random.default_rng(2).permutation(5)
    rows = np.random.default_rng(3).permutation(200)
    assert METRICS[name](logits[:, order], labels[:, order]) == pytest.approx(
        METRICS[name](logits, labels)
    )
    assert METRICS[name](logits[rows], labels[rows]) == pytest.approx(METRICS[name](logits, labels))


def test_where_nothing_is_there_and_nothing_is_predicted_scores_are_zero():
    nothing = np.zeros((3, 2), np.uint8)
    for name in NAMES:
        assert METRICS[name](np.full((3, 2), -1.0), nothing) == 0


def test_the_loss_is_scikit_learns_class_by_class(drawn):
    logits, labels = drawn
    losses = np.asarray(binary_cross_entropy(jnp.asarray(logits), jnp.asarray(labels)))
    shares = 1 / (1 + np.exp(-logits.astype(np.float64)))
    columns = range(labels.shape[1])
    by_class = [sk.log_loss(labels[:, n], shares[:, n], labels=[0, 1]) for n in columns]
    assert losses.mean() == pytest.approx(np.mean(by_class), rel=1e-5)
    ones = (1.0,) * labels.shape[1]
    np.testing.assert_array_equal(
        binary_cross_entropy(jnp.asarray(logits), jnp.asarray(labels), ones), losses
    )


def test_balanced_weights_make_both_sides_of_a_class_count_alike(drawn):
    _, labels = drawn
    task = dataclasses.replace(LABELS, classes=tuple("abcde"))
    weights = MultiLabel(task, ObjectiveConfig()).balanced_weights(labels)
    for index in range(4):
        both = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels[:, index])
        assert weights[index] == pytest.approx(both[1] / both[0])
    # The class that never occurs.
    assert weights[4] == 1
    logits = jnp.zeros((len(labels), 5))
    weighed = np.asarray(binary_cross_entropy(logits, jnp.asarray(labels), tuple(weights)))
    having = labels[:, 0] > 0
    only = np.asarray(
        binary_cross_entropy(logits[:, :1], jnp.asarray(labels[:, :1]), (weights[0],))
    )
    assert only[having].sum() == pytest.approx(only[~having].sum(), rel=1e-5)
    assert weighed.shape == (200,)


def test_predictions_are_logits_in_the_order_of_the_store():
    values = np.array([[1, -1, 2], [-3, 3, 1]], np.float32)
    outputs = Outputs(values, np.array([1, 0]), np.array([1, 3], np.float32))
    feed = SimpleNamespace(labels=np.array([[0, 1, 1], [1, 0, 0]], np.uint8))
    scores, predictions = MultiLabel(LABELS, ObjectiveConfig()).judge(feed, outputs)
    np.testing.assert_array_equal(predictions.predictions, values[::-1])
    np.testing.assert_array_equal(predictions.labels, feed.labels)
    assert list(scores) == [*NAMES, "loss"]
    assert scores["f1_micro"] == pytest.approx(2 * 3 / (4 + 3))
    assert scores["loss"] == 2


def test_always_the_same_answer_is_the_classes_of_most_rows():
    rng = np.random.default_rng(4)
    train = (rng.random((100, 3)) < [0.8, 0.3, 0]).astype(np.uint8)
    split = (rng.random((50, 3)) < [0.8, 0.3, 0.1]).astype(np.uint8)
    lengths = rng.integers(1, 9, (100, 1))

    def rows(labels):
        return Rows(lengths[: len(labels)], labels)

    majority = multilabel_baselines(rows(train), rows(split), LABELS)["majority"]
    always = np.zeros_like(split)
    always[:, 0] = 1
    expected = sk.f1_score(split, always, average="micro")
    assert majority["f1_micro"] == pytest.approx(expected)
    # A constant ranks nothing: the share of the rows.
    assert majority["average_precision"] == pytest.approx(split.mean(axis=0).mean())
    rare = multilabel_baselines(rows(train[:, 1:]), rows(split[:, 1:]), LABELS)["majority"]
    assert rare["f1_micro"] == rare["f1_macro"] == 0


def test_lengths_that_tell_a_class_are_found():
    lengths = np.repeat([2, 30], 20)[:, None]
    labels = np.stack([lengths[:, 0] > 10, np.ones(40), np.zeros(40)], axis=1).astype(np.uint8)
    rows = Rows(lengths, labels)
    assert multilabel_baselines(rows, rows, LABELS)["length"]["f1_micro"] == 1


def test_pairs_read_how_their_vectors_are_combined():
    assert PairMultiLabel.reads - MultiLabel.reads == {"pair_features"}
