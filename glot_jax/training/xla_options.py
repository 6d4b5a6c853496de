"""How steps are handed to XLA."""

from __future__ import annotations

import os

import jax

from glot_jax.graphs.backends import DENSE_PAIRS

# jaxlib 0.10 multiplies float32 matrices on a CPU with YNNPACK: at most of a head's shapes 1.03 to
# 1.4 times slower than Eigen, which it used before. Reductions stay with YNNPACK, where it is the
# faster one. So do batches of short texts (on an EPYC Eigen's steps take 1.05 to 1.1 times as long
# up to 32 x 24 tokens, about as long at 32 x 48, and less at 32 x 128 from dim 768 on) and the
# blocks of long texts: a product of 256 rows with all 32,768 takes Eigen 2.7 times as long, and a
# whole forward pass 2.5 times.
_ON_CPU = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


_FEW_TOKENS = 1 << 10  # of a batch, up to which YNNPACK is the faster one


def compiled(
    lowered: jax.stages.Lowered,
    texts: tuple[int, int] | None = None,
) -> jax.stages.Compiled:
    """`lowered.compile()` (a `jax.stages.Lowered`), on a CPU with the faster matmul.

    `XLA_FLAGS` of the same name win.

    Args:
        lowered: the program to compile.
        texts: (texts, length) of the batch it takes; left out: matrices that are no batch.
    """
    if jax.default_backend() != "cpu":
        return lowered.compile()
    if _user_has_decided() or _suits_ynnpack(texts):
        return lowered.compile()
    try:
        return lowered.compile(_ON_CPU)  # pyright: ignore[reportArgumentType]
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return lowered.compile()  # another jaxlib, which has no such choice


def _user_has_decided() -> bool:
    flags = os.environ.get("XLA_FLAGS", "")
    return any(name in flags for name in _ON_CPU)


def _suits_ynnpack(texts: tuple[int, int] | None) -> bool:
    """Whether a batch is one of the few that XLA's own choice computes faster."""
    if texts is None:
        return False
    count, length = texts
    if count * length <= _FEW_TOKENS:
        return True
    # Batches with more pairs of tokens are computed in blocks (`backends.auto_graph`).
    return count * length**2 > DENSE_PAIRS
