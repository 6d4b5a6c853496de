"""Settings of the commands that train many runs, or report on them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Literal

from glot_jax.config.base import flag, require_at_least
from glot_jax.errors import require


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
    """Names of glot_jax.texts.stress_texts.PROTOCOLS."""
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


@dataclasses.dataclass(frozen=True)
class ReproduceConfig:
    """Run tables and figures of the paper again on a backbone of your choice:

    `glot reproduce table4 table8 --data DIR`.
    """

    cards: tuple[str, ...]
    """Names of glot_jax.experiments.cards.CARDS: table1 ... table17, figure3, figure4, figure5."""
    backbone: str = "minilm"
    """As in extract.py."""
    data: Path | None = None
    """Folder with a folder per task (cola, stsb, ...), each as extract.py --data takes it.

    Without it, the Hub.
    """
    out: Path = Path("reproduction")
    """Folder of stores/, runs/, report.html, report.md and scores.json.

    Rerunning reuses finished stores and runs.
    """
    tasks: tuple[str, ...] = ()
    """Run the cards on these tasks. Default: those of the paper's table."""
    seeds: tuple[int, ...] = (1, 2, 3)
    lrs: tuple[float, ...] = (2e-4,)
    """Of several, each variant keeps the one that was best on the selecting split with the first
    seed.
    """
    epochs: int = 2
    """Paper: 2."""
    hidden_dim: int = 128
    """Of the Token-GNN. Paper: 128 by default, searched in 64, 128, 256 (Table 6)."""
    select_on: Literal["holdout", "validation", "last"] = "holdout"
    """Where the best epoch is chosen. validation: on the split that is reported, as in the paper;
    such scores are marked.
    """
    rows: tuple[int, int] = (2000, 500)
    """Training and test rows of the stress test (paper: 10000 2000)."""
    trials: int = 24
    """Of Table 6's search."""
    sentences: tuple[str, ...] = (
        "What is the maximum number of genetically unique individuals that human genome allows?",
        "A person is riding a horse",
    )
    """Whose tokens and graph figure5 and the report show; the defaults are the paper's."""
    beside: str = "BERT"
    """The paper's backbone whose numbers stand beside ours."""
    resamples: int = 1000
    """Of intervals and permutation tests in the report."""
    allow_missing: bool = False
    """Run what can be run, and list what is missing, instead of stopping."""

    def __post_init__(self) -> None:
        for name in ("cards", "seeds", "lrs"):
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
        require_at_least(self, 1, "epochs", "hidden_dim", "trials")
        require_at_least(self, 100, "resamples")
        require(
            min(self.rows) >= 10,
            "--rows TRAIN TEST are at least 10 each",
            self.rows,
            "Give for example --rows 2000 500.",
        )
        require(
            self.select_on != "last" or len(self.lrs) == 1,
            "a rate is chosen on a split",
            "several --lrs with --select-on last",
            "Choose holdout, or give one rate.",
        )


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """One page about finished runs: HTML in a single file, and Markdown."""

    folders: tuple[Path, ...]
    """Run folders, or folders that hold some, stress tests included."""
    out: Path = Path("report")
    """Folder of report.html, report.md, figures/ and scores.json."""
    title: str = "GLOT runs"
    sentences: tuple[str, ...] = ()
    """Texts whose token weights and graph are shown; they go through the runs' backbone."""
    backbone: str | None = None
    """The backbone of the runs, where their store only knows it by the name of a folder."""
    beside: str = "BERT"
    """The paper's backbone whose Table 1 stands beside:

    BERT, RoBERTa, SmolLM2, TinyLlama, LLaMA-3B, Mistral-7B.
    """
    reference: str | None = None
    """The variant, by its label, that others are compared with. Default: the first glot."""
    resamples: int = 1000
    """Of intervals and permutation tests."""

    def __post_init__(self) -> None:
        require(len(self.folders) > 0, "a report is of run folders", "none", "Give one or more.")
        require_at_least(self, 100, "resamples")
