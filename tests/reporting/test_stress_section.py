"""The section of a stress test, from records made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from support.typed import of_kinds

from glot_jax.reporting.pages import Figure, Heading
from glot_jax.reporting.statistics import Difference, Interval
from glot_jax.reporting.stress_records import (
    StressComparison,
    StressRecord,
    StressSetting,
    StressTraining,
)
from glot_jax.reporting.stress_section import stress_section
from glot_jax.reporting.tables import Table

TRAINING = StressTraining(lr=1e-3, validation=0.75, parameters=12, seconds=1.5)
PAPER = StressSetting("paper", 0.2)
RELEASED = StressSetting("released", 0.2, position=0.5)


def write(
    folder: Path, records: Sequence[StressRecord], comparisons: Sequence[StressComparison]
) -> None:
    (folder / "stress.json").write_text(json.dumps([record.to_json() for record in records]))
    values = [comparison.to_json() for comparison in comparisons]
    (folder / "comparison.json").write_text(json.dumps(values))


def cells(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


def test_seeds_stand_together_and_controls_are_faint(tmp_path):
    records = [
        StressRecord(PAPER, "length", 1, 0.5),
        StressRecord(PAPER, "mean", 1, 0.4, TRAINING),
        StressRecord(PAPER, "mean", 2, 0.6, TRAINING),
        StressRecord(RELEASED, "glot", 1, 0.75, TRAINING),
    ]
    difference = Difference(0.25, None, 0.031, 0.5)
    mean = StressComparison(PAPER, "mean", 40, 40, 0.5, 0.1, Interval(0.25, 0.75), difference)
    write(tmp_path, records, [mean])
    heading, table, figure = of_kinds(stress_section(tmp_path, 1), Heading, Table, Figure)
    assert heading.text == "Stress test"
    assert figure.name == "stress1"
    assert table.titles[-1] == "paper, BERT (Table 7)"
    assert cells(table) == [
        ["paper, 20%", "control: length", "0.500", "", "", ""],
        [
            "paper, 20%",
            "mean",
            "0.500 ± 0.141",
            "[0.250, 0.750]",
            "+0.250 (0.031; 0.500)",
            "0.680",
        ],
        # Another protocol: the paper's number stands beside its own alone.
        ["released, 20%, position 0.5", "glot", "0.750", "", "", ""],
    ]
    assert [row[0].faint for row in table.rows] == [True, False, False]


def test_without_the_papers_protocol_its_column_is_left_out(tmp_path):
    write(tmp_path, [StressRecord(RELEASED, "glot", 1, 0.75, TRAINING)], [])
    _, table, figure = of_kinds(stress_section(tmp_path, 0), Heading, Table, Figure)
    assert figure.name == "stress"
    assert "paper, BERT (Table 7)" not in table.titles
    # Nor are there tests or a second protocol to tell of.
    assert table.titles == ("protocol, distractors", "pooler or control", "test accuracy")
    assert len(table.rows[0]) == 3
