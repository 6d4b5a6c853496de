"""The section of a report about a stress test: its table and the paper's Figure 3."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from glot_jax.reporting import figures, paper
from glot_jax.reporting.pages import Block, Figure, Heading
from glot_jax.reporting.statistics import mean_deviation, number_text, p_text
from glot_jax.reporting.stress_records import (
    StressComparison,
    StressRecord,
    StressSetting,
    read_comparisons,
    read_records,
)
from glot_jax.reporting.tables import Column, Table

_CAPTION = (
    "Chance is 0.5. Controls see the length or the words alone, never their relation;"
    " glot-self-loops, -complete and -random are GLOT on graphs that know nothing of the text."
    " p over rows: a permutation test of these trained heads on the same rows; over seeds:"
    " whether training again gives the same order (Welch)."
)


@dataclasses.dataclass(frozen=True)
class StressRow:
    """A pooler or control in one setting."""

    setting: StressSetting
    label: str
    is_control: bool
    accuracies: tuple[float, ...]
    """Of each seed."""
    comparison: StressComparison | None
    """None for controls, and where an earlier version compared nothing."""

    @property
    def printed(self) -> float | None:
        """The paper's accuracy (Table 7, BERT, times 100), of its own protocol alone."""
        # Released and controlled texts are other texts, whatever their share of distractors.
        if self.setting.protocol != "paper":
            return None
        rows = paper.TABLES["table7"]["BERT"]
        # Its columns are the shares of distractors; controls and our own poolers have no row.
        column = f"{self.setting.ratio:g}"
        return rows.get(self.label, {}).get(column)


def stress_section(folder: Path, number: int) -> list[Block]:
    """Heading, table and figure of one stress test.

    Args:
        folder: of the test, with stress.json and perhaps comparison.json.
        number: counts the stress tests of a page from 0, so that their figures have names of
            their own.

    Raises:
        UsageError: a file that is missing or damaged.
    """
    records = read_records(folder)
    rows = stress_rows(records, read_comparisons(folder))
    # A plain name for the first: most reports have one test.
    figure = Figure(
        f"stress{number or ''}",
        figures.svg(figures.stress_figure(records)),
        "Figure 3: accuracy by share of distractors.",
    )
    table = Table.by_columns(
        _columns(rows),
        rows,
        _CAPTION,
        faint=lambda row: row.is_control,
    )
    return [Heading("Stress test"), table, figure]


def stress_rows(
    records: Sequence[StressRecord],
    comparisons: Sequence[StressComparison],
) -> list[StressRow]:
    """A row for each pooler and control of each setting, seeds together.

    In the order of the records.
    """
    # By label: a pooler has the same one in both files, and a control is in one of them alone.
    compared = {(other.setting, other.pooler): other for other in comparisons}
    members: dict[tuple[StressSetting, str], list[StressRecord]] = {}
    for record in records:
        row = (record.setting, record.label)
        members.setdefault(row, []).append(record)
    rows = []
    for (setting, label), seeds in members.items():
        # Seeds of one pooler are one row: mean and deviation are over them.
        accuracies = tuple(record.accuracy for record in seeds)
        # A control is not trained.
        is_control = seeds[0].training is None
        comparison = compared.get((setting, label))
        rows.append(StressRow(setting, label, is_control, accuracies, comparison))
    return rows


def _columns(rows: Sequence[StressRow]) -> list[Column[StressRow]]:
    return [
        Column("protocol, distractors", _setting),
        Column("pooler or control", lambda row: row.label),
        Column("test accuracy", lambda row: number_text(*mean_deviation(row.accuracies))),
        Column("95 % of rows", _interval),
        Column("glot - this (p rows; seeds)", _difference),
        Column(
            "paper, BERT (Table 7)",
            _printed,
            shown_if=any(row.printed is not None for row in rows),
        ),
    ]


def _setting(row: StressRow) -> str:
    return f"{row.setting.protocol}, {row.setting.ratio:.0%}{row.setting.where}"


def _interval(row: StressRow) -> str:
    if row.comparison is None or row.comparison.interval is None:
        return ""
    return str(row.comparison.interval)


def _difference(row: StressRow) -> str:
    if row.comparison is None or row.comparison.difference is None:
        return ""
    difference = row.comparison.difference
    return f"{difference.value:+.3f}{p_text(difference.p, difference.p_seeds)}"


def _printed(row: StressRow) -> str:
    if row.printed is None:
        return ""
    # The paper prints accuracies times 100.
    return f"{row.printed / 100:.3f}"
