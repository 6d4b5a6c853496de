"""Settings of the commands that train many runs, or report on them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from glot_jax.config.base import (
    NOTHING,
    NUMBERS,
    VARIANT,
    Config,
    Decides,
    about,
    option,
)
from glot_jax.config.checks import distinct, each, filled, whole
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.errors import UsageError

Values = TypeVar("Values", bound=tuple[object, ...])

_PLACE = about(decides=NOTHING)
"""Metadata of a path that must be given: where things lie decides no number."""


def several(default: Values, decides: Decides | None = None) -> Values:
    """A field of one value or more, none twice: the same run twice would count as two."""
    return option(default, filled, distinct, decides=decides)


def searched(default: Values) -> Values:
    """A field of SweepConfig that the sweep searches: `SPACE` lists these."""
    return several(default, decides=VARIANT)


@dataclasses.dataclass(frozen=True)
class StressConfig(Config):
    """Run the stress test: can a pooler find the one relation that matters among distractor words?

    Paper section 4.5.
    """

    takes_plugins: ClassVar[bool] = True

    backbone: str = "minilm"
    """As in extract.py."""
    out: Path = Path("stress")
    """Folder of stress.json, comparison.json, stress.png, stores/ and runs/. Rerunning reuses
    finished stores and runs.
    """
    # Side by side: in the release's data the number of words tells the label, in the controlled
    # ones nothing but the relation does.
    protocol: tuple[str, ...] = several(("released", "controlled"))
    """Names of glot_jax.texts.stress_texts.PROTOCOLS."""
    # The hardest of the paper's four (Table 7: 0.2, 0.5, 0.8, 0.9).
    ratios: tuple[float, ...] = several((0.9,))
    """Shares of distractor words."""
    distances: tuple[int, ...] = several((0,))
    """controlled: words between the two related words, one test for each. Other protocols have no
    such words.
    """
    positions: tuple[float, ...] = ()
    """Where the signal stands among the distractors, 0 (first) to 1 (last), one test for each.
    Default: at random.
    """
    # The poolers of the paper's comparison.
    poolers: tuple[str, ...] = several(("cls", "mean", "max", "adapool", "glot"))
    """Names of glot_jax.pooling.POOLERS. With glot, GLOT on three wrong graphs runs too:
    self-loops, complete, random.
    """
    seeds: tuple[int, ...] = several((42,))
    """Seeds of the training runs; the table shows mean and deviation."""
    # The release's numbers; the paper has 10,000 and 2,000.
    rows: tuple[int, int] = option((2000, 500), each(whole(10)))
    """Training and test rows; a validation split of the test's size is generated beside them."""
    # One rate for all would decide the comparison: which is best depends on the pooler.
    lrs: tuple[float, ...] = several((2e-4, 1e-3, 5e-3))
    """Every pooler tries each learning rate; the best one on the validation split is reported on
    the test split.
    """
    epochs: int = option(8, whole(1))
    """Passes over the training rows."""
    batch_size: int = option(32, whole(1))
    """Rows per training step."""
    hidden_dim: int = option(128, whole(1))
    """glot: width of the Token-GNN, two GAT layers, jk cat."""
    # Its range is checked by the GraphConfig that every run is given.
    tau: float = 0.6
    """glot: threshold of its graph, a cosine."""
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""

    def require_consistent(self) -> None:
        """Check that distances have a protocol that reads them."""
        # (0,) is the default: whoever leaves it alone has asked for nothing.
        if self.distances != (0,) and "controlled" not in self.protocol:
            raise UsageError(
                rule="--distances is read by --protocol controlled alone",
                got=f"--protocol {' '.join(self.protocol)}",
                fix="Add controlled, or leave them out.",
            )


