"""Losses per row, float32.

============== ============================== ==================== ===========================================
loss           outputs                        labels               relation
============== ============================== ==================== ===========================================
cross_entropy  logits [batch, classes]        class index [batch]  -
squared_error  prediction [batch, 1]          score [batch]        labels are mapped to [0, 1] by `label_range`
============== ============================== ==================== ===========================================
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped


def cross_entropy(outputs: Float[Array, "batch classes"], labels: Shaped[Array, " batch"]) -> Float[Array, " batch"]:
    """Softmax cross-entropy. One-hot labels: optax's integer-label loss puts a scatter into the gradient."""
    targets = jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)
    return -jnp.sum(targets * jax.nn.log_softmax(outputs), axis=-1)


def squared_error(
    outputs: Float[Array, "batch 1"], labels: Shaped[Array, " batch"], label_range: tuple[float, float]
) -> Float[Array, " batch"]:
    """(prediction - scaled label)², the label scaled from its range to [0, 1]: STS-B's label / 5."""
    low, high = label_range
    return jnp.square(outputs[:, 0] - (labels - low) / (high - low))
