"""The least time a step can take on this machine.

Its unavoidable products and bytes, over the ceilings that were measured here:
`floor = sum over matmuls of flops / (best rate of a matmul of that dtype) + bytes / (best rate of a
copy of so many bytes)`, the bytes being the states, read once, and Adam's traffic. Products towards
frozen states are not in it, the whole Gram matrix is; nor are exponentials, masks, softmaxes and
anything else that a perfect compiler would hide behind the products. Nothing is faster than its
floor: a step that was is an error of the measure (`Profile.below_floor`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from glot_jax.graphs import Stem
from glot_jax.pooling import Glot, Pooler
from glot_jax.pooling.work import StepWork
from glot_jax.profiling.ceilings import FULL, Ceilings


@dataclasses.dataclass(frozen=True)
class Work:
    """What one step cannot do without."""

    flops: dict[str, float]
    """Dtype -> floating-point operations of its matmuls."""
    bytes: float

    def seconds(self, ceilings: Ceilings) -> float:
        """Return the time it takes at these ceilings."""
        products = sum(flops / ceilings.flops[dtype] for dtype, flops in self.flops.items())
        traffic = self.bytes / ceilings.bandwidth_for(self.bytes)
        # One after the other, as if nothing were overlapped.
        return products + traffic


def work_of(
    stem: Stem,
    pooler: Pooler,
    *,
    lengths: Sequence[int] | np.ndarray,
    states_dtype: str,
    parameters: int,
    train: bool,
) -> Work:
    """Return the work on texts of these real lengths [texts]; padding is no work.

    Args:
        stem: its width, projection, rule and dtype count.
        pooler: says itself what it multiplies; its sizes are those that it really has.
        lengths: real tokens of each text of the step.
        states_dtype: dtype of the states, in which the Gram matrix is taken.
        parameters: trained numbers, head of the task included.
        train: a training step; else one forward pass.
    """
    # Floats: squares of long texts overflow 32 bits.
    lengths = np.asarray(lengths, np.float64)
    tokens = float(lengths.sum())
    pairs = float(np.square(lengths).sum())
    work = StepWork(
        float(len(lengths)),
        tokens,
        pairs,
        dtype=str(stem.dtype),
        train=train,
    )
    is_projected = stem.projection is not None
    if is_projected:
        # Its inputs are the backbone's states, towards which no gradient is taken.
        work.linear(stem.dim, stem.node_dim, frozen=True)
    pooler.work(work, frozen=not is_projected)
    if _takes_gram_matrix(stem, pooler):
        # Cosines of float32 states are taken at full precision (`similarity`).
        gram_dtype = FULL if states_dtype == "float32" else states_dtype
        work.add(2 * pairs * stem.dim, gram_dtype)
    itemsize = jnp.dtype(states_dtype).itemsize
    states = tokens * stem.dim * itemsize
    # Adam reads parameter, gradient and two moments, and writes parameter and moments.
    passes = 7 if train else 1
    # Parameters and moments are float32 whatever the head's dtype.
    return Work(work.flops, states + passes * 4 * parameters)


def _takes_gram_matrix(stem: Stem, pooler: Pooler) -> bool:
    """Tell whether similarities are computed.

    Of edges that nothing reads, the compiler drops all of it.
    """
    # A GLOT of no layers passes no message along any edge.
    if isinstance(pooler, Glot) and not pooler.gnn.layers:
        return False
    return pooler.uses_edges and stem.rule.compares_states
