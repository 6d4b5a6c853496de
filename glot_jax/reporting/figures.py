"""Figures. The only import of matplotlib, which comes with the extra `viz`."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from glot_jax.colours import colours_of
from glot_jax.files import whole_file
from glot_jax.reporting.stress_records import StressRecord, StressSetting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.lines import Line2D

_PLAIN = "#0072B2"
"""Of bars that stand for no variant."""
_MARK = "#D55E00"
"""Of tokens that are pointed at."""
_STYLES = ("--", ":", "-.")
"""Lines of baselines."""

ScorePanel = Sequence[tuple[str, float, tuple[float, float] | None]]
"""(variant, score, interval or None), drawn from top to bottom."""
CurvePanel = Mapping[str, Sequence[Sequence[tuple[int, float]]]]
"""Variant -> a sequence of (epoch, score) for each seed."""


def svg(figure: Figure) -> str:
    """The figure as an SVG element, the same bytes whenever it is drawn from the same numbers."""
    # Text, not bytes: an SVG inside a page is part of its HTML.
    buffer = io.StringIO()
    # Ids inside an SVG are salted hashes; without a salt of ours matplotlib draws one at random.
    with mpl.rc_context({"svg.hashsalt": "glot-jax"}):
        figure.savefig(
            buffer,
            format="svg",
            # matplotlib would write the time and its own version.
            metadata={"Date": None, "Creator": None},
        )
    # pyplot keeps what it made until it is closed, and warns when there are many.
    plt.close(figure)
    text = buffer.getvalue()
    # Without the XML header, which may stand at the head of a file alone.
    return text[text.index("<svg") :]


def plot_stress(records: Sequence[StressRecord], path: Path) -> None:
    """Write `stress_figure` as an image."""
    figure = stress_figure(records)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)


def stress_figure(records: Sequence[StressRecord]) -> Figure:
    """Draw the paper's Figure 3: accuracies with their deviation over seeds, chance as a line.

    A row of panels for each protocol, a panel for each of its settings.
    """
    by_protocol: dict[str, list[StressSetting]] = {}
    # Each setting once, in the order of the records: a set would lose it.
    for setting in dict.fromkeys(record.setting for record in records):
        by_protocol.setdefault(setting.protocol, []).append(setting)
    columns = max(len(settings) for settings in by_protocol.values())
    figure, axes = plt.subplots(
        len(by_protocol),
        columns,
        figsize=(4.4 * columns, 4.2 * len(by_protocol)),
        squeeze=False,
        sharex=True,
        layout="constrained",
    )
    for row, settings in zip(axes, by_protocol.values(), strict=True):
        # A grid is rectangular: a protocol with fewer settings leaves panels over.
        for axis in row[len(settings) :]:
            axis.set_visible(False)
        # A row may have more panels than settings.
        for axis, setting in zip(row, settings, strict=False):
            _stress_panel(axis, setting, records)
    plt.close(figure)
    return figure


def _stress_panel(
    axis: Axes,
    setting: StressSetting,
    records: Sequence[StressRecord],
) -> None:
    accuracies: dict[str, list[float]] = {}
    for record in records:
        if record.setting == setting:
            accuracies.setdefault(record.label, []).append(record.accuracy)
    # Bars are drawn from the bottom up; the first record belongs to the top.
    labels = list(accuracies)[::-1]
    colours = colours_of(accuracies)
    scores = list(accuracies.values())[::-1]
    means = list(map(statistics.mean, scores))
    axis.barh(
        labels,
        means,
        xerr=list(map(_deviation, scores)),
        color=[colours[label] for label in labels],
    )
    for position, mean in enumerate(means):
        axis.text(0.02, position, f"{mean:.3f}", va="center", fontsize=8)
    # Twins are balanced: whoever guesses is right for half of the rows.
    axis.axvline(0.5, color="black", linewidth=1, linestyle="--")
    axis.set(
        # The same in every panel, though no bar may be long: panels are read side by side.
        xlim=(0, 1),
        xlabel="test accuracy (dashed: chance)",
        title=f"{setting.protocol}, {setting.ratio:.0%} distractors{setting.where}",
    )


def _deviation(values: Sequence[float]) -> float:
    if len(values) > 1:
        return statistics.stdev(values)
    return 0


def plot_importance(
    shares: Mapping[str, float],
    path: Path,
    title: str,
) -> None:
    """Write a bar for each setting: the share of the scores' variance that it explains."""
    height = 0.4 * len(shares) + 1.4
    figure, axis = plt.subplots(figsize=(6, height), layout="constrained")
    # From the bottom up, so that the largest share stands at the top.
    ordered = sorted(shares.items(), key=lambda share: share[1])
    axis.barh(*zip(*ordered, strict=True), color=_PLAIN)
    axis.set(
        xlim=(0, 1),
        xlabel="share of the variance explained (functional ANOVA)",
        title=title,
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=150)
    plt.close(figure)


