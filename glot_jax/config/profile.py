"""Settings of `glot profile`: which shapes, which variants of them, how often."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import require


@dataclasses.dataclass(frozen=True)
class ProfileConfig:
    """Time one training step of a pooling head against what this machine can do at most."""

    dim: int = 768
    """Width of the token states."""
    length: int = 128
    """Tokens that texts are padded to."""
    tokens_per_text: float | None = None
    """Real tokens of a text on average; lengths are spread evenly from 1 to twice that.

    Default: no padding at all.
    """
    batch_size: int = 32
    """Texts of a step (rows of the store with --store)."""
    states_dtype: str = ""
    """Dtype of the synthetic states: float32, float16 or bfloat16.

    Default: that of the head (--dtype, or the one compared).
    """
    store: Path | None = None
    """Profile on a labelled store's own texts instead, every bucket of its lengths by itself; what
    is said of synthetic states is not read.
    """
    buckets: int = 3
    """--store: padded lengths, as train.py chooses them."""
    repeats: int = 20
    """Measurements of each time; their median and quartiles are given."""
    forward_only: bool = False
    """Leave out the training step: for texts so long that only inference is of interest."""
    compare: tuple[str, ...] = ()
    """More variants of the same shape, each the name of a backend, a dtype or a pooler: --compare
    sparse blockwise bfloat16 adapool.
    """
    json: bool = False
    """Print one JSON object instead of a table."""
    trace: Path | None = None
    """Write a trace of a few steps here, for Perfetto (perfetto_trace.json.gz) or TensorBoard."""
    seed: int = 0
    graph: GraphConfig = dataclasses.field(default_factory=GraphConfig)
    pooler: PoolerConfig = dataclasses.field(default_factory=PoolerConfig)

    def __post_init__(self) -> None:
        for name in ("dim", "length", "batch_size", "buckets", "repeats"):
            value = getattr(self, name)
            require(
                value >= 1, f"--{name.replace('_', '-')} is at least 1", value, "Give 1 or more."
            )
        require(self.seed >= 0, "--seed is at least 0", self.seed, "Give 0 or more.")
        real = self.tokens_per_text
        require(
            real is None or 1 <= real <= self.length,
            f"--tokens-per-text lies between 1 and --length {self.length}",
            real,
            "Change one of the two.",
        )
        require(
            self.states_dtype in ("", *DTYPES),
            f"--states-dtype takes one of: {', '.join(DTYPES)}",
            repr(self.states_dtype),
            "Choose one of them.",
        )


DTYPES = ("float32", "float16", "bfloat16")
