"""Settings of `glot reproduce` and `glot report`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from glot_jax.config import flag, require, require_at_least


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