@dataclasses.dataclass(frozen=True)
class SweepConfig(Config):
    """Search GLOT's settings on one store.

    The space is the paper's Table 6 unless values are given.
    """

    takes_plugins: ClassVar[bool] = True

    store: Path = dataclasses.field(metadata=_PLACE)
    """Store of token states; all trials read it, none extracts."""
    out: Path = dataclasses.field(metadata=_PLACE)
    """Folder of study.db, trials/, sweep.json and importance.png. The same command goes on where it
    was stopped.
    """
    sampler: Literal["tpe", "grid", "random"] = option("tpe", decides=NUMBERS)
    """tpe: Optuna's tree-structured Parzen estimator; grid: every combination once; random: drawn
    uniformly.
    """
    # More trials or workers go on with the same study: they decide nothing about a trial.
    trials: int | None = option(
        None,
        whole(1),
        decides=NOTHING,
        example=24,
    )
    """Finished trials to reach, over all calls. Default: 24, or the whole grid."""
    workers: int = option(1, whole(1), decides=NOTHING)
    """Processes that train trials at the same time, from one study."""
    prune: bool = option(True, decides=NUMBERS)
    """Stop a trial whose score after an epoch is below the median of the others' at that epoch."""
    epochs: int = option(2, whole(1), decides=NUMBERS)
    """Epochs of each trial (paper: 2)."""
    batch_size: int = option(32, whole(1), decides=NUMBERS)
    """Rows per training step."""
    seed: int = option(42, whole(0), decides=NUMBERS)
    """Seed of the sampler and of every trial."""
    # Not the split that is reported: the best of many trials would be flattered by it.
    select_on: Literal["validation", "holdout"] = option("holdout", decides=NUMBERS)
    """What trials are compared on: a tenth of train, which leaves the validation split for the
    report, or that split itself.
    """
    metric: str | None = option(None, decides=NUMBERS)
    """Metric that trials are compared by. Default: the task's first."""
    # From here on the defaults are Table 6, value by value.
    lr: tuple[float, ...] = searched((1e-3, 2e-4, 2e-5))
    """Peak learning rates to try."""
    weight_decay: tuple[float, ...] = searched((0.0, 1e-5, 5e-5))
    """Weight decays to try."""
    num_layers: tuple[int, ...] = searched((2, 4))
    """Numbers of GNN layers to try."""
    hidden_dim: tuple[int, ...] = searched((64, 128, 256))
    """Widths of the Token-GNN to try."""
    jk: tuple[str, ...] = searched(("cat", "max", "mean", "none"))
    """Kinds of jumping knowledge to try."""
    # 0, not None, for none: the command line takes numbers.
    projection_dim: tuple[int, ...] = searched((128, 256, 512))
    """Widths that states are projected to; 0: none."""
    tau: tuple[float, ...] = searched((0.1, 0.3, 0.6))
    """Thresholds of the graph to try."""
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""

    @property
    def space(self) -> dict[str, list]:
        """The values tried, by the name of the setting."""
        return {name: list(getattr(self, name)) for name in SPACE}

    @property
    def target(self) -> int:
        """Finished trials to reach; no combination is tried twice."""
        sizes = map(len, self.space.values())
        combinations = math.prod(sizes)
        if self.trials is not None:
            return min(self.trials, combinations)
        # A grid is finished when it is whole.
        if self.sampler == "grid":
            return combinations
        return min(_DEFAULT_TRIALS, combinations)


_DEFAULT_TRIALS = 24

# After the class, whose fields it lists: a new searched field is in it without being named here.
SPACE = SweepConfig.names(VARIANT)
"""The settings that a sweep searches, as fields of SweepConfig."""


