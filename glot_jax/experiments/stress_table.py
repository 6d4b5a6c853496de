"""The table that `glot stress` prints of each setting."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from glot_jax.reporting.statistics import mean_deviation, number_text, p_text
from glot_jax.reporting.stress_records import (
    StressComparison,
    StressRecord,
    StressSetting,
    StressTraining,
)
from glot_jax.reporting.tables import Column, Table, table_console


@dataclasses.dataclass(frozen=True)
class _Line:
    """The seeds of one pooler, or one control."""

    label: str
    accuracies: tuple[float, ...]
    trainings: tuple[StressTraining, ...]
    """Of each seed; none of a control."""
    comparison: StressComparison | None
    """None for a control."""


def print_stress(
    setting: StressSetting,
    records: Sequence[StressRecord],
    comparisons: Sequence[StressComparison],
    train_rows: int,
) -> None:
    """Print one setting: controls and poolers with their accuracies, intervals and differences.

    Args:
        setting: what the records are of.
        records: of each control, and of each pooler and seed.
        comparisons: of each pooler.
        train_rows: texts that each pooler was trained on.
    """
    # One table for each setting, as soon as it is done.
    table = Table.by_columns(_COLUMNS, _lines(records, comparisons))
    title = (
        f"stress test, {setting.protocol}, {setting.ratio:.0%} distractors{setting.where},"
        f" {train_rows} training rows, chance 0.5"
    )
    table_console().print(table.to_console(title))


def _lines(
    records: Sequence[StressRecord],
    comparisons: Sequence[StressComparison],
) -> list[_Line]:
    # Controls are compared with nobody.
    compared = {comparison.pooler: comparison for comparison in comparisons}
    seeds: dict[str, list[StressRecord]] = {}
    for record in records:
        seeds.setdefault(record.label, []).append(record)
    lines = []
    for label, members in seeds.items():
        accuracies = tuple(record.accuracy for record in members)
        # A control is not trained, and so is none of its records.
        trainings = tuple(record.training for record in members if record.training is not None)
        lines.append(_Line(label, accuracies, trainings, compared.get(label)))
    return lines


def _interval(line: _Line) -> str:
    comparison = line.comparison
    if comparison is None:
        return ""
    if comparison.interval is not None:
        return str(comparison.interval)
    # What an interval is drawn from: twins count once.
    noun = "rows" if comparison.independent == comparison.rows else "pairs of twins"
    return f"{comparison.independent} {noun}: too few"


def _difference(line: _Line) -> str:
    if line.comparison is None or line.comparison.difference is None:
        return ""
    difference = line.comparison.difference
    return f"{difference.value:+.3f}{p_text(difference.p, difference.p_seeds)}"


def _validation(line: _Line) -> str:
    if not line.trainings:
        return ""
    accuracies = [training.validation for training in line.trainings]
    return number_text(*mean_deviation(accuracies))


def _lr(line: _Line) -> str:
    # One rate for all seeds: the first seed chose it.
    if line.trainings:
        return f"{line.trainings[0].lr:g}"
    return ""


def _parameters(line: _Line) -> str:
    if line.trainings:
        return f"{line.trainings[0].parameters:,}"
    return ""


def _seconds(line: _Line) -> str:
    if not line.trainings:
        return ""
    return f"{statistics.mean(training.seconds for training in line.trainings):.1f}"


_COLUMNS: list[Column[_Line]] = [
    Column("pooler or control", lambda line: line.label, align="left"),
    Column("test accuracy", lambda line: number_text(*mean_deviation(line.accuracies))),
    Column("95 % of rows", _interval),
    Column("glot - this (p rows; seeds)", _difference),
    Column("validation", _validation),
    Column("lr", _lr),
    Column("parameters", _parameters),
    Column("train s", _seconds),
]
