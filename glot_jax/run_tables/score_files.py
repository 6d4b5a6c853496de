"""The scores of a report for other programs: CSV for sheets, LaTeX for papers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

LEVEL = 0.05
"""p after Holm below which a LaTeX table sets a mean in bold."""

_COLUMNS: tuple[str, ...] = (
    "task",
    "backbone",
    "split",
    "metric",
    "variant",
    "seeds",
    "mean",
    "deviation",
    "low",
    "high",
    "last",
    "reference",
    "difference",
    "p_rows",
    "p_seeds",
    "p_holm",
    "learned",
    "selected_here",
    "parameters",
    "train_seconds",
)
_ESCAPES = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def scores_csv(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """A line for each variant and split; empty cells where there is nothing to say.

    Args:
        comparisons: those of scores.json, from `glot_jax.reporting.report.write_report`.
    """
    # Not the system's line ends: equal scores give equal bytes everywhere.
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for comparison in comparisons:
        for entry in comparison["variants"]:
            writer.writerow(_cells(comparison, entry))
    return file.getvalue()


def _cells(comparison: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    low, high = entry["interval"] or (None, None)
    tested = entry["difference"] or {}
    # As in the report's terminal table: how much better the variant is than the reference.
    value = tested.get("value")
    learned = entry["learned"]
    return {
        **{name: comparison[name] for name in ("task", "backbone", "metric", "reference")},
        **{name: entry[name] for name in _COLUMNS if name in entry},
        "low": low,
        "high": high,
        "difference": None if value is None else 0 - value,
        "p_rows": tested.get("p"),
        "p_seeds": tested.get("p_seeds"),
        "p_holm": entry["holm_p"],
        "learned": entry["seeds"] if learned is None else learned[2],
    }


def scores_latex(comparisons: Sequence[Mapping[str, Any]]) -> str:
    r"""A booktabs table for each comparison, variants by splits; `\usepackage{booktabs}`.

    A mean is bold where it is the highest of its column and differs from the reference's after Holm
    over all variants (p below .05): what is merely the highest of many is not. Tests are of the
    first split.

    Args:
        comparisons: as in `scores_csv`.
    """
    return "\n".join(map(_table, comparisons))


def _table(comparison: Mapping[str, Any]) -> str:
    entries = comparison["variants"]
    # In the order of the report, whose first split is the one that is tested.
    splits = list(dict.fromkeys(entry["split"] for entry in entries))
    variants = list(dict.fromkeys(entry["variant"] for entry in entries))
    by_place = {(entry["variant"], entry["split"]): entry for entry in entries}
    metric = _escaped(comparison["metric"])
    titles = ["", *(f"{_escaped(split)} {metric}" for split in splits), "$p$ (Holm)"]
    lines = [
        f"% {_escaped(comparison['task'])}, {_escaped(comparison['backbone'])}: mean and deviation"
        f" over seeds; $p$ against {_escaped(str(comparison['reference']))}",
        r"\begin{tabular}{l" + "r" * (len(titles) - 1) + "}",
        r"\toprule",
        " & ".join(titles) + r" \\",
        r"\midrule",
    ]
    for variant in variants:
        cells = [_escaped(variant)]
        for split in splits:
            column = [entry for entry in entries if entry["split"] == split]
            cells.append(_mean(by_place[variant, split], column))
        p = by_place[variant, splits[0]]["holm_p"]
        cells.append("" if p is None else f"{p:.3f}")
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _mean(entry: Mapping[str, Any], column: Sequence[Mapping[str, Any]]) -> str:
    text = f"{entry['mean']:.3f}"
    p = entry["holm_p"]
    is_highest = entry["mean"] == max(other["mean"] for other in column)
    if is_highest and p is not None and p < LEVEL:
        text = rf"\textbf{{{text}}}"
    # One seed has no deviation.
    if entry["deviation"] is not None:
        text += rf" {{\small$\pm$ {entry['deviation']:.3f}}}"
    return text


def _escaped(text: str) -> str:
    return "".join(_ESCAPES.get(character, character) for character in text)
