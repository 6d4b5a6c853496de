"""Linear and logistic regression on a few standardised features.

They are those of scikit-learn, with the same penalty and solver, and give its predictions. With
pandas and SciPy's statistics, scikit-learn takes seconds to load: longer than most heads to train.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Shaped

_GRADIENT = 1e-4
"""Largest entry of the mean loss's gradient at which a fit ends, as in scikit-learn."""


@dataclasses.dataclass(frozen=True)
class Scaling:
    """What brings features to mean 0 and standard deviation 1."""

    mean: Float[np.ndarray, " features"]
    deviation: Float[np.ndarray, " features"]
    """1 for a feature that is the same in all rows."""

    @classmethod
    def of(cls, features: Float[np.ndarray, "rows features"]) -> Scaling:
        """The scaling of some rows."""
        rows = len(features)
        mean = features.mean(axis=0)
        variance = features.var(axis=0)
        # What rounding leaves of a feature that is the same everywhere is no deviation.
        epsilon = np.finfo(np.float64).eps
        rounding = rows * epsilon * variance + (rows * epsilon * mean) ** 2
        deviation = np.where(variance <= rounding, 1.0, np.sqrt(variance))
        return cls(mean, deviation)

    def __call__(self, features: Float[np.ndarray, "rows features"]) -> np.ndarray:
        """Features of other rows, and a column of ones that intercepts belong to."""
        scaled = (features - self.mean) / self.deviation
        return np.concatenate([scaled, np.ones((len(features), 1))], axis=1)


@dataclasses.dataclass(frozen=True)
class Linear:
    """Least squares."""

    scaling: Scaling
    weights: Float[np.ndarray, " inputs"]

    @classmethod
    def fit(cls, features: np.ndarray, scores: np.ndarray) -> Linear:
        """Fit scores [rows] to features [rows, features]."""
        scaling = Scaling.of(features)
        # Of all that fit equally well, the smallest: a feature may be the same in all rows.
        weights, *_ = np.linalg.lstsq(scaling(features), scores.astype(np.float64), rcond=None)
        return cls(scaling, weights)

    def predict(self, features: np.ndarray) -> Float[np.ndarray, " rows"]:
        """Scores of other rows."""
        return self.scaling(features) @ self.weights


@dataclasses.dataclass(frozen=True)
class Logistic:
    """Logistic regression with an L2 penalty of strength 1 on all weights but the intercepts."""

    scaling: Scaling
    classes: Shaped[np.ndarray, " classes"]
    """Those that occurred, ascending; two or more."""
    weights: Float[np.ndarray, "outputs inputs"]
    """One output for two classes, the logit of the second; else one for each."""

    @classmethod
    def fit(cls, features: np.ndarray, labels: np.ndarray) -> Logistic:
        """Fit labels [rows] of two or more kinds to features [rows, features]."""
        # Where training is over: a step waits for no SciPy.
        from scipy import optimize

        scaling = Scaling.of(features)
        inputs = scaling(features)
        classes, numbers = np.unique(labels, return_inverse=True)
        outputs = 1 if len(classes) == 2 else len(classes)
        loss = functools.partial(
            _loss,
            inputs=inputs,
            numbers=numbers,
            outputs=outputs,
        )
        epsilon = np.finfo(np.float64).eps
        solution = optimize.minimize(
            loss,
            np.zeros(outputs * inputs.shape[1]),
            method="L-BFGS-B",
            jac=True,
            options={
                "maxiter": 1000,
                "maxls": 50,
                "gtol": _GRADIENT,
                "ftol": 64 * epsilon,
            },
        )
        return cls(scaling, classes, solution.x.reshape(outputs, -1))

    def logits(self, features: np.ndarray) -> Float[np.ndarray, "rows outputs"]:
        """Logits of other rows."""
        return self.scaling(features) @ self.weights.T

    def predict(self, features: np.ndarray) -> Shaped[np.ndarray, " rows"]:
        """The likeliest class of other rows."""
        logits = self.logits(features)
        if logits.shape[1] == 1:
            return self.classes[(logits[:, 0] > 0).astype(int)]
        return self.classes[logits.argmax(axis=1)]


def _loss(
    flat: np.ndarray,
    *,
    inputs: np.ndarray,
    numbers: np.ndarray,
    outputs: int,
) -> tuple[float, np.ndarray]:
    """The mean loss with its penalty, and its gradient by the weights."""
    rows = len(inputs)
    weights = flat.reshape(outputs, -1)
    logits = inputs @ weights.T
    if outputs == 1:
        # Two classes are a softmax over logits of which the first is 0.
        logits = np.concatenate([np.zeros((rows, 1)), logits], axis=1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    sums = exponentials.sum(axis=1)
    index = np.arange(rows)
    loss = float(np.mean(np.log(sums) - shifted[index, numbers]))
    # By the logits: the probabilities, less 1 at the class of the row.
    slopes = exponentials / sums[:, None]
    slopes[index, numbers] -= 1
    gradient = slopes[:, -outputs:].T @ inputs / rows
    penalised = weights.copy()
    penalised[:, -1] = 0
    loss += float(np.sum(penalised**2)) / (2 * rows)
    return loss, (gradient + penalised / rows).ravel()
