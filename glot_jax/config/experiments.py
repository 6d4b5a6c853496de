"""Settings of the commands that train many runs, or report on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

from glot_jax.config.base import Config, about, option
from glot_jax.config.checks import distinct, each, filled, whole
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.errors import UsageError

Values = TypeVar("Values", bound=tuple[object, ...])


def several(default: Values) -> Values:
    """A field of one value or more, none twice: the same run twice would count as two."""
    return option(default, filled, distinct)


def _require_treatments(sinks: tuple[str, ...]) -> None:
    for value in sinks:
        if value not in ("keep", "auto"):
            raise UsageError(
                rule="--sinks must be keep or auto",
                got=repr(value),
                fix="Give for example --sinks keep auto.",
            )


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
    # A decoder has its sinks in the middle, and none in the last layer.
    layer: int | None = None
    """Layer whose states are pooled. Default: the last."""
    sinks: tuple[str, ...] = option((), distinct)
    """What is done about attention sinks, keep or auto, one test for each. Default: as train.py
    does.
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
        """Check that distances have a protocol that reads them, and treatments of sinks."""
        _require_treatments(self.sinks)
        # (0,) is the default: whoever leaves it alone has asked for nothing.
        if self.distances != (0,) and "controlled" not in self.protocol:
            raise UsageError(
                rule="--distances is read by --protocol controlled alone",
                got=f"--protocol {' '.join(self.protocol)}",
                fix="Add controlled, or leave them out.",
            )


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
    # Of a decoder the last layer is seldom the best one.
    layers: tuple[int, ...] = option((), distinct)
    """Layers that are stored, and that --selection-seeds choose from. Default: the last alone."""
    # Never reported: what has chosen is flattered by its choice.
    selection_seeds: tuple[int, ...] = option((), distinct)
    """Choose rate, layer and number of epochs of each variant by the mean of these seeds on
    holdouts of the training rows. --seeds are then trained on all training rows, to that epoch;
    beside them stands the variant unselected, on the last layer at the paper's settings. Default:
    none.
    """
    # Choices can be published before anything is reported.
    choose_only: bool = False
    """Stop when --selection-seeds have chosen: OUT/selection.json has choices and trials, and
    nothing is reported.
    """
    choices: tuple[Path, ...] = option((), distinct)
    """selection.json files of the same settings: what they have chosen is not chosen again, what
    they lack is. Default: none.
    """
    sinks: tuple[str, ...] = option(("keep",), filled, distinct)
    """What is done about attention sinks, keep or auto: of two each variant has two rows, and what
    the first one chose holds for both.
    """
    more: tuple[str, ...] = option((), distinct)
    """Rows beside those of the cards, names of glot_jax.experiments.cards.MORE: weighted-mean,
    latent-attention, pma, mlp, and glot on wrong graphs: self, complete, random. Default: none.
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
        _require_treatments(self.sinks)
        reported = set(self.seeds) & set(self.selection_seeds)
        if reported:
            raise UsageError(
                rule="seeds that select must not be reported",
                got=f"{' '.join(map(str, sorted(reported)))} in --selection-seeds and in --seeds",
                fix="Give for example --selection-seeds 101 102.",
            )
        if len(self.layers) > 1 and not self.selection_seeds:
            raise UsageError(
                rule="of several --layers one must be chosen",
                got=f"--layers {' '.join(map(str, self.layers))}",
                fix="Give --selection-seeds 101 102, or one layer.",
            )
        # Holdouts of their own choose then, whatever --select-on says.
        if self.selection_seeds:
            return
        if self.choose_only or self.choices:
            raise UsageError(
                rule="--choose-only and --choices are about what --selection-seeds choose",
                got="no --selection-seeds",
                fix="Give for example --selection-seeds 101 102.",
            )
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
