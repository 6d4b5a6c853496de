"""Whether an export computes the vectors and the scores of its run.

States that can tell, and how near is near enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from glot_jax.errors import UsageError
from glot_jax.inference.answering import Answers
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.predictor import Predictor
from glot_jax.model import SentenceModel

CLOSE = 1e-5
"""Relative difference of two vectors of one text that is rounding; and, in cosine, how near to its
rule a pair decides about nothing.
"""
PADDED = 1e-4
"""The same where a text was computed beside longer ones (the backbone rounds differently then), and
in ONNX.
"""
VECTORS = "sentence_embedding"
"""Name of the vectors among the outputs of an export."""
FIX = "Export with the versions in constraints.txt."

_TRIES = 50
"""Draws of a text until no link of it hangs on rounding."""


def require_agreement(
    exported: np.ndarray,
    expected: np.ndarray,
    tolerance: float,
    noun: str = "vectors",
) -> float:
    """Largest difference of two arrays, relative to the largest entry.

    Args:
        exported: what was exported computes.
        expected: what the run computes.
        tolerance: the largest difference that is rounding.
        noun: what the arrays hold, for the message.

    Raises:
        UsageError: it is above the tolerance, or not a number.
    """
    # Not 0: vectors that are all zeros must be compared as well.
    largest = max(np.abs(expected).max(), 1e-30)
    gap = np.abs(exported - expected).max()
    difference = float(gap / largest)
    # Not `> tolerance`: a nan must not pass.
    if not difference <= tolerance:
        raise UsageError(
            rule=(
                f"an export must compute the {noun} of its run, to"
                f" {tolerance:g} of the largest entry"
            ),
            got=f"{difference:.2g}",
            fix=FIX,
        )
    return difference


def require_answers_agree(exported: Mapping[str, np.ndarray], expected: Answers) -> float:
    """Largest difference of exported scores to what `Predictor` answers, relative to the largest.

    Args:
        exported: outputs by their names in `glot_task.OUTPUTS`.
        expected: answers for the same rows.

    Raises:
        UsageError: they differ by more than rounding.
    """
    # Not the logits: a constant added to all of them changes nothing.
    if expected.shares is None:
        return require_agreement(exported["score"], expected.values, PADDED, "scores")
    return require_agreement(exported["probabilities"], expected.shares, PADDED, "probabilities")


def margin(model: SentenceModel, states: np.ndarray) -> float:
    """How far, in cosine, the closest pair of a text's tokens is from being linked otherwise.

    Args:
        model: whose graph rule links the tokens.
        states: [length, dim], or [length, layers, dim] where layers are mixed.
    """
    config = model.stem.config
    # In float64: the margin is to be told from the rounding of either side.
    weights = model.stem.layer_weights()
    if weights is None:
        mixed = states.astype(np.float64)
    else:
        shares = np.asarray(weights, np.float64)
        mixed = np.tensordot(shares, states, (0, 1))
    norms = np.linalg.norm(mixed, axis=1, keepdims=True)
    # The zero vector stays zero, and is linked to nothing.
    norms = np.maximum(norms, 1e-300)
    unit = mixed / norms
    cosine = unit @ unit.T
    # A token's link to itself does not hang on its cosine.
    others = ~np.eye(len(unit), dtype=bool)
    if config.graph == "threshold":
        distance = np.abs(cosine - _tau(model))
        nearest = np.min(distance, where=others, initial=np.inf)
        return float(nearest)
    k = config.k
    if config.graph == "knn" and k < len(unit):
        # A token is its own nearest neighbour, before all others: 2 is above every cosine.
        scores = np.where(others, cosine, 2)
        ranked = np.sort(scores, axis=1)[:, ::-1]
        # Between the last one that is linked and the first one that is not.
        gaps = ranked[:, k - 1] - ranked[:, k]
        return float(np.min(gaps))
    # The other rules go by positions, which nothing rounds.
    return np.inf


def _tau(model: SentenceModel) -> float:
    # Learned, it is an array of the stem; the settings then say where it began.
    tau = model.stem.tau
    if tau is None:
        return model.stem.config.tau
    return float(tau[...])


def random_texts(
    model: SentenceModel,
    batch: int,
    length: int,
) -> tuple[np.ndarray, np.ndarray]:
    """States [batch, length, (layers,) dim] float32 and a mask [batch, length] int64.

    Rows are full, of one token, empty, and others; padded on either side, with noise. Cosines lie
    on both sides of tau, and no link hangs on rounding.
    """
    stem = model.stem
    # Seeded by the shape: an export that fails once fails again, and can be looked at.
    rng = np.random.default_rng((batch, length))
    shape: tuple[int, ...] = (stem.dim,)
    if stem.layer_scores is not None:
        mixed = stem.layer_scores[...].size
        shape = (mixed, stem.dim)
    # Noise everywhere, padding included, which must reach nothing.
    hidden = rng.normal(size=(batch, length, *shape))
    hidden = hidden.astype(np.float32)
    mask = np.zeros((batch, length), np.int64)
    # Two vectors that share a part of weight w, and are random otherwise, have a cosine near
    # w^2 / (1 + w^2): this w puts it near tau.
    near = float(np.clip(_tau(model), 0.1, 0.9))
    weight = np.sqrt(near / (1 - near))
    for row in range(batch):
        if row < 3:
            count = (length, 1, 0)[row]
        else:
            count = int(rng.integers(1, length + 1))
        # Odd rows are padded on the right, even ones on the left.
        if row % 2:
            tokens = slice(count)
        else:
            tokens = slice(length - count, length)
        mask[row, tokens] = 1
        for _ in range(_TRIES):
            shared = rng.normal(size=shape)
            own = rng.normal(size=(count, *shape))
            hidden[row, tokens] = weight * shared + own
            if margin(model, hidden[row, tokens]) > CLOSE:
                break
    return hidden, mask


def random_rows(
    model: SentenceModel,
    batch: int,
    length: int,
    texts: int | None,
) -> tuple[np.ndarray, np.ndarray]:
    """`random_texts` with an axis of texts, [batch, texts, length, ...], unless it is None."""
    if texts is None:
        return random_texts(model, batch, length)
    hidden, mask = random_texts(model, batch * texts, length)
    hidden = hidden.reshape(batch, texts, *hidden.shape[1:])
    return hidden, mask.reshape(batch, texts, length)


def compare_on_states(
    program: Callable[[np.ndarray, np.ndarray], Mapping[str, np.ndarray]],
    encoder: SentenceEncoder,
    texts: int | None,
    shapes: Sequence[tuple[int, int]],
) -> dict[str, float]:
    """Largest relative differences of an exported program to its run, on random states.

    Args:
        program: (states, int64 mask) of `random_rows` -> outputs by name.
        encoder: of the run's model in float32; it needs no backbone.
        texts: texts of a row, where the inputs have an axis of them.
        shapes: (batch, length) of the states.

    Returns:
        `difference` of the vectors, and `difference_of_scores` where the program gives some.

    Raises:
        UsageError: a difference that is no rounding.
    """
    model = encoder.model
    # A text alone is a row of one.
    roles = texts or 1
    of_vectors = []
    of_scores = []
    for batch, length in shapes:
        hidden, mask = random_rows(model, batch, length, texts)
        outputs = program(hidden, mask)
        # [roles, batch, length, ...]: as a head reads rows.
        states = hidden.reshape(batch, roles, *hidden.shape[mask.ndim - 1 :]).swapaxes(0, 1)
        masks = mask.reshape(batch, roles, length).swapaxes(0, 1)
        # On an accelerator JAX would round float32 products to fewer bits.
        with jax.default_matmul_precision("highest"):
            pooled = np.stack(list(map(encoder.encode_states, states, masks)))
            vectors = pooled.swapaxes(0, 1).reshape(outputs[VECTORS].shape)
            of_vectors.append(require_agreement(outputs[VECTORS], vectors, PADDED))
            # By what answers for `glot predict`, from the vectors on.
            if len(outputs) > 1:
                answers = Predictor([encoder]).answer_vectors([pooled])
                of_scores.append(require_answers_agree(outputs, answers))
    differences = {"difference": max(of_vectors)}
    if of_scores:
        differences["difference_of_scores"] = max(of_scores)
    return differences
