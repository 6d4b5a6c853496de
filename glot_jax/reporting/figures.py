"""Figures. The only import of matplotlib, which comes with the extra `viz`."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from glot_jax.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe-Ito, distinguishable without colour vision.
_POOLER, _CONTROL, _OURS = "#56B4E9", "#BBBBBB", "#D55E00"
_CYCLE = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#000000",
    "#999999",
    "#882255",
    "#44AA99",
    "#AA4499",
    "#661100",
)


def svg(figure: Figure) -> str:
    """The figure as an SVG element, the same bytes whenever it is drawn from the same numbers."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "glot-jax"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def plot_stress(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write `stress_figure` as an image."""
    with whole_file(path) as temporary:
        stress_figure(records).savefig(temporary, dpi=150)


def stress_figure(records: Sequence[dict[str, Any]]) -> Figure:
    """A panel per test, as in the paper's Figure 3: accuracy of poolers and controls, deviation
    over seeds, chance as a line.

    A row of panels per protocol, a panel per ratio (and distance, and position).
    """
    panels = list(dict.fromkeys(_panel(record) for record in records))
    protocols = list(dict.fromkeys(protocol for protocol, _ in panels))
    columns = max(sum(protocol == of for protocol, _ in panels) for of in protocols)
    size = (4.4 * columns, 4.2 * len(protocols))
    figure, axes = plt.subplots(
        len(protocols), columns, figsize=size, squeeze=False, sharex=True, layout="constrained"
    )
    for row, of in zip(axes, protocols, strict=True):
        mine = [panel for panel in panels if panel[0] == of]
        for axis in row[len(mine) :]:
            axis.set_visible(False)
        for axis, panel in zip(row, mine, strict=False):
            here = [record for record in records if _panel(record) == panel]
            names = list(dict.fromkeys(_label(record) for record in here))[::-1]
            values = [
                [record["accuracy"] for record in here if _label(record) == name] for name in names
            ]
            axis.barh(
                names,
                [statistics.mean(of) for of in values],
                xerr=[statistics.stdev(of) if len(of) > 1 else 0 for of in values],
                color=[
                    _OURS if name == "glot" else _CONTROL if name.startswith("control") else _POOLER
                    for name in names
                ],
            )
            for position, scores in enumerate(values):
                axis.text(0.02, position, f"{statistics.mean(scores):.3f}", va="center", fontsize=8)
            axis.axvline(0.5, color="black", linewidth=1, linestyle="--")
            axis.set(
                xlim=(0, 1),
                xlabel="test accuracy (dashed: chance)",
                title=f"{panel[0]}, {panel[1]}",
            )
    plt.close(figure)
    return figure


def _panel(record: dict[str, Any]) -> tuple[str, str]:
    """Protocol, and what else a test is told by."""
    where = "".join(
        f", {name} {record[name]:g}" for name in ("distance", "position") if name in record
    )
    return record["protocol"], f"{record['ratio']:.0%} distractors{where}"


def _label(record: dict[str, Any]) -> str:
    return record["pooler"] if "pooler" in record else f"control: {record['control']}"


def plot_importance(shares: dict[str, float], path: Path, title: str) -> None:
    """A bar per setting: the share of the scores' variance it explains."""
    figure, axis = plt.subplots(figsize=(6, 0.4 * len(shares) + 1.4), layout="constrained")
    names = sorted(shares, key=lambda name: shares[name])
    axis.barh(names, [shares[name] for name in names], color=_POOLER)
    axis.set(xlim=(0, 1), xlabel="share of the variance explained (functional ANOVA)", title=title)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)


def plot_scores(
    panels: Mapping[str, Sequence[tuple[str, float, tuple[float, float] | None]]],
    baselines: Mapping[str, Mapping[str, float]],
) -> Figure:
    """A panel per task and split: the score of each variant as a point with its interval, baselines
    as dashed lines.

    Args:
        panels: title -> (variant, score, interval or None), drawn from top to bottom.
        baselines: title -> name -> score.
    """
    rows = max(len(of) for of in panels.values())
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(4.6 * len(panels) + 0.6, 0.34 * rows + 1.4),
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, scores) in zip(axes[0], panels.items(), strict=True):
        names = [name for name, _, _ in scores]
        for place, (name, score, interval) in enumerate(scores):
            low, high = interval or (score, score)
            colour = _OURS if name.startswith("glot") else _POOLER
            axis.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axis.plot([score], [place], marker="o", color=colour, markersize=6)
        for style, (name, value) in zip(
            ("--", ":", "-."), baselines.get(title, {}).items(), strict=False
        ):
            axis.axvline(value, color="black", linestyle=style, linewidth=1, label=name)
        if baselines.get(title):
            axis.legend(fontsize=7, loc="best")
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
        axis.set_title(title, fontsize=10)
    plt.close(figure)
    return figure


