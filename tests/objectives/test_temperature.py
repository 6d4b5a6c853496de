"""Temperatures: found again where they are known, bounded where nothing tells them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize
from support.synthetic_stores import CLASSES, LABELS, SCORE

from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError
from glot_jax.objectives.classes import Classes
from glot_jax.objectives.multilabel import MultiLabel
from glot_jax.objectives.probabilities import nll, sigmoid, softmax
from glot_jax.objectives.scores import Scores
from glot_jax.objectives.temperature import BOUNDS, fit_temperature, require_calibrated

CALIBRATE = ObjectiveConfig(calibrate=True)
OBJECTIVES = {
    "classes": Classes(CLASSES, CALIBRATE),
    "multilabel": MultiLabel(LABELS, CALIBRATE),
}


def drawn(kind, rows=20_000):
    """Logits, and labels drawn with the very probabilities that they say."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(rows, 3)) * 2
    if kind == "multilabel":
        return logits, (rng.random((rows, 3)) < sigmoid(logits)).astype(np.uint8)
    edges = softmax(logits).cumsum(axis=1)
    return logits, (rng.random((rows, 1)) > edges).sum(axis=1)


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_the_temperature_of_scaled_logits_is_their_scale(kind, scale):
    logits, labels = drawn(kind)
    temperature = OBJECTIVES[kind].temperature(scale * logits, labels)
    assert temperature == pytest.approx(scale, rel=0.03)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_no_other_temperature_is_likelier(kind):
    logits, labels = drawn(kind, 200)
    objective = OBJECTIVES[kind]
    temperature = objective.temperature(logits, labels)
    searched = optimize.minimize_scalar(
        lambda t: nll(logits, labels, objective.task, t), bounds=BOUNDS, method="bounded"
    )
    assert temperature == pytest.approx(searched.x, rel=1e-3)  # type: ignore[attr-defined]
    best = nll(logits, labels, objective.task, temperature)
    assert best <= nll(logits, labels, objective.task)
    for other in (0.9 * temperature, 1.1 * temperature):
        assert best < nll(logits, labels, objective.task, other)


@pytest.mark.parametrize("link", [softmax, sigmoid])
def test_where_nothing_tells_it_it_is_at_its_bound(link):
    truth = np.eye(3)[[0, 1, 2, 0]]
    right = 2 * truth - 1
    assert fit_temperature(right, truth, link) == BOUNDS[0]
    assert fit_temperature(-right, truth, link) == BOUNDS[1]
    assert fit_temperature(0 * right, truth, link) == 1


def test_a_temperature_needs_probabilities_and_a_holdout():
    classes = OBJECTIVES["classes"]
    require_calibrated(CALIBRATE, classes, CLASSES, "holdout")
    require_calibrated(ObjectiveConfig(), classes, CLASSES, "last")
    with pytest.raises(UsageError, match=r"on the holdout; got --select-on auto.*validation here"):
        require_calibrated(CALIBRATE, classes, CLASSES, "validation")
    with pytest.raises(UsageError, match="needs a task with classes"):
        require_calibrated(CALIBRATE, Scores(SCORE, CALIBRATE), SCORE, "holdout")
    for name in ("last", "validation"):
        with pytest.raises(UsageError, match="on the holdout"):
            ObjectiveConfig(calibrate=True, select_on=name)
