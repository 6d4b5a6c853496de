"""Figures of scores: what is drawn, and when there is nothing to draw."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from support.head_runs import run
from support.synthetic_stores import make_store
from support.typed import of_kinds

from glot_jax.reporting import figures
from glot_jax.reporting.comparison import compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.pages import Figure, Heading
from glot_jax.reporting.results import Result
from glot_jax.reporting.score_figures import (
    curve_figure,
    page_colours,
    score_figure,
    z_score_figure,
)
from glot_jax.reporting.tables import Table
from glot_jax.reporting.token_section import norm_section

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

    def plot(panels, baselines, colours):
        drawn.update(baselines)
        return plot_scores(panels, baselines, colours)

    plot_scores = figures.plot_scores
    monkeypatch.setattr(figures, "plot_scores", plot)
    monkeypatch.setattr(
        "glot_jax.reporting.comparison.Comparison.baselines",
        lambda _comparison, _split: {"far": -2.0, "near": 0.9},
    )
    score_figure(results)
    assert all(set(lines) == {"near"} for lines in drawn.values())


def test_a_variant_has_one_colour_on_the_whole_page(results, monkeypatch):
    drawn = []
    for name in ("plot_scores", "plot_curves"):
        plot = getattr(figures, name)

        def spy(*args, plot=plot):
            drawn.append(args[-1])
            return plot(*args)

        monkeypatch.setattr(figures, name, spy)
    score_figure(results)
    curve_figure(results)
    colours = page_colours(results, ["mean"])
    assert drawn == [colours, colours]
    labels = {v.label for result in results for v in result.comparison.variants}
    assert set(colours) == labels
    assert len(set(colours.values())) == len(labels)


def test_z_scores_need_three_poolers(results):
    few = [result for result in results if len(result.first_scores) == 4]
    # mean and adapool; both glots go by other names.
    assert z_score_figure(few) == []


def test_layers_of_one_task_have_a_panel_each(tmp_path, monkeypatch):
    store = make_store(tmp_path / "store", layers=(1, 2))
    for layer in (1, 2):
        run(store, tmp_path / "runs" / f"glot-{layer}", layer=layer, epochs=1)
    runs, _ = find_runs([tmp_path / "runs"])
    results = [Result.from_comparison(comparison, None, 50) for comparison in compare_runs(runs)]
    drawn = []
    for name in ("plot_scores", "plot_curves"):
        plot = getattr(figures, name)

        def spy(*args, plot=plot):
            drawn.append(args[0])
            return plot(*args)

        monkeypatch.setattr(figures, name, spy)
    score_figure(results)
    curve_figure(results)
    for panels in drawn:
        assert len(panels) == 2
        assert all(f"layer {layer}" in " ".join(panels) for layer in (1, 2))
    # A layer of the store stands in the table of norms once, whoever reads it.
    _, table = of_kinds(norm_section(results), Heading, Table)
    assert [row[0].text for row in table.rows] == ["custom, 1", "custom, 2"]
    assert [row[0].bold for row in table.rows] == [True, True]
