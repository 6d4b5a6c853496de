"""What can be told before the first step: of the states, the labels and the rows that select."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from glot_jax.health.finding import Finding

FEW_ROWS = 50
"""Rows below which a choice of an epoch, a rate or a seed is mostly chance: 50 rows of two classes
tell accuracies apart that differ by .14."""
LARGE = 30.0
"""Root mean square of a state's entries above which Adam's first steps overshoot. Encoders and
final norms have about 1, the middle layers of decoders up to 10."""


def large_states(layer: int, median: float, dim: int, sinks: int) -> list[Finding]:
    """Whether states are so long that a head may not learn from them.

    Args:
        layer: their layer.
        median: median norm of those that are no sinks.
        dim: entries of a state.
        sinks: attention sinks among the states that the head sees, more than ten times as long.
    """
    # Of one entry, so that it means the same whatever the width.
    size = median / math.sqrt(dim)
    if size <= LARGE and not sinks:
        return []
    values = {"layer": layer, "median_norm": median, "entry": size, "sinks": sinks}
    if sinks:
        text = (
            f"layer {layer}: {sinks:,} states are more than ten times as long as the median"
            f" ({median:.4g}), and the head sees them: some seeds may never learn. Try"
            " --sinks drop, or --standardise"
        )
    else:
        text = (
            f"layer {layer}: entries of states have a size of {size:.3g} (a norm of {median:.4g}):"
            " the first steps may overshoot. Try --standardise, --token-norm rms or a smaller --lr"
        )
    return [Finding("large-states", text, values)]


def missing_classes(
    classes: Sequence[str], labels_by_split: Mapping[str, np.ndarray]
) -> list[Finding]:
    """Classes of which a split has no row.

    Args:
        classes: names, in the order of the labels.
        labels_by_split: split -> class indices [rows], or 1 for each class of a row [rows,
            classes].
    """
    findings = []
    for split, labels in labels_by_split.items():
        # Several classes a row have a column each.
        if labels.ndim == 2:
            counts = (labels > 0).sum(axis=0)
        else:
            counts = np.bincount(labels.astype(np.int64), minlength=len(classes))
        lacking = [str(name) for name, count in zip(classes, counts, strict=True) if count == 0]
        if not lacking:
            continue
        # A task may have hundreds of classes.
        shown = ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else "")
        what = "its scores say nothing about them"
        if split == "train":
            what = "none of them can be learned"
        text = f"{split} has no row of {len(lacking)} of {len(classes)} classes ({shown}): {what}"
        values = {"classes": float(len(classes)), "missing": float(len(lacking))}
        findings.append(Finding("missing-classes", text, values))
    return findings


def small_selection(split: str, rows: int) -> list[Finding]:
    """Whether the rows that select the best epoch are too few to tell what is chosen.

    Args:
        split: that selects; "last" where nothing is chosen.
        rows: of it.
    """
    # Where the last epoch is taken nothing is chosen that chance could choose.
    if rows >= FEW_ROWS or split == "last":
        return []
    # Of two classes, where it is largest: 1.96 standard errors of a share of one half.
    difference = 1.96 * math.sqrt(0.25 / rows) if rows else 1.0
    text = (
        f"{split} has {rows} rows to choose the best epoch by: accuracies that differ by less than"
        f" {difference:.2f} there are chance. Try --select-on last, or more rows"
    )
    return [Finding("small-selection", text, {"rows": rows, "difference": difference})]