def plot_curves(
    panels: Mapping[str, Mapping[str, Sequence[Sequence[tuple[int, float]]]]],
) -> Figure:
    """A panel per task: a score by epoch, a line per variant (mean of its seeds, the seeds
    themselves faint).

    Args:
        panels: title -> variant -> a sequence of (epoch, score) for each seed.
    """
    figure, axes = plt.subplots(
        1, len(panels), figsize=(4.6 * len(panels) + 1.8, 3.6), squeeze=False, layout="constrained"
    )
    handles: dict[str, Any] = {}
    for axis, (title, variants) in zip(axes[0], panels.items(), strict=True):
        for number, (name, seeds) in enumerate(variants.items()):
            colour = _CYCLE[number % len(_CYCLE)]
            for points in seeds if len(seeds) > 1 else ():
                axis.plot(*zip(*points, strict=True), color=colour, alpha=0.25, linewidth=1)
            epochs = [epoch for epoch, _ in seeds[0]]
            means = [statistics.mean(of[place][1] for of in seeds) for place in range(len(epochs))]
            handles[name] = axis.plot(
                epochs, means, color=colour, marker="o", markersize=3, linewidth=1.8
            )[0]
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8)
    plt.close(figure)
    return figure


def plot_z_scores(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]], backbones: Sequence[str]
) -> Figure:
    """The paper's Figure 4: a panel per kind of task, z-score by backbone, a line per pooler.

    Args:
        panels: kind -> pooler -> backbone -> mean z-score.
        backbones: from left to right.
    """
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(4.4 * len(panels) + 1.2, 3.6),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    handles: dict[str, Any] = {}
    for axis, (title, poolers) in zip(axes[0], panels.items(), strict=True):
        for number, (name, scores) in enumerate(poolers.items()):
            places = [place for place, backbone in enumerate(backbones) if backbone in scores]
            values = [scores[backbones[place]] for place in places]
            colour = _OURS if name == "glot" else _CYCLE[number % len(_CYCLE)]
            handles[name] = axis.plot(
                places, values, marker="o", color=colour, linewidth=2.4 if name == "glot" else 1.2
            )[0]
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xticks(range(len(backbones)), backbones, rotation=40, ha="right", fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("z-score over poolers")
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8)
    plt.close(figure)
    return figure


def plot_contributions(
    tokens: Sequence[str], weights: Mapping[str, np.ndarray], marked: str = "glot", most: int = 3
) -> Figure:
    """The paper's Figure 5: how much of a sentence vector each token gives, a group of bars per
    token.

    Args:
        tokens: the sentence's `length` tokens.
        weights: pooler -> [length], summing to 1.
        marked: the pooler whose `most` heaviest tokens are coloured on the axis.
    """
    places, width = np.arange(len(tokens)), 0.8 / len(weights)
    figure, axis = plt.subplots(
        figsize=(max(5.0, 0.42 * len(tokens) + 2), 3.2), layout="constrained"
    )
    for number, (name, values) in enumerate(weights.items()):
        axis.bar(
            places + (number - (len(weights) - 1) / 2) * width,
            values,
            width,
            label=name,
            color=_OURS if name == marked else _CYCLE[number % len(_CYCLE)],
        )
    axis.set_xticks(places, tokens, rotation=60, ha="right")
    for place in np.argsort(weights[marked])[::-1][:most] if marked in weights else ():
        axis.get_xticklabels()[place].set_color(_OURS)
        axis.get_xticklabels()[place].set_fontweight("bold")
    axis.set_ylabel("weight in the sentence vector")
    axis.legend(fontsize=8)
    plt.close(figure)
    return figure


def plot_token_graph(
    tokens: Sequence[str],
    similarity: np.ndarray,
    adjacency: np.ndarray,
    weights: Mapping[str, np.ndarray] | None = None,
) -> Figure:
    """One sentence: its cosines with the edges marked, and how much each pooler counts each token.

    Args:
        tokens: the sentence's `length` tokens.
        similarity: [length, length] cosines.
        adjacency: [length, length] bool, [i, j] = edge j -> i.
        weights: pooler name -> [length]; None or empty: the graph alone.
    """
    length, side = len(tokens), 0.3 * len(tokens) + 1.6
    figure, axes = plt.subplots(
        1,
        2 if weights else 1,
        figsize=(side + 1 + (4.5 if weights else 0), side),
        width_ratios=[side + 1, 4.5] if weights else None,
        squeeze=False,
        layout="constrained",
    )
    graph = axes[0, 0]
    image = graph.imshow(similarity, vmin=-1, vmax=1, cmap="RdBu_r")
    receivers, senders = np.nonzero(adjacency)
    graph.scatter(senders, receivers, s=14, color="black", label="edge")
    graph.set_xticks(range(length), tokens, rotation=90)
    graph.set_yticks(range(length), tokens)
    graph.set_title("cosines of token states; dots are edges", fontsize=10)
    figure.colorbar(image, ax=graph, fraction=0.046, pad=0.03)
    if weights:
        bars, height = axes[0, 1], 0.8 / len(weights)
        for index, (name, values) in enumerate(weights.items()):
            colour = _OURS if name == "glot" else _CYCLE[index % len(_CYCLE)]
            bars.barh(
                np.arange(length) + (index - (len(weights) - 1) / 2) * height,
                values,
                height=height,
                label=name,
                color=colour,
            )
        bars.set_yticks(range(length), tokens)
        bars.set_ylim(length - 0.5, -0.5)
        bars.set_title("weight of each token in the sentence vector", fontsize=10)
        bars.legend(
            fontsize=8,
            loc="lower center",
            bbox_to_anchor=(0.5, -0.02 - 1.1 / side),
            ncols=len(weights),
            frameon=False,
        )
    plt.close(
        figure
    )  # a notebook shows what a cell returns; open figures it would show a second time
    return figure
