"""Figures drawn from the same numbers are the same bytes."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from support.typed import of_kind

from glot_jax.colours import colours_of
from glot_jax.reporting import figures
from glot_jax.reporting.stress_records import StressRecord, StressSetting, StressTraining

TRAINING = StressTraining(lr=1e-3, validation=0.75, parameters=12, seconds=1.5)
TOKENS = ("the", "cat", "sat")
WEIGHTS = {"mean": np.full(3, 1 / 3), "glot": np.array([0.5, 0.3, 0.2])}


def stress() -> Figure:
    settings = [StressSetting("released", 0.5), StressSetting("controlled", 0.5, position=0.0)]
    records = []
    for setting in settings:
        records.append(StressRecord(setting, "length", 1, 0.5))
        records.append(StressRecord(setting, "glot", 1, 0.75, TRAINING))
        records.append(StressRecord(setting, "glot", 2, 0.85, TRAINING))
    return figures.stress_figure(records)


def token_graph() -> Figure:
    return figures.plot_token_graph(TOKENS, np.eye(3), np.eye(3, dtype=bool), WEIGHTS)


DRAWINGS = {
    "stress": stress,
    "scores": lambda: figures.plot_scores(
        {"task": [("glot", 0.5, (0.4, 0.6)), ("mean", 0.4, None)]},
        {"task": {"majority": 0.3}},
        colours_of(["glot", "mean"]),
    ),
    "curves": lambda: figures.plot_curves(
        {"task": {"glot": [[(1, 0.4), (2, 0.5)], [(1, 0.3), (2, 0.6)]]}},
        colours_of(["glot"]),
    ),
    "z-scores": lambda: figures.plot_z_scores({"kind": {"glot": {"B": 1.0}}}, ["A", "B"]),
    "contributions": lambda: figures.plot_contributions(TOKENS, WEIGHTS),
    "token graph": token_graph,
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_the_same_numbers_give_the_same_bytes(name):
    drawn = figures.svg(DRAWINGS[name]())
    assert ET.fromstring(drawn).tag.endswith("svg")
    assert figures.svg(DRAWINGS[name]()) == drawn


def test_a_panel_for_each_setting_and_a_bar_for_each_label():
    axes = stress().axes
    assert [axis.get_title() for axis in axes] == [
        "released, 50% distractors",
        "controlled, 50% distractors, position 0",
    ]
    labels = [label.get_text() for label in axes[0].get_yticklabels()]
    assert labels == ["glot", "control: length"]  # from the bottom up
    assert of_kind(axes[0].patches[0], Rectangle).get_width() == pytest.approx(0.8)


def test_the_heaviest_tokens_of_glot_are_marked():
    (axis,) = figures.plot_contributions(TOKENS, WEIGHTS, most=1).axes
    weights = [label.get_fontweight() for label in axis.get_xticklabels()]
    assert weights == ["bold", "normal", "normal"]