def plot_scores(
    panels: Mapping[str, ScorePanel],
    baselines: Mapping[str, Mapping[str, float]],
    colours: Mapping[str, str],
) -> Figure:
    """Draw a panel per task and split: scores as points with intervals, baselines as lines.

    Args:
        panels: title -> scores of the variants.
        baselines: title -> name -> score.
        colours: variant -> its colour (`glot_jax.colours`).
    """
    # All panels are as high as the one with the most variants.
    rows = max(len(scores) for scores in panels.values())
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(4.6 * len(panels) + 0.6, 0.34 * rows + 1.4),
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, scores) in zip(axes[0], panels.items(), strict=True):
        _score_panel(axis, scores, baselines.get(title, {}), colours)
        axis.set_title(title, fontsize=10)
    plt.close(figure)
    return figure


def _score_panel(
    axis: Axes,
    scores: ScorePanel,
    baselines: Mapping[str, float],
    colours: Mapping[str, str],
) -> None:
    for height, (name, score, interval) in enumerate(scores):
        # Without an interval the bar has no length, and the point stands alone.
        low, high = interval or (score, score)
        colour = colours[name]
        axis.plot(
            [low, high],
            [height, height],
            color=colour,
            linewidth=2,
            solid_capstyle="butt",
        )
        axis.plot([score], [height], marker="o", color=colour, markersize=6)
    # There are no more baselines than styles: the majority class and the length.
    for style, (name, value) in zip(_STYLES, baselines.items(), strict=False):
        axis.axvline(
            value,
            color="black",
            linestyle=style,
            linewidth=1,
            label=name,
        )
    if baselines:
        axis.legend(fontsize=7, loc="best")
    names = [name for name, _, _ in scores]
    axis.set_yticks(range(len(scores)), names)
    # The first variant at the top, as in the table.
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)


def plot_curves(panels: Mapping[str, CurvePanel], colours: Mapping[str, str]) -> Figure:
    """Draw a panel per task: score by epoch, a line per variant.

    A line is the mean of the seeds, which are drawn faint.

    Args:
        panels: title -> curves of the variants.
        colours: variant -> its colour.
    """
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(4.6 * len(panels) + 1.8, 3.6),
        squeeze=False,
        layout="constrained",
    )
    # Shared by the panels: a variant has one colour and one line of the legend.
    handles: dict[str, Line2D] = {}
    for axis, (title, variants) in zip(axes[0], panels.items(), strict=True):
        for name, seeds in variants.items():
            handles[name] = _curve(axis, seeds, colours[name])
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch")
        # Epochs are whole numbers; matplotlib would mark halves as well.
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside right upper",
        fontsize=8,
    )
    plt.close(figure)
    return figure


def _curve(
    axis: Axes,
    seeds: Sequence[Sequence[tuple[int, float]]],
    colour: str,
) -> Line2D:
    if len(seeds) > 1:
        for points in seeds:
            # Points side by side become the list of epochs and the list of scores.
            epochs, scores = zip(*points, strict=True)
            axis.plot(
                epochs,
                scores,
                color=colour,
                alpha=0.25,
                linewidth=1,
            )
    # Seeds of one variant have the same epochs.
    epochs = [epoch for epoch, _ in seeds[0]]
    means = []
    for number in range(len(epochs)):
        scores = [points[number][1] for points in seeds]
        means.append(statistics.mean(scores))
    (line,) = axis.plot(
        epochs,
        means,
        color=colour,
        marker="o",
        markersize=3,
        linewidth=1.8,
    )
    return line


def plot_z_scores(
    panels: Mapping[str, Mapping[str, Mapping[str, float]]],
    backbones: Sequence[str],
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
    handles: dict[str, Line2D] = {}
    for axis, (title, poolers) in zip(axes[0], panels.items(), strict=True):
        colours = colours_of(poolers)
        for pooler, scores in poolers.items():
            # A backbone that did not run a kind of task leaves no gap in the line.
            points = []
            for position, backbone in enumerate(backbones):
                if backbone in scores:
                    points.append((position, scores[backbone]))
            positions, drawn = zip(*points, strict=True)
            # `plot` returns a list, here of one line.
            (handles[pooler],) = axis.plot(
                positions,
                drawn,
                marker="o",
                color=colours[pooler],
                linewidth=2.4 if pooler == "glot" else 1.2,
            )
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xticks(
            range(len(backbones)),
            backbones,
            rotation=40,
            ha="right",
            fontsize=8,
        )
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("z-score over poolers")
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside right upper",
        fontsize=8,
    )
    plt.close(figure)
    return figure


