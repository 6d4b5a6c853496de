"""Figures of scores: what is drawn, and when there is nothing to draw."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.typed import of_kinds

from glot_jax.reporting import figures
from glot_jax.reporting.comparison import compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.pages import Figure, Heading
from glot_jax.reporting.results import Result
from glot_jax.reporting.score_figures import curve_figure, score_figure, z_score_figure

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once


@pytest.fixture(scope="module")
def results(folder: Path) -> list[Result]:
    runs, _ = find_runs([folder / "runs"])
    return [Result.from_comparison(comparison, None, 50) for comparison in compare_runs(runs)]


def test_figures_are_drawings(results):
    for section in (score_figure(results), curve_figure(results), z_score_figure(results)):
        _, figure = of_kinds(section, Heading, Figure)
        assert ET.fromstring(figure.svg).tag.endswith("svg")


def test_baselines_far_below_the_scores_are_left_out(results, monkeypatch):
    drawn = {}

    def plot(panels, baselines):
        drawn.update(baselines)
        return plot_scores(panels, baselines)

    plot_scores = figures.plot_scores
    monkeypatch.setattr(figures, "plot_scores", plot)
    monkeypatch.setattr(
        "glot_jax.reporting.comparison.Comparison.baselines",
        lambda _comparison, _split: {"far": -2.0, "near": 0.9},
    )
    score_figure(results)
    assert all(set(lines) == {"near"} for lines in drawn.values())


def test_z_scores_need_three_poolers(results):
    few = [result for result in results if len(result.first_scores) == 4]
    # mean and adapool; both glots go by other names.
    assert z_score_figure(few) == []
