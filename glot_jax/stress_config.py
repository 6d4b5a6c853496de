"""Settings of `glot stress`: which texts, which poolers, how they are tuned."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from glot_jax.config import flag, require, require_at_least


@dataclasses.dataclass(frozen=True)
class StressConfig:
    """The stress test: can a pooler find the one relation that matters among distractor words?
    (paper section 4.5)
    """

    backbone: str = "minilm"
    """As in extract.py."""
    out: Path = Path("stress")
    """Folder of stress.json, comparison.json, stress.png, stores/ and runs/.

    Rerunning reuses finished stores and runs.
    """
    protocol: tuple[str, ...] = ("released", "controlled")
    """Names of glot_jax.texts.diagnostic.PROTOCOLS."""
    ratios: tuple[float, ...] = (0.9,)
    """Shares of distractor words."""
    distances: tuple[int, ...] = (0,)
    """controlled: words between the two related words, one test for each.

    Other protocols have no such words.
    """
    positions: tuple[float, ...] = ()
    """Where the signal stands among the distractors, 0 (first) to 1 (last), one test for each.

    Default: at random.
    """
    poolers: tuple[str, ...] = ("cls", "mean", "max", "adapool", "glot")
    """Names of glot_jax.pooling.POOLERS.

    With glot, GLOT on three wrong graphs runs too: self-loops, complete, random.
    """
    seeds: tuple[int, ...] = (42,)
    rows: tuple[int, int] = (2000, 500)
    """Training and test rows; a validation split of the test's size is generated beside them."""
    lrs: tuple[float, ...] = (2e-4, 1e-3, 5e-3)
    """Every pooler tries each learning rate; the best one on the validation split is reported on
    the test split.
    """
    epochs: int = 8
    batch_size: int = 32
    hidden_dim: int = 128
    """glot: width of the Token-GNN, two GAT layers, jk cat."""
    tau: float = 0.6

    def __post_init__(self) -> None:
        for name in ("protocol", "ratios", "distances", "poolers", "seeds", "lrs"):
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
        require_at_least(self, 1, "epochs", "batch_size", "hidden_dim")
        require(
            min(self.rows) >= 10,
            "--rows TRAIN TEST are at least 10 each",
            self.rows,
            "Give for example --rows 2000 500.",
        )
        useful = self.distances == (0,) or "controlled" in self.protocol
        require(
            useful,
            "--distances are those of the protocol controlled",
            f"--protocol {' '.join(self.protocol)}",
            "Add controlled, or leave them out.",
        )
