"""Whether an export computes the vectors of its run.

States that can tell, and how near is near enough.
"""

from __future__ import annotations

import numpy as np

from glot_jax.errors import UsageError
from glot_jax.model import SentenceModel

CLOSE = 1e-5
"""Relative difference of two vectors of one text that is rounding; and, in cosine, how near to its
rule a pair decides about nothing.
"""
PADDED = 1e-4
"""The same where a text was computed beside longer ones (the backbone rounds differently then), and
in ONNX.
"""
FIX = "Export with the versions in constraints.txt."

_TRIES = 50
"""Draws of a text until no link of it hangs on rounding."""


def require_agreement(exported: np.ndarray, expected: np.ndarray, tolerance: float) -> float:
    """Largest difference of two arrays of vectors, relative to the largest entry.

    Raises:
        UsageError: it is above the tolerance, or not a number.
    """
    largest = max(np.abs(expected).max(), 1e-30)
    difference = float(np.abs(exported - expected).max() / largest)
    # Not `> tolerance`: a nan must not pass.
    if not difference <= tolerance:
        raise UsageError(
            rule=(
                "an export must compute the vectors of its run, to"
                f" {tolerance:g} of the largest entry"
            ),
            got=f"{difference:.2g}",
            fix=FIX,
        )
    return difference


def margin(model: SentenceModel, states: np.ndarray) -> float:
    """How far, in cosine, the closest pair of a text's tokens is from being linked otherwise.

    Args:
        model: whose graph rule links the tokens.
        states: [length, dim], or [length, layers, dim] where layers are mixed.
    """
    config = model.stem.config
    weights = model.stem.layer_weights()
    if weights is None:
        mixed = states.astype(np.float64)
    else:
        mixed = np.tensordot(np.asarray(weights, np.float64), states, (0, 1))
    unit = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-300)
    cosine = unit @ unit.T
    others = ~np.eye(len(unit), dtype=bool)
    if config.graph == "threshold":
        distance = np.abs(cosine - _tau(model))
        return float(np.min(distance, where=others, initial=np.inf))
    if config.graph == "knn" and config.k < len(unit):
        # A token is its own nearest neighbour, before all others.
        ranked = np.sort(np.where(others, cosine, 2), axis=1)[:, ::-1]
        return float(np.min(ranked[:, config.k - 1] - ranked[:, config.k]))
    return np.inf


def _tau(model: SentenceModel) -> float:
    tau = model.stem.tau
    return model.stem.config.tau if tau is None else float(tau[...])


def random_texts(model: SentenceModel, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """States [batch, length, (layers,) dim] float32 and a mask [batch, length] int64.

    Rows are full, of one token, empty, and others; padded on either side, with noise. Cosines lie
    on both sides of tau, and no link hangs on rounding.
    """
    stem = model.stem
    rng = np.random.default_rng((batch, length))
    layers = () if stem.layer_scores is None else stem.layer_scores[...].shape
    shape = (*layers, stem.dim)
    hidden = rng.normal(size=(batch, length, *shape)).astype(np.float32)
    mask = np.zeros((batch, length), np.int64)
    # Two vectors that share a part of weight w, and are random otherwise, have a cosine near
    # w^2 / (1 + w^2): this w puts it near tau.
    near = float(np.clip(_tau(model), 0.1, 0.9))
    weight = np.sqrt(near / (1 - near))
    for row in range(batch):
        count = (length, 1, 0)[row] if row < 3 else int(rng.integers(1, length + 1))
        tokens = slice(count) if row % 2 else slice(length - count, length)
        mask[row, tokens] = 1
        for _ in range(_TRIES):
            shared = rng.normal(size=shape)
            hidden[row, tokens] = weight * shared + rng.normal(size=(count, *shape))
            if margin(model, hidden[row, tokens]) > CLOSE:
                break
    return hidden, mask
