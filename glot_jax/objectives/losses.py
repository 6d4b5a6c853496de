"""Losses per row, float32.

| loss | outputs | labels |
|---|---|---|
| cross_entropy | logits [batch, classes] | class index [batch] |
| binary_cross_entropy | logits [batch, classes] | 1 for each class of a row [batch, classes] |
| squared_error | prediction [batch, 1] | score [batch] |
| info_nce | similarities by temperature [batch, batch * (slots - 1)] | texts [batch, slots] |

Labels of `squared_error` are mapped to [0, 1] by `label_range`. `info_nce` is `cross_entropy` over
the batch's own texts, both ways, less what is no negative.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, Shaped

from glot_jax.graphs.axes import match_rank


def cross_entropy(
    outputs: Float[Array, "batch classes"],
    labels: Shaped[Array, " batch"],
    weights: Sequence[float] = (),
) -> Float[Array, " batch"]:
    """Softmax cross-entropy, times the weight of the row's class.

    One-hot labels: optax's integer-label loss puts a scatter into the gradient.

    Args:
        outputs: logits.
        labels: class indices.
        weights: of the classes; none: all are 1.
    """
    # Labels of rows that only fill a batch are class 0; their loss is masked by the caller.
    classes = outputs.shape[-1]
    targets = jax.nn.one_hot(
        labels,
        classes,
        dtype=outputs.dtype,
    )
    log_shares = jax.nn.log_softmax(outputs)
    if weights:
        # A label picks its class's weight as it picks its logit.
        targets = targets * match_rank(jnp.asarray(weights, outputs.dtype), targets)
    return -jnp.sum(targets * log_shares, axis=-1)


def binary_cross_entropy(
    outputs: Float[Array, "batch classes"],
    labels: Shaped[Array, "batch classes"],
    weights: Sequence[float] = (),
) -> Float[Array, " batch"]:
    """Sigmoid cross-entropy of every class, their mean over the classes.

    Args:
        outputs: logits.
        labels: 1 for every class of a row, 0 for the others.
        weights: of the classes, where a row has them (torch's `pos_weight`); none: all are 1.
    """
    targets = labels.astype(outputs.dtype)
    losses = optax.sigmoid_binary_cross_entropy(outputs, targets)
    # A loss of 0 and 1 has one term: of a class that is there it is the one that is weighed.
    if weights:
        of_classes = match_rank(jnp.asarray(weights, outputs.dtype), targets)
        losses = jnp.where(labels > 0, losses * of_classes, losses)
    # The mean: the learning rate need not change with the number of classes.
    return jnp.mean(losses, axis=-1)


def squared_error(
    outputs: Float[Array, "batch 1"],
    labels: Shaped[Array, " batch"],
    label_range: tuple[float, float],
) -> Float[Array, " batch"]:
    """(prediction - scaled label)², the label scaled from its range to [0, 1].

    STS-B's labels are divided by 5.
    """
    low, high = label_range
    width = high - low
    targets = (labels - low) / width
    errors = outputs[:, 0] - targets
    return jnp.square(errors)


def info_nce(
    outputs: Float[Array, "batch candidates"],
    labels: Int[Array, "batch slots"],
) -> Float[Array, " batch"]:
    """Symmetric InfoNCE, the mean of two losses over the texts of a batch.

    Each query stands against the positives and hard negatives, each positive against the queries. A
    text is known by a number; the slots of a row are query, positive and hard negatives, -1 for
    none. Among the negatives of a query every text counts once, however often it stands in the
    batch; the query itself does not, nor does what is the positive of an equal query. For the
    positives the same holds with query and positive exchanged.

    Args:
        outputs: similarity / temperature of each query with all positives, then all first hard
            negatives, and so on.
        labels: texts of the slots.
    """
    batch = len(outputs)
    query = labels[:, 0]
    positive = labels[:, 1]
    # In the order of the outputs: all positives, then all first hard negatives, and so on.
    by_slot = labels[:, 1:].T
    candidates = by_slot.reshape(-1)
    square = outputs[:, :batch]
    # Not jnp.diagonal: its gradient is a scatter.
    diagonal = jnp.eye(batch, dtype=bool)
    own_alone = jnp.where(diagonal, square, 0)
    own = jnp.sum(own_alone, axis=1)
    of_queries = _negatives(query, positive, candidates)
    forward = _against(own, outputs, of_queries)
    # Hard negatives have no query of their own, so only the square is read backwards.
    of_positives = _negatives(positive, query, query)
    backward = _against(own, square.T, of_positives)
    return (forward + backward) / 2


def _against(
    own: Float[Array, " batch"],
    others: Float[Array, "batch candidates"],
    mask: Bool[Array, "batch candidates"],
) -> Float[Array, " batch"]:
    # `own` is finite, so a row without any negative is 0 and not NaN.
    # exp(-inf) is 0: what is not a negative adds nothing to the sum.
    negatives = jnp.where(mask, others, -jnp.inf)
    column = own[:, None]
    logits = jnp.concatenate([column, negatives], axis=1)
    return jax.nn.logsumexp(logits, axis=1) - own


def _negatives(
    anchors: Int[Array, " batch"],
    partners: Int[Array, " batch"],
    candidates: Int[Array, " candidates"],
) -> Bool[Array, "batch candidates"]:
    """Which candidates are negatives of which anchor; `partners` are the anchors' positives."""
    # The first of equal candidates counts, those after it repeat it.
    repeats = _repeats(candidates)
    # Positive of any anchor of the same text: a boolean matrix product.
    equal_anchor = anchors[:, None] == anchors[None, :]
    is_partner = partners[:, None] == candidates[None, :]
    equal_anchor = equal_anchor.astype(jnp.float32)
    is_partner = is_partner.astype(jnp.float32)
    paths = jnp.matmul(equal_anchor, is_partner)
    relevant = paths > 0
    is_other = anchors[:, None] != candidates[None, :]
    # -1 stands where a row has fewer hard negatives than slots.
    exists = candidates >= 0
    counts = exists & ~repeats
    return counts[None, :] & ~relevant & is_other


_COMPARED = 1024
"""Candidates up to which each is compared with each: as fast as sorting, and it was so before."""


def _repeats(candidates: Int[Array, " candidates"]) -> Bool[Array, " candidates"]:
    """Whether an equal candidate stands before each."""
    count = len(candidates)
    if count <= _COMPARED:
        same = candidates[:, None] == candidates[None, :]
        earlier = jnp.tri(count, k=-1, dtype=bool)
        return jnp.any(same & earlier, axis=1)
    # The mask of all pairs grows with the square of the global batch, and every device has it.
    order = jnp.argsort(candidates, stable=True)
    ordered = candidates[order]
    repeated = ordered[1:] == ordered[:-1]
    in_order = jnp.concatenate([jnp.zeros(1, bool), repeated])
    # Back to where they stood: a gather, where writing them there would be a scatter.
    return in_order[jnp.argsort(order)]
