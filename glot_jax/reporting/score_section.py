"""The tables of one comparison: its scores, with baselines and rows of the paper, and by class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from glot_jax.objectives.class_scores import ClassScores
from glot_jax.reporting.comparison import Variant
from glot_jax.reporting.pages import Block, Heading
from glot_jax.reporting.paper import PaperTables
from glot_jax.reporting.results import Result
from glot_jax.reporting.statistics import number_text, p_text
from glot_jax.reporting.tables import Align, Cell, Column, Table
from glot_jax.reporting.variant_scores import VariantScore

_MOST_CLASSES = 12
"""Classes whose confusion fits a page."""


@dataclasses.dataclass(frozen=True)
class ScoreRow:
    """A line of the table: one of our variants, a baseline, or a row quoted from the paper."""

    name: str
    scores: Mapping[str, VariantScore] = dataclasses.field(default_factory=dict)
    """Split -> score of a variant; empty for the others."""
    variant: Variant | None = None
    """None for baselines and quoted rows."""
    baseline: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Split -> score of a baseline; empty for the others."""
    printed: float | None = None
    """The paper's number, times 100."""
    probe: tuple[float, float | None] | None = None
    """Mean and deviation of the linear probe on the first split."""


def score_section(result: Result, beside: PaperTables) -> list[Block]:
    """Heading and table of one comparison.

    Args:
        result: the comparison with its statistics.
        beside: tables of the paper whose numbers are set beside ours.
    """
    rows = score_rows(result, beside)
    table = Table.by_columns(
        score_columns(result, beside, rows),
        rows,
        _caption(result, beside, rows),
        faint=lambda row: row.variant is None,
    )
    heading = Heading(f"{result.comparison.task}: {result.comparison.backbone}")
    return [heading, table]


def score_rows(result: Result, beside: PaperTables) -> list[ScoreRow]:
    """Variants, then baselines, then rows of the paper that were not run here.

    The last are quoted only where the paper has a number for at least one of our variants.
    """
    task = result.comparison.task
    first = result.splits[0]
    variants = []
    for number, score in enumerate(result.first_scores):
        # Every split lists the variants in the same order.
        scores = {split: result.by_split[split][number] for split in result.splits}
        row = ScoreRow(
            score.variant,
            scores,
            result.variant(score.variant),
            printed=beside.number(score.variant, task),
            probe=result.probe(score.variant, first),
        )
        variants.append(row)
    baselines = _baseline_rows(result)
    quoted = _quoted_rows(variants, task, beside)
    return [*variants, *baselines, *quoted]


def _quoted_rows(
    variants: Sequence[ScoreRow],
    task: str,
    beside: PaperTables,
) -> list[ScoreRow]:
    # A table of the paper that shares no row with ours is about something else.
    if not _has_printed(variants):
        return []
    own = {row.name for row in variants}
    quoted = []
    for name in beside.rows(task):
        if name not in own:
            number = beside.number(name, task)
            quoted.append(ScoreRow(f"quoted: {name}", printed=number))
    return quoted


def _has_printed(rows: Sequence[ScoreRow]) -> bool:
    return any(row.printed is not None for row in rows)


def _has_probe(rows: Sequence[ScoreRow]) -> bool:
    return any(row.probe is not None for row in rows)


def _has_stuck(rows: Sequence[ScoreRow]) -> bool:
    return any(score.learned for row in rows for score in row.scores.values())


def _learned(row: ScoreRow, split: str) -> str:
    """`.811 ± .010 (9 of 10)`: without the seeds that ended no better than a constant answer."""
    if split not in row.scores:
        return ""
    score = row.scores[split]
    if score.learned is None:
        return "all"
    mean, deviation, count = score.learned
    if count == 0:
        return f"none of {score.seeds}"
    return f"{number_text(mean, deviation)} ({count} of {score.seeds})"


def _baseline_rows(result: Result) -> list[ScoreRow]:
    # One row for each baseline, whichever splits it is known of.
    scores: dict[str, dict[str, float]] = {}
    for split in result.splits:
        for name, value in result.comparison.baselines(split).items():
            scores.setdefault(name, {})[split] = value
    rows = []
    for name, values in scores.items():
        rows.append(ScoreRow(f"baseline: {name}", baseline=values))
    return rows


