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
    """One panel per protocol and ratio: test accuracy of poolers and controls, deviation over seeds, chance as a line."""
    panels = list(dict.fromkeys((record["protocol"], record["ratio"]) for record in records))
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.8), squeeze=False, sharex=True)
    for axis, (protocol, ratio) in zip(axes[0], panels, strict=True):
        here = [record for record in records if (record["protocol"], record["ratio"]) == (protocol, ratio)]
        names = list(dict.fromkeys(_label(record) for record in here))[::-1]
        values = [[record["accuracy"] for record in here if _label(record) == name] for name in names]
        axis.barh(
            names, [statistics.mean(of) for of in values],
            xerr=[statistics.stdev(of) if len(of) > 1 else 0 for of in values],
            color=[_OURS if name == "glot" else _CONTROL if name.startswith("control") else _POOLER for name in names],
        )
        for position, of in enumerate(values):
            axis.text(0.02, position, f"{statistics.mean(of):.3f}", va="center", fontsize=8)
        axis.axvline(0.5, color="black", linewidth=1, linestyle="--")
        axis.set(xlim=(0, 1), xlabel="test accuracy (dashed: chance)", title=f"{protocol}, {ratio:.0%} distractors")
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _label(record: dict[str, Any]) -> str:
    return record["pooler"] if "pooler" in record else f"control: {record['control']}"


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
