"""What a command says when it is done: the score, on what, against what, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glot_jax.files import read_json
from glot_jax.objectives.class_scores import ClassScore, ClassScores
from glot_jax.objectives.probabilities import THRESHOLD
from glot_jax.reporting.tables import Align, Cell, Column, Table
from glot_jax.run_folders.run_folder import Summary

_SHOWN_CLASSES = 12
"""Classes whose confusion matrix fits a terminal."""


def after_training(values: Mapping[str, Any], out: Path, epochs: int) -> list[str]:
    """Lines about a run that has been trained.

    Args:
        values: of its summary.json.
        out: its folder.
        epochs: that it was trained for.
    """
    summary = Summary.from_json(values)
    selecting = summary.selecting.best
    metric = next(iter(selecting))
    name = "the holdout of the training rows"
    if summary.selected_on != "holdout":
        name = next(split for split in summary.splits if split.startswith("validation"))
    epoch = int(selecting["epoch"])
    chosen = f"after epoch {epoch} of {epochs}, the best there"
    if summary.selected_on == "last":
        chosen = f"after the last of {epochs} epochs"
    line = f"{out}: {metric} {selecting[metric]:.3f} on {name}, {chosen}"
    constant = summary.reported_baselines.get("majority", {}).get(metric)
    if constant is not None:
        line += f"; always the same answer: {constant:.3f}"
    return [f"{line}.", *_next_steps(out, values)]


def after_seeds(values: Mapping[str, Any], out: Path) -> list[str]:
    """Lines about a run with several seeds; `values` are those of its summary.json."""
    seeds = values["seeds"]
    summaries = [read_json(out / name / "summary.json") for name in values["runs"]]
    summary = Summary.from_json(summaries[0])
    metric = next(iter(summary.selecting.best))
    scores = [Summary.from_json(run).selecting.best[metric] for run in summaries]
    spelled = ", ".join(f"{score:.3f}" for score in scores)
    mean = sum(scores) / len(scores)
    name = "the holdout of the training rows"
    if summary.selected_on != "holdout":
        name = next(split for split in summary.splits if split.startswith("validation"))
    first = out / f"seed-{seeds[0]}"
    return [
        f"{out}: {metric} {mean:.3f} on {name}, the mean of {len(seeds)} seeds ({spelled}).",
        *_without_stuck(summaries, scores, metric),
        *_next_steps(first, summaries[0]),
    ]


def _without_stuck(
    summaries: Sequence[Mapping[str, Any]], scores: Sequence[float], metric: str
) -> list[str]:
    """A line about seeds that ended no better than a constant answer; none where all learned."""
    # Beside the mean of all seeds, which is the one to report.
    kept = []
    stuck = []
    for values, score in zip(summaries, scores, strict=True):
        if Summary.from_json(values).has_learned:
            kept.append(score)
        else:
            stuck.append(str(values["seed"]))
    if not stuck:
        return []
    line = f"Not learned, no better than always the same answer: seed {', '.join(stuck)}"
    if kept:
        line += f"; {metric} {sum(kept) / len(kept):.3f} without"
    return [f"{line}."]


def _next_steps(out: Path, values: Mapping[str, Any]) -> list[str]:
    run = shlex.quote(str(out))
    lines = [f"Next: glot evaluate {run}"]
    # Runs that rank texts have vectors, and nothing to predict.
    if values.get("task") == "embedding":
        lines.append(f"      glot encode FILE --run {run} --out vectors.parquet")
    else:
        lines.append(f"      glot predict FILE --run {run} --out answers.csv")
    return lines


def after_evaluation(
    split: str,
    scores: Mapping[str, float],
    rows: int,
    classes: ClassScores | None,
) -> list[str]:
    """A line about a split that was judged.

    Args:
        split: its name.
        scores: metric -> value, and the loss.
        rows: how many were judged.
        classes: of a task with classes.
    """
    spelled = ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
    line = f"{split}: {spelled} ({rows:,} rows)"
    if classes is None or not rows:
        return [line]
    if not classes.confusion:
        # Nothing of the run decides it, so it is said.
        line += f"; a class is predicted where its probability is above {THRESHOLD:g}"
    else:
        commonest = max(classes.classes, key=lambda score: score.support)
        share = commonest.support / rows
        line += f"; always {commonest.name}: accuracy {share:.4f}"
    return [line]


def class_table(classes: ClassScores) -> Table:
    """Precision, recall, F1 and rows of every class."""
    columns: list[Column[ClassScore]] = [
        Column("class", lambda score: Cell(score.name), align="left"),
        Column("precision", lambda score: f"{score.precision:.3f}"),
        Column("recall", lambda score: f"{score.recall:.3f}"),
        Column("f1", lambda score: f"{score.f1:.3f}"),
        Column("rows", lambda score: f"{score.support:,}"),
    ]
    return Table.by_columns(columns, classes.classes)


def confusion_table(classes: ClassScores) -> Table | None:
    """Rows of each class by what they were taken for; None where it would not fit, or is none."""
    names = [score.name for score in classes.classes]
    if len(names) > _SHOWN_CLASSES or not classes.confusion:
        return None
    titles = ("class", *(f"as {name}" for name in names))
    rows = []
    for name, counts in zip(names, classes.confusion, strict=True):
        rows.append((Cell(name), *(Cell(f"{count:,}") for count in counts)))
    right: Align = "right"
    return Table(titles, tuple(rows), aligned=("left", *(right for _ in names)))