def score_columns(
    result: Result,
    beside: PaperTables,
    rows: Sequence[ScoreRow],
) -> list[Column[ScoreRow]]:
    """The columns of the table.

    Those of the paper, of the reference and of the probe are shown where they have something to
    show.
    """
    # The split that nobody selected on stands next to what it is compared with.
    first, *others = result.splits
    return [
        Column("variant", lambda row: row.name),
        _split_column(result, first),
        Column(beside.noun, _printed, shown_if=_has_printed(rows)),
        Column("95 % of rows", lambda row: _interval(row, first)),
        Column(
            f"{result.reference} - this (p rows; seeds)",
            lambda row: _difference(row, first),
            shown_if=result.reference is not None,
        ),
        Column(
            f"p after Holm ({len(result.holm_p)})",
            lambda row: _holm(result, row),
            shown_if=len(result.holm_p) > 1,
        ),
        Column(
            "seeds that learned",
            lambda row: _learned(row, first),
            shown_if=_has_stuck(rows),
        ),
        Column("linear probe", _probe, shown_if=_has_probe(rows)),
        *[_split_column(result, split) for split in others],
        Column(f"last epoch, {first}", lambda row: _last(row, first)),
        Column("parameters", _parameters),
        Column("train s", _seconds),
    ]


def _split_column(result: Result, split: str) -> Column[ScoreRow]:
    """Scores on one split, the highest in bold."""
    # Of equal means the first: two bold cells would say less.
    best = max(result.by_split[split], key=lambda score: score.mean)

    def cell(row: ScoreRow) -> Cell:
        if split in row.baseline:
            return Cell(f"{row.baseline[split]:.3f}")
        if split not in row.scores:
            return Cell("")
        text = mean_text(row.scores[split])
        return Cell(text, bold=row.name == best.variant)

    return Column(f"{split} {result.metric}", cell)


def mean_text(score: VariantScore) -> str:
    """`mean ± deviation`, marked where the best epoch was selected on this very split."""
    # The caption says what the sign means.
    mark = "†" if score.selected_here else ""
    return number_text(score.mean, score.deviation) + mark


def _printed(row: ScoreRow) -> str:
    if row.printed is None:
        return ""
    # The paper prints scores times 100.
    return f"{row.printed / 100:.3f}"


def _interval(row: ScoreRow, split: str) -> str:
    if split not in row.scores:
        return ""
    score = row.scores[split]
    # Where there is no interval the cell says why.
    return str(score.interval or score.why)


def _difference(row: ScoreRow, split: str) -> str:
    if split not in row.scores:
        return ""
    difference = row.scores[split].difference
    # Of the reference itself, and where predictions are missing.
    if difference is None:
        return ""
    return f"{difference.value:+.3f}{p_text(difference.p, difference.p_seeds)}"


def _holm(result: Result, row: ScoreRow) -> str:
    p = result.holm_p.get(row.name)
    if p is None:
        return ""
    return "< .001" if p < 0.001 else f"{p:.3f}"


def _probe(row: ScoreRow) -> str:
    if row.probe is None:
        return ""
    return number_text(*row.probe)


def _last(row: ScoreRow, split: str) -> str:
    if split in row.scores:
        return f"{row.scores[split].last:.3f}"
    return ""


def _parameters(row: ScoreRow) -> str:
    # Baselines train nothing; the paper's rows have no number here.
    if row.variant is None:
        return ""
    return f"{row.variant.parameters:,}"


def _seconds(row: ScoreRow) -> str:
    if row.variant is None:
        return ""
    seconds = row.variant.train_seconds
    # Of a small head on stored states the tenths are the difference.
    return f"{seconds:.1f}" if seconds < 10 else f"{seconds:.0f}"