@dataclasses.dataclass(frozen=True)
class ReproduceConfig(Config):
    """Run tables and figures of the paper again on a backbone of your choice.

    For example: `glot reproduce table4 table8 --data DIR`.
    """

    takes_plugins: ClassVar[bool] = True

    cards: tuple[str, ...] = dataclasses.field(
        metadata=about(
            filled,
            distinct,
            positional=True,
            example="table4",
        )
    )
    """Names of glot_jax.experiments.cards.CARDS: table1 ... table17, figure3, figure4, figure5."""
    backbone: str = "minilm"
    """As in extract.py."""
    data: Path | None = None
    """Folder with a folder per task (cola, stsb, ...), each as extract.py --data takes it. Without
    it, the Hub.
    """
    store: tuple[Path, ...] = option((), distinct)
    """Stores of the backbone that are there already, at most one of a task: its rows are those of
    the cards, and nothing is extracted for it. Variants with a prompt need --data all the same.
    Default: none.
    """
    out: Path = Path("reproduction")
    """Folder of stores/, runs/, report.html, report.md and scores.json. Rerunning reuses finished
    stores and runs.
    """
    tasks: tuple[str, ...] = ()
    """Run the cards on these tasks. Default: those of the paper's table."""
    # Three: a deviation, and a test over seeds, need more than one run.
    seeds: tuple[int, ...] = several((1, 2, 3))
    """Seeds of every variant; the report shows mean and deviation."""
    lrs: tuple[float, ...] = several((2e-4,))
    """Peak learning rates. Of several, each variant keeps the one that was best on the selecting
    split with the first seed.
    """
    epochs: int = option(2, whole(1))
    """Passes over the training rows (paper: 2)."""
    hidden_dim: int = option(128, whole(1))
    """Width of the Token-GNN. Paper: 128 by default, searched in 64, 128, 256 (Table 6)."""
    select_on: Literal["holdout", "validation", "last"] = "holdout"
    """Where the best epoch is chosen. validation: on the split that is reported, as in the paper;
    such scores are marked.
    """
    rows: tuple[int, int] = option((2000, 500), each(whole(10)))
    """Training and test rows of the stress test (paper: 10000 2000)."""
    trials: int = option(24, whole(1))
    """Finished trials of Table 6's search."""
    sentences: tuple[str, ...] = (
        "What is the maximum number of genetically unique individuals that human genome allows?",
        "A person is riding a horse",
    )
    """Whose tokens and graph figure5 and the report show; the defaults are the paper's."""
    beside: str = "BERT"
    """The paper's backbone whose numbers stand beside ours."""
    # Of 100 resamples, two or three lie beyond each end of a 95 % interval: of fewer, hardly one.
    resamples: int = option(1000, whole(100))
    """Resamples of the intervals and permutation tests in the report."""
    allow_missing: bool = False
    """Run what can be run, and list what is missing, instead of stopping."""
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""

    def require_consistent(self) -> None:
        """Check that several rates have a split to be compared on."""
        # `last` selects on nothing, and rates are compared by what selects.
        if self.select_on == "last" and len(self.lrs) > 1:
            raise UsageError(
                rule="several --lrs are compared on a split, which --select-on must name",
                got="several --lrs with --select-on last",
                fix="Choose holdout, or give one rate.",
            )


@dataclasses.dataclass(frozen=True)
class ReportConfig(Config):
    """Write one page about finished runs: HTML in a single file, and Markdown."""

    takes_plugins: ClassVar[bool] = True

    folders: tuple[Path, ...] = dataclasses.field(
        metadata=about(
            filled,
            positional=True,
            example="runs",
        )
    )
    """Run folders, or folders that hold some, stress tests included."""
    out: Path = Path("report")
    """Folder of report.html, report.md, figures/ and scores.json."""
    title: str = "GLOT runs"
    """Title of the page."""
    # None by default: they need torch and the backbone, which a report of numbers does not.
    sentences: tuple[str, ...] = ()
    """Texts whose token weights and graph are shown; they go through the runs' backbone."""
    backbone: str | None = None
    """The backbone of the runs, where their store only knows it by the name of a folder."""
    beside: str = "BERT"
    """The paper's backbone whose Table 1 stands beside: BERT, RoBERTa, SmolLM2, TinyLlama,
    LLaMA-3B, Mistral-7B.
    """
    reference: str | None = None
    """The variant, by its label, that others are compared with. Default: the first glot."""
    resamples: int = option(1000, whole(100))
    """Resamples of the intervals and permutation tests."""
    csv: bool = False
    """Write the scores to OUT/scores.csv as well."""
    latex: bool = False
    """Write them to OUT/scores.tex, tables for booktabs; bold where p after Holm says so."""
