"""Settings of `glot profile`: which shapes, which variants of them, how often."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from glot_jax.config.base import Config, option
from glot_jax.config.checks import at_least, one_of, whole
from glot_jax.config.location import Location
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError

DTYPES = ("float32", "float16", "bfloat16")
"""Dtypes that token states can be stored and profiled in."""


@dataclasses.dataclass(frozen=True)
class ProfileConfig(Config):
    """Time one training step of a pooling head against what this machine can do at most."""

    takes_plugins: ClassVar[bool] = True

    dim: int = option(768, whole(1))
    """Width of the token states."""
    length: int = option(128, whole(1))
    """Tokens that texts are padded to."""
    tokens_per_text: float | None = option(
        None,
        at_least(1),
        example=100,
    )
    """Real tokens of a text on average; lengths are spread evenly from 1 to twice that. Default: no
    padding at all.
    """
    batch_size: int = option(32, whole(1))
    """Texts of a step (rows of the store with --store)."""
    states_dtype: str = option(
        "",
        one_of("", *DTYPES),
        example="float16",
    )
    """Dtype of the synthetic states: float32, float16 or bfloat16. Default: that of the head
    (--dtype, or the one compared).
    """
    store: Location | None = None
    """Profile on a labelled store's own texts instead, every bucket of its lengths by itself; what
    is said of synthetic states is not read.
    """
    buckets: int = option(3, whole(1))
    """--store: padded lengths, as train.py chooses them."""
    repeats: int = option(20, whole(1))
    """Measurements of each time; their median and quartiles are given."""
    forward_only: bool = False
    """Leave out the training step: for texts so long that only inference is of interest."""
    compare: tuple[str, ...] = ()
    """More variants of the same shape, each the name of a backend, a dtype or a pooler: --compare
    sparse blockwise bfloat16 adapool.
    """
    xla_cpu_options: Literal["default", "eigen", "xla"] = option("default")
    """CPU: who multiplies matrices in the step, as in train.py."""
    json: bool = False
    """Print one JSON object instead of a table."""
    trace: Path | None = None
    """Write a trace of a few steps here, for Perfetto (perfetto_trace.json.gz) or TensorBoard."""
    # Times hang on shapes, not on values: one seed will do for every machine.
    seed: int = option(0, whole(0))
    """Seed of the parameters and of the synthetic states."""
    # The trainer's own settings, so that what is timed can be trained with the same flags.
    graph: GraphConfig = dataclasses.field(default_factory=GraphConfig)
    pooler: PoolerConfig = dataclasses.field(default_factory=PoolerConfig)

    def require_consistent(self) -> None:
        """Check that the texts fit into the padded length."""
        # A mean above the longest is impossible, whatever the lengths are.
        tokens = self.tokens_per_text
        if tokens is not None and tokens > self.length:
            raise UsageError(
                rule=f"--tokens-per-text must be at most --length {self.length}",
                got=tokens,
                fix="Change one of the two.",
            )
