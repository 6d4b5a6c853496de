"""The options that programs are compiled with on a CPU.

XLA can multiply float32 matrices there in two ways, and which of them is the faster one depends on
the processor and on the shape.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

import jax

from glot_jax.graphs.backends import DENSE_PAIRS

XlaCpuOptions = Literal["auto", "default", "eigen", "xla"]
"""Who multiplies matrices in the steps of a run: `--xla-cpu-options`; see `takes_eigen`."""

Options = Mapping[str, str | bool]
"""Options of XLA by name, for one program."""

# jaxlib 0.10 multiplies float32 matrices on a CPU with YNNPACK, before that it did with Eigen.
# Reductions stay with YNNPACK, where it is the faster one.
EIGEN: Options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
"""Options of XLA with which Eigen takes the products."""

XLA: Options = {}
"""Those of XLA's own choice."""

_FEW_TOKENS = 1 << 10  # of a batch, up to which YNNPACK is the faster one


def compiled(
    lowered: jax.stages.Lowered,
    texts: tuple[int, int] | None = None,
    choice: XlaCpuOptions = "default",
) -> jax.stages.Compiled:
    """`lowered.compile()` (a `jax.stages.Lowered`), on a CPU with the options of a choice.

    `XLA_FLAGS` of the same name win.

    Args:
        lowered: the program to compile.
        texts: (texts, length) of the batch it takes; left out: matrices that are no batch.
        choice: see `takes_eigen`.
    """
    if jax.default_backend() != "cpu" or user_has_decided():
        return lowered.compile()
    if takes_eigen(texts, choice):
        return compiled_with(lowered, EIGEN)
    return compiled_with(lowered, XLA)


def compiled_with(lowered: jax.stages.Lowered, options: Options) -> jax.stages.Compiled:
    """`lowered.compile(options)`; without them where a jaxlib has none of these names."""
    # Without an argument: it may be a jaxlib that takes none.
    if not options:
        return lowered.compile()
    try:
        return lowered.compile(dict(options))  # pyright: ignore[reportArgumentType]
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return lowered.compile()


def user_has_decided() -> bool:
    """Whether `XLA_FLAGS` say who takes the products."""
    flags = os.environ.get("XLA_FLAGS", "")
    return any(name in flags for name in EIGEN)


def takes_eigen(texts: tuple[int, int] | None, choice: XlaCpuOptions) -> bool:
    """Whether Eigen takes the products of a batch.

    | choice | short batches | other batches | the longest |
    | --- | --- | --- | --- |
    | default | XLA's own | Eigen | XLA's own |
    | eigen | Eigen | Eigen | XLA's own |
    | xla | XLA's own | XLA's own | XLA's own |

    Short are batches of up to 1,024 tokens, the longest those that are computed in blocks.
    `default` is what was the faster on an EPYC: at most of a head's shapes YNNPACK takes 1.03 to
    1.4 times as long as Eigen, and Eigen 1.05 to 1.1 times as long as YNNPACK up to 32 x 24 tokens,
    about as long at 32 x 48. In blocks, a product of 256 rows with all 32,768 takes Eigen 2.7 times
    as long, and a whole forward pass 2.5 times: there nothing is to be chosen.

    Args:
        texts: (texts, length) of the batch; None: matrices that are no batch.
        choice: of the run. `auto` has chosen nothing yet, and is the default.
    """
    if choice == "xla":
        return False
    # Such as those of a benchmark, which are large.
    if texts is None:
        return True
    count, length = texts
    # Batches with more pairs of tokens are computed in blocks (`backends.auto_graph`).
    if count * length**2 > DENSE_PAIRS:
        return False
    return choice == "eigen" or count * length > _FEW_TOKENS
