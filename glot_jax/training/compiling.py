"""How steps are handed to XLA."""

from __future__ import annotations

import os
from typing import Any

import jax

# jaxlib 0.10 multiplies float32 matrices on a CPU with YNNPACK: at a head's shapes 1.1 to 1.4 times slower than Eigen, which
# it used before (benchmarks/head.py). Reductions stay with YNNPACK, where it is the faster one.
_ON_CPU = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}


def compiled(lowered: Any) -> Any:
    """`lowered.compile()` (a `jax.stages.Lowered`), on a CPU with Eigen's matmul; `XLA_FLAGS` of the same name win."""
    if jax.default_backend() != "cpu" or any(name in os.environ.get("XLA_FLAGS", "") for name in _ON_CPU):
        return lowered.compile()
    try:
        return lowered.compile(_ON_CPU)
    except jax.errors.JaxRuntimeError as error:
        if "No such compile option" not in str(error):
            raise
        return lowered.compile()  # another jaxlib, which has no such choice
