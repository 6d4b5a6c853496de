"""A comparison with its statistics: the reference, the split that is looked at first, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.typed import present

from glot_jax.reporting.comparison import Comparison, compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.results import Result

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once


@pytest.fixture(scope="module")
def comparison(folder: Path) -> Comparison:
    runs, _ = find_runs([folder / "runs" / "classes"])
    (comparison,) = compare_runs(runs)
    return comparison


def test_the_reference_is_the_first_glot_unless_another_is_named(comparison):
    assert Result.from_comparison(comparison, None, 50).reference == "glot, tau 0.6"
    assert Result.from_comparison(comparison, "mean", 50).reference == "mean"
    assert Result.from_comparison(comparison, "nobody", 50).reference == "glot, tau 0.6"


def test_only_the_first_split_is_tested(comparison):
    result = Result.from_comparison(comparison, None, 50)
    assert result.splits == ["test", "validation"]
    assert {score.split for score in result.first_scores} == {"test"}
    for score in result.first_scores:
        assert (score.difference is None) == (score.variant == result.reference)
    assert all(score.difference is None for score in result.by_split["validation"])
    assert result.best.mean == max(score.mean for score in result.first_scores)
    assert present(result.reference_score).variant == result.reference


def test_a_probe_counts_where_every_seed_has_one(comparison):
    result = Result.from_comparison(comparison, None, 50)
    runs = result.variant("glot, tau 0.6").runs
    try:
        (runs[0].path / "probe.json").write_text(json.dumps({"test": {"accuracy": 0.5}}))
        assert result.probe("glot, tau 0.6", "test") is None
        (runs[1].path / "probe.json").write_text(json.dumps({"test": {"accuracy": 0.75}}))
        mean, deviation = present(result.probe("glot, tau 0.6", "test"))
        assert (mean, deviation) == (0.625, pytest.approx(np.std([0.5, 0.75], ddof=1)))
        assert result.probe("glot, tau 0.6", "validation") is None
    finally:
        for run in runs:
            (run.path / "probe.json").unlink(missing_ok=True)


def test_its_values_are_plain(comparison):
    values = Result.from_comparison(comparison, None, 50).to_json()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert len(values["variants"]) == 2 * 4
    first = values["variants"][0]
    assert first["mean"] == pytest.approx(np.mean(first["seed_scores"]))
    assert len(first["interval"]) == 2
