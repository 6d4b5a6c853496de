"""What can be told after the last step."""

from __future__ import annotations

import dataclasses

import pytest

from glot_jax.health import below_linear, grown_loss, not_learned
from glot_jax.health.learning import Ending

HEALTHY = Ending(
    metric="spearman",
    score=0.8,
    constant_score=0.0,
    split="validation",
    rows=300,
    epochs=4,
    first_loss=0.1,
    loss=0.03,
    constant_loss=0.09,
)


def ending(**changes) -> Ending:
    return dataclasses.replace(HEALTHY, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        # SmolLM2's layer 15 with its sinks: the score is no accident, the loss says what happened.
        {"score": 0.21, "loss": 0.0901},
        {"score": 0.028, "loss": 0.089},
        {"score": -0.1, "loss": 0.01},
        {"metric": "accuracy", "score": 0.69, "constant_score": 0.69, "loss": 0.05},
        # Within a standard error, .027 of 300 rows, and hardly any better by its loss.
        {"metric": "accuracy", "score": 0.70, "constant_score": 0.69, "loss": 0.087},
        {"score": 0.0, "constant_loss": None},
    ],
)
def test_a_head_that_ends_no_better_than_a_constant_is_named(changes):
    (found,) = not_learned(ending(**changes))
    assert found.name == "not-learned"
    assert f"{changes['score']:.3f} on validation" in found.text


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # The first epoch's mean holds the first steps.
        {"epochs": 1, "loss": 0.2},
        {"score": 0.1, "loss": 0.087},
        {"metric": "accuracy", "score": 0.73, "constant_score": 0.69, "loss": 0.088},
        {"score": 0.1, "constant_loss": None},
    ],
)
def test_a_head_that_has_learned_is_not(changes):
    assert not_learned(ending(**changes)) == []


def test_a_loss_that_does_not_fall_is_named():
    (found,) = not_learned(ending(first_loss=0.03))
    assert "0.03 in the first epoch and 0.03 in the last" in found.text
    assert not_learned(ending(first_loss=0.03, epochs=1)) == []


def test_a_loss_that_grows_a_thousandfold_is_named():
    assert grown_loss([0.7, 0.1, 0.2, 90.0]) == []
    (found,) = grown_loss([0.7, 0.1, 0.2, 101.0, 0.1])
    assert "from 0.1 to 101 (line 4" in found.text
    # Rounding of a loss of nothing.
    assert grown_loss([0.7, 1e-12, 1e-4]) == []
    assert grown_loss([]) == []


def test_a_head_below_a_linear_one_is_named():
    assert below_linear("accuracy", 0.8, 0.8, "validation") == []
    (found,) = below_linear("accuracy", 0.79, 0.8, "validation")
    assert "accuracy 0.790 on validation, and 0.800 by logistic regression" in found.text
