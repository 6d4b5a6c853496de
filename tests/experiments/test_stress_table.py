"""The printed table of a stress test, from records made by hand."""

from __future__ import annotations

from glot_jax.experiments.stress_table import print_stress
from glot_jax.reporting.statistics import Difference, Interval
from glot_jax.reporting.stress_records import (
    StressComparison,
    StressRecord,
    StressSetting,
    StressTraining,
)

SETTING = StressSetting("controlled", 0.9, distance=7)


def test_controls_and_poolers_stand_in_one_table(capsys):
    records = [StressRecord(SETTING, "length", 1, 0.5)]
    for seed, accuracy in ((1, 0.25), (2, 0.75)):
        training = StressTraining(lr=2e-4, validation=accuracy, parameters=1234, seconds=seed)
        records.append(StressRecord(SETTING, "mean", seed, accuracy, training))
    training = StressTraining(lr=1e-3, validation=0.5, parameters=10, seconds=2.0)
    records.append(StressRecord(SETTING, "glot", 1, 0.5, training))
    comparisons = [
        StressComparison(
            SETTING, "mean", 40, 20, 0.5, 0.35, Interval(0.25, 0.75), Difference(0.0, None, 0.5)
        ),
        StressComparison(SETTING, "glot", 10, 5, 0.5, None, None, None),
    ]
    print_stress(SETTING, records, comparisons, 64)
    shown = capsys.readouterr().out
    assert "stress test, controlled, 90% distractors, distance 7, 64 training rows" in shown
    lines = [line.split("│")[1:-1] for line in shown.splitlines() if "│" in line]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert cells == [
        ["control: length", "0.500", "", "", "", "", "", ""],
        [
            "mean",
            "0.500 ± 0.354",
            "[0.250, 0.750]",
            "+0.000 (0.500)",
            "0.500 ± 0.354",
            "0.0002",
            "1,234",
            "1.5",
        ],
        ["glot", "0.500", "5 pairs of twins: too few", "", "0.500", "0.001", "10", "2.0"],
    ]
