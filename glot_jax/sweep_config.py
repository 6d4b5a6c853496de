"""Settings of `glot sweep`: the values that are tried, who chooses among them, how many at once."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Literal

from glot_jax.config import flag, require, require_at_least

SPACE = ("lr", "weight_decay", "num_layers", "hidden_dim", "jk", "projection_dim", "tau")


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """Search GLOT's settings on one store.

    The space is the paper's Table 6 unless values are given.
    """

    store: Path
    """Store of token states; all trials read it, none extracts."""
    out: Path
    """Folder of study.db, trials/, sweep.json and importance.png.

    The same command goes on where it was stopped.
    """
    sampler: Literal["tpe", "grid", "random"] = "tpe"
    """tpe: Optuna's tree-structured Parzen estimator; grid: every combination once; random."""
    trials: int | None = None
    """Finished trials to reach, over all calls. Default: 24, or the whole grid."""
    workers: int = 1
    """Processes that train trials at the same time, from one study."""
    prune: bool = True
    """Stop a trial whose score after an epoch is below the median of the others' at that epoch."""
    epochs: int = 2
    """Of each trial. Paper: 2."""
    batch_size: int = 32
    seed: int = 42
    """Of the sampler and of every trial."""
    select_on: Literal["validation", "holdout"] = "holdout"
    """What trials are compared on: a tenth of train, which leaves the validation split for the
    report, or that split itself.
    """
    metric: str | None = None
    """Of the selection. Default: the task's first."""
    lr: tuple[float, ...] = (1e-3, 2e-4, 2e-5)
    weight_decay: tuple[float, ...] = (0.0, 1e-5, 5e-5)
    num_layers: tuple[int, ...] = (2, 4)
    hidden_dim: tuple[int, ...] = (64, 128, 256)
    jk: tuple[str, ...] = ("cat", "max", "mean", "none")
    projection_dim: tuple[int, ...] = (128, 256, 512)
    """Widths that states are projected to; 0: none."""
    tau: tuple[float, ...] = (0.1, 0.3, 0.6)

    def __post_init__(self) -> None:
        for name in SPACE:
            values = getattr(self, name)
            require(
                len(values) > 0,
                f"{flag(name)} needs at least one value",
                "none",
                "Give one or more.",
            )
            require(
                len(set(values)) == len(values),
                f"{flag(name)} are different from one another",
                values,
                "Drop the repeats.",
            )
        require_at_least(self, 1, "trials", "workers", "epochs", "batch_size")
        require_at_least(self, 0, "seed")

    @property
    def space(self) -> dict[str, list]:
        """Name -> values."""
        return {name: list(getattr(self, name)) for name in SPACE}

    @property
    def wanted(self) -> int:
        """Finished trials to reach; no combination is tried twice."""
        combinations = math.prod(len(values) for values in self.space.values())
        return min(self.trials or (combinations if self.sampler == "grid" else 24), combinations)