def _caption(
    result: Result,
    beside: PaperTables,
    rows: Sequence[ScoreRow],
) -> str:
    sentences = [
        f"{result.metric}; mean ± deviation over {_seed_counts(result)}, best epoch; the interval"
        " is a bootstrap over rows of the mean over seeds, p over rows is a permutation test on the"
        " same rows, p over seeds Welch's t-test of the seeds' scores."
    ]
    if any(_selected_here(row) for row in rows):
        sentences.append(
            "†: the best epoch was selected on this very split, which flatters it; the last epoch"
            " is not."
        )
    if _has_stuck(rows):
        sentences.append(
            "Seeds that learned: without those that ended no better than the answer that is the"
            " same for every row; they are named above, and counted in every other column."
        )
    if _has_printed(rows):
        model = result.comparison.variants[0].runs[0].backbone_name
        if beside.is_of(model):
            origin = f"The paper's number ({beside.source}) is of its own search and rows"
        else:
            origin = (
                f"The paper's number is of another backbone ({beside.backbone}; {beside.source})"
            )
        sentences.append(
            f"{origin}: beside ours for orientation, not for comparison. Quoted rows were not run"
            " here."
        )
    if _has_probe(rows):
        sentences.append(
            "Linear probe: accuracy of a linear SVM on the frozen vectors, C by cross-validation on"
            " train (Table 8)."
        )
    return " ".join(sentences)


def _selected_here(row: ScoreRow) -> bool:
    return any(score.selected_here for score in row.scores.values())


def _seed_counts(result: Result) -> str:
    """`1 seed`, `3 seeds` or `1 to 3 seeds`."""
    counts = [score.seeds for score in result.first_scores]
    # Variants may have been trained with different numbers of seeds.
    fewest = min(counts)
    most = max(counts)
    if fewest == most:
        return f"{fewest} seed{'' if fewest == 1 else 's'}"
    return f"{fewest} to {most} seeds"


@dataclasses.dataclass(frozen=True)
class _Told:
    """How well a variant tells one class, means over its seeds."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float


def class_section(result: Result) -> list[Block]:
    """Tables of the best variant and of the reference, on the split that people look at first.

    Nothing for tasks without classes, with several classes a row, or without predictions.
    """
    task = result.comparison.variants[0].runs[0].model.task
    if task.label_kind != "classes":
        return []
    split = result.splits[0]
    # The best one first; it may be the reference itself.
    shown = dict.fromkeys([result.best.variant, result.reference or result.best.variant])
    blocks: list[Block] = []
    for label in shown:
        predictions = result.variant(label).predictions(split)
        # Runs of earlier versions kept none.
        if predictions is None:
            continue
        scores = [
            ClassScores.of_rows(seed.labels, seed.predictions, task.classes) for seed in predictions
        ]
        seeds = len(scores)
        caption = f"{label}, {split}; means over {seeds} seed{'' if seeds == 1 else 's'}."
        blocks.append(Table.by_columns(_CLASS_COLUMNS, _told(scores), caption))
        if len(task.classes) <= _MOST_CLASSES:
            blocks.append(_confusion(scores, task.classes, label))
    if blocks:
        blocks.insert(0, Heading(f"{result.comparison.task}: by class", 3))
    return blocks


def _told(scores: Sequence[ClassScores]) -> list[_Told]:
    rows = []
    # The same classes for all seeds, but each has rows of its own where they were held out of
    # train.
    for entries in zip(*(score.classes for score in scores), strict=True):
        first = entries[0]
        means = {
            name: float(np.mean([getattr(entry, name) for entry in entries]))
            for name in ("precision", "recall", "f1")
        }
        support = round(float(np.mean([entry.support for entry in entries])))
        rows.append(_Told(first.name, support, **means))
    return rows


def _confusion(scores: Sequence[ClassScores], classes: Sequence[str], label: str) -> Table:
    """Rows of each class by what they were taken for, summed over seeds."""
    counts = np.sum([score.confusion for score in scores], axis=0)
    rows = []
    for name, taken in zip(classes, counts.tolist(), strict=True):
        rows.append((Cell(name), *(Cell(f"{count:,}") for count in taken)))
    right: Align = "right"
    return Table(
        ("class", *(f"as {name}" for name in classes)),
        tuple(rows),
        f"{label}: rows of each class by what they were taken for, summed over its seeds.",
        ("left", *(right for _ in classes)),
    )


_CLASS_COLUMNS: list[Column[_Told]] = [
    Column("class", lambda row: row.name, align="left"),
    Column("rows", lambda row: f"{row.support:,}"),
    Column("precision", lambda row: f"{row.precision:.3f}"),
    Column("recall", lambda row: f"{row.recall:.3f}"),
    Column("f1", lambda row: f"{row.f1:.3f}"),
]
