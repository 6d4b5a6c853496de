"""Records of a stress test: what is written is read again, whatever the setting has."""

from __future__ import annotations

import json

import pytest

from glot_jax.reporting.statistics import Difference, Interval
from glot_jax.reporting.stress_records import (
    StressComparison,
    StressRecord,
    StressSetting,
    StressTraining,
    read_comparisons,
    read_records,
)

PLAIN = StressSetting("released", 0.5)
PLACED = StressSetting("controlled", 0.9, distance=7, position=0.0)
DECODER = StressSetting("controlled", 0.9, layer=20, sinks="keep")


def test_a_setting_writes_what_is_set():
    assert PLAIN.to_json() == {"protocol": "released", "ratio": 0.5}
    assert PLACED.to_json() == {
        "protocol": "controlled",
        "ratio": 0.9,
        "distance": 7,
        "position": 0.0,
    }
    assert (PLAIN.name, PLACED.name) == ("released-0.5", "controlled-0.9-distance7-position0")
    assert (PLAIN.where, PLACED.where) == ("", ", distance 7, position 0")
    assert DECODER.to_json() == {
        "protocol": "controlled",
        "ratio": 0.9,
        "layer": 20,
        "sinks": "keep",
    }
    # Both treatments read one store.
    assert DECODER.name == "controlled-0.9-layer20"
    assert DECODER.where == ", layer 20, sinks kept"


@pytest.mark.parametrize("setting", [PLAIN, PLACED, DECODER])
def test_records_are_read_as_they_were_written(setting, tmp_path):
    training = StressTraining(lr=1e-3, validation=0.75, parameters=12, seconds=1.5)
    records = [
        StressRecord(setting, "length", 42, 0.5),
        StressRecord(setting, "glot", 42, 0.9, training),
    ]
    assert [record.label for record in records] == ["control: length", "glot"]
    values = [record.to_json() for record in records]
    (tmp_path / "stress.json").write_text(json.dumps(values))
    assert read_records(tmp_path) == records
    assert "pooler" not in values[0]
    assert "control" not in values[1]


@pytest.mark.parametrize("setting", [PLAIN, PLACED, DECODER])
def test_comparisons_are_read_as_they_were_written(setting, tmp_path):
    interval = Interval(0.4, 0.6)
    difference = Difference(0.1, Interval(0.0, 0.2), 0.03, None)
    comparisons = [
        StressComparison(setting, "glot", 40, 20, 0.5, 0.1, interval, None),
        StressComparison(setting, "mean", 40, 20, 0.4, None, None, difference),
    ]
    values = [comparison.to_json() for comparison in comparisons]
    (tmp_path / "comparison.json").write_text(json.dumps(values))
    assert read_comparisons(tmp_path) == comparisons


def test_a_test_of_an_earlier_version_compared_nothing(tmp_path):
    assert read_comparisons(tmp_path) == []
