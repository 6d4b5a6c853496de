"""Temperature scaling (Guo et al., ICML 2017, arXiv 1706.04599): one number for all logits."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from glot_jax.config.train import ObjectiveConfig
from glot_jax.errors import UsageError
from glot_jax.objectives.probabilities import Link
from glot_jax.texts.tasks import TaskSpec

BOUNDS = (0.05, 20.0)
"""Smallest and largest temperature.

Beyond them nothing is told: of rows that are all right the best temperature is 0, and of logits
that say nothing it is infinite.
"""


@runtime_checkable
class Calibrated(Protocol):
    """An objective whose logits can be divided by a temperature."""

    def temperature(self, outputs: np.ndarray, labels: np.ndarray) -> float:
        """The temperature of some rows.

        Args:
            outputs: [rows, classes] logits of the head.
            labels: of the same rows, as the feed has them.
        """
        ...


def require_calibrated(
    config: ObjectiveConfig, objective: object, task: TaskSpec, selected_on: str
) -> None:
    """Require probabilities, and a holdout to fit the temperature on, if `--calibrate` is given.

    Args:
        config: the settings.
        objective: of the task.
        task: the task.
        selected_on: the split that selects the best epoch.

    Raises:
        UsageError: there is none.
    """
    if not config.calibrate:
        return
    if not isinstance(objective, Calibrated):
        raise UsageError(
            rule="--calibrate needs a task with classes, whose probabilities it scales",
            got=f"task {task.name} with labels of kind {task.label_kind}",
            fix="Leave it out.",
        )
    if selected_on != "holdout":
        raise UsageError(
            rule="--calibrate fits the temperature on the holdout",
            got=f"--select-on {config.select_on}, which is {selected_on} here",
            fix="Give --select-on holdout.",
        )


def fit_temperature(logits: np.ndarray, truth: np.ndarray, link: Link) -> float:
    """The temperature T that makes the likelihood of the labels under `link(logits / T)` largest.

    The negative log-likelihood is convex in 1 / T: its slope is zero at one place at most, which is
    found by Brent's method.

    Args:
        logits: [rows, classes], at least one row.
        truth: [rows, classes], 1 for every class of a row and 0 for the others.
        link: softmax, or sigmoid.

    Returns:
        T within `BOUNDS`; 1 where all logits are 0, and any T is as good.
    """
    # Slopes near the best T are differences of nearly equal sums.
    scores = logits.astype(np.float64)
    target = truth.astype(np.float64)
    # The same whatever they are divided by.
    if not scores.any():
        return 1.0

    def slope(inverse: float) -> float:
        # Of softmax and of sigmoid alike: what is expected of the logits less what is there.
        surplus = (link(inverse * scores) - target) * scores
        return float(surplus.sum(axis=1).mean())

    coldest, hottest = BOUNDS
    # The slope grows with 1 / T: without a change of sign the best T lies beyond a bound.
    if slope(1 / hottest) >= 0:
        return hottest
    if slope(1 / coldest) <= 0:
        return coldest
    from scipy import optimize

    inverse: Any = optimize.brentq(slope, 1 / hottest, 1 / coldest, xtol=1e-10)
    # Six digits, so that what is printed is what is used.
    return round(1 / float(inverse), 6)