def plot_contributions(
    tokens: Sequence[str],
    weights: Mapping[str, np.ndarray],
    marked: str = "glot",
    most: int = 3,
    colours: Mapping[str, str] | None = None,
) -> Figure:
    """Draw the paper's Figure 5: the share of each token in a sentence vector, by pooler.

    Args:
        tokens: the sentence's `length` tokens.
        weights: pooler -> [length], summing to 1.
        marked: the pooler whose `most` heaviest tokens are coloured on the axis.
        most: how many those are.
        colours: pooler -> its colour. Default: those of `glot_jax.colours`.
    """
    colours = colours or colours_of(weights, marked)
    positions = np.arange(len(tokens))
    # A fifth of the distance between tokens is left between their groups.
    width = 0.8 / len(weights)
    # Inches, so many for a token that its text fits below its bars.
    figure_width = max(5.0, 0.42 * len(tokens) + 2)
    figure, axis = plt.subplots(figsize=(figure_width, 3.2), layout="constrained")
    for number, (name, values) in enumerate(weights.items()):
        offset = _offset(number, len(weights)) * width
        axis.bar(
            positions + offset,
            values,
            width,
            label=name,
            color=colours[name],
        )
    axis.set_xticks(positions, tokens, rotation=60, ha="right")
    # Sorted from the lightest; argsort has no other direction.
    if marked in weights:
        heaviest = np.argsort(weights[marked])[::-1]
        for token in heaviest[:most]:
            label = axis.get_xticklabels()[token]
            label.set_color(_MARK)
            label.set_fontweight("bold")
    axis.set_ylabel("weight in the sentence vector")
    axis.legend(fontsize=8)
    plt.close(figure)
    return figure


def _offset(number: int, bars: int) -> float:
    """Where a bar of a group stands, in bars from the middle of the group."""
    return number - (bars - 1) / 2


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
    side = 0.3 * len(tokens) + 1.6  # inches
    widths = [side + 1]
    if weights:
        widths.append(4.5)
    figure, axes = plt.subplots(
        1,
        len(widths),
        figsize=(sum(widths), side),
        width_ratios=widths,
        squeeze=False,
        layout="constrained",
    )
    image = _graph_panel(axes[0, 0], tokens, similarity, adjacency)
    # With this fraction the bar is as high as a square image.
    figure.colorbar(image, ax=axes[0, 0], fraction=0.046, pad=0.03)
    if weights:
        _weight_panel(axes[0, 1], tokens, weights, side)
    # A notebook shows what a cell returns; open figures it would show a second time.
    plt.close(figure)
    return figure


def _graph_panel(
    axis: Axes,
    tokens: Sequence[str],
    similarity: np.ndarray,
    adjacency: np.ndarray,
) -> AxesImage:
    # The whole range of cosines, so that white is 0 in every figure.
    image = axis.imshow(
        similarity,
        vmin=-1,
        vmax=1,
        cmap="RdBu_r",
    )
    # Row i is the token that listens, column j the one that is heard.
    receivers, senders = np.nonzero(adjacency)
    axis.scatter(senders, receivers, s=14, color="black", label="edge")
    axis.set_xticks(range(len(tokens)), tokens, rotation=90)
    axis.set_yticks(range(len(tokens)), tokens)
    axis.set_title("cosines of token states; dots are edges", fontsize=10)
    return image


def _weight_panel(
    axis: Axes,
    tokens: Sequence[str],
    weights: Mapping[str, np.ndarray],
    side: float,
) -> None:
    height = 0.8 / len(weights)
    colours = colours_of(weights)
    for number, (name, values) in enumerate(weights.items()):
        offset = _offset(number, len(weights)) * height
        axis.barh(
            np.arange(len(tokens)) + offset,
            values,
            height=height,
            label=name,
            color=colours[name],
        )
    axis.set_yticks(range(len(tokens)), tokens)
    # From top to bottom, in line with the rows of the graph beside it.
    axis.set_ylim(len(tokens) - 0.5, -0.5)
    axis.set_title("weight of each token in the sentence vector", fontsize=10)
    axis.legend(
        fontsize=8,
        loc="lower center",
        # Below the axis, at a distance that does not grow with the sentence.
        bbox_to_anchor=(0.5, -0.02 - 1.1 / side),
        ncols=len(weights),
        frameon=False,
    )
