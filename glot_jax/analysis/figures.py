"""Figures. The only import of matplotlib, which comes with the extra `viz`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe-Ito, distinguishable without colour vision.
_POOLER, _CONTROL, _OURS = "#56B4E9", "#BBBBBB", "#D55E00"


def plot_stress(records: Sequence[dict[str, Any]], path: Path) -> None:
    """A panel per test, as in the paper's Figure 3: accuracy of poolers and controls, deviation over seeds, chance as a line.

    A row of panels per protocol, a panel per ratio (and distance, and position).
    """
    panels = list(dict.fromkeys(_panel(record) for record in records))
    protocols = list(dict.fromkeys(protocol for protocol, _ in panels))
    columns = max(sum(protocol == of for protocol, _ in panels) for of in protocols)
    size = (4.4 * columns, 4.2 * len(protocols))
    figure, axes = plt.subplots(len(protocols), columns, figsize=size, squeeze=False, sharex=True, layout="constrained")
    for row, of in zip(axes, protocols, strict=True):
        mine = [panel for panel in panels if panel[0] == of]
        for axis in row[len(mine) :]:
            axis.set_visible(False)
        for axis, panel in zip(row, mine, strict=False):
            here = [record for record in records if _panel(record) == panel]
            names = list(dict.fromkeys(_label(record) for record in here))[::-1]
            values = [[record["accuracy"] for record in here if _label(record) == name] for name in names]
            axis.barh(
                names, [statistics.mean(of) for of in values],
                xerr=[statistics.stdev(of) if len(of) > 1 else 0 for of in values],
                color=[_OURS if name == "glot" else _CONTROL if name.startswith("control") else _POOLER for name in names],
            )
            for position, scores in enumerate(values):
                axis.text(0.02, position, f"{statistics.mean(scores):.3f}", va="center", fontsize=8)
            axis.axvline(0.5, color="black", linewidth=1, linestyle="--")
            axis.set(xlim=(0, 1), xlabel="test accuracy (dashed: chance)", title=f"{panel[0]}, {panel[1]}")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _panel(record: dict[str, Any]) -> tuple[str, str]:
    """Protocol, and what else a test is told by."""
    where = "".join(f", {name} {record[name]:g}" for name in ("distance", "position") if name in record)
    return record["protocol"], f"{record['ratio']:.0%} distractors{where}"


def _label(record: dict[str, Any]) -> str:
    return record["pooler"] if "pooler" in record else f"control: {record['control']}"


def plot_importance(shares: dict[str, float], path: Path, title: str) -> None:
    """A bar per setting: the share of the scores' variance it explains."""
    figure, axis = plt.subplots(figsize=(6, 0.4 * len(shares) + 1.4), layout="constrained")
    names = sorted(shares, key=lambda name: shares[name])
    axis.barh(names, [shares[name] for name in names], color=_POOLER)
    axis.set(xlim=(0, 1), xlabel="share of the variance explained (functional ANOVA)", title=title)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_token_graph(
    tokens: Sequence[str], similarity: np.ndarray, adjacency: np.ndarray, weights: dict[str, np.ndarray]
) -> Figure:
    """One sentence: its cosines with the edges marked, and how much each pooler counts each token.

    Args:
        tokens: the sentence's `length` tokens.
        similarity: [length, length] cosines.
        adjacency: [length, length] bool, [i, j] = edge j -> i.
        weights: pooler name -> [length].
    """
    length = len(tokens)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.32 * length + 2), width_ratios=[1, 1])
    image = left.imshow(similarity, vmin=-1, vmax=1, cmap="RdBu_r")
    receivers, senders = np.nonzero(adjacency)
    left.scatter(senders, receivers, s=14, color="black", label="edge")
    left.set_xticks(range(length), tokens, rotation=90)
    left.set_yticks(range(length), tokens)
    left.set_title("cosine of token states; dots are edges")
    figure.colorbar(image, ax=left, shrink=0.8)
    height = 0.8 / len(weights)
    for index, (name, values) in enumerate(weights.items()):
        right.barh(np.arange(length) + index * height, values, height=height, label=name)
    right.set_yticks(np.arange(length) + 0.4 - height / 2, tokens)
    right.invert_yaxis()
    right.set_title("weight of each token in the sentence vector")
    right.legend()
    figure.tight_layout()
    plt.close(figure)  # a notebook shows what a cell returns; open figures it would show a second time
    return figure
