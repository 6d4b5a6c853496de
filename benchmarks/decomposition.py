r"""What of the distance between mean pooling and GLOT on a decoder is whose doing.

    python benchmarks/stuck_seeds.py --data DIR --work build/stuck --backbone smollm2 \
        --tasks stsb cola mrpc rte imdb --heads-on 20 --treatments keep drop default \
        --variants mean adapool mlp glot-self glot-complete glot-random glot-gat
    python benchmarks/decomposition.py

A ladder: each step changes one thing of the step before, the same ten seeds on both sides, and the
steps add up. Sinks are left out; states are standardised; the readout is learned; an MLP stands
before it; a wrong graph takes the MLP's place (the mean of the complete graph and of random edges);
the graph is the paper's. The order is a choice: what a step is worth depends on what was there
before. Beside it, what a reader of the paper's protocol sees: GLOT less the mean, sinks in view.

The interval of a step is Student's, over the paired differences of the seeds, with 95 %: it says
what other seeds would give on these rows, and nothing about other rows. Reads
benchmarks/results/stuck_seeds.json, prints a table in Markdown, and draws
benchmarks/results/decomposition.svg.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from benchmark import RESULTS, Benchmark, run
from scipy.stats import t

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Without a salt of ours ids inside an SVG are random, and equal charts differ in their bytes.
matplotlib.rcParams["svg.hashsalt"] = "glot-jax"
# Letters as letters: drawn as curves they are two thirds of the file.
matplotlib.rcParams["svg.fonttype"] = "none"

LADDER: dict[str, tuple[str, ...]] = {
    "mean, sinks in view": ("mean keep",),
    "sinks left out": ("mean drop",),
    "standardised": ("mean default",),
    "learned readout (adapool)": ("adapool default",),
    "depth without a graph (mlp)": ("mlp default",),
    "wrong graphs": ("glot-complete default", "glot-random default"),
    "the paper's graph": ("glot-gat default",),
}
"""Step -> the groups whose mean it is, seed by seed."""
COLOURS = ("#b0b7c3", "#c8761c", "#e0a458", "#1f6fb4", "#5f93c9", "#8c8c8c", "#2e8b57")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decomposition(Benchmark):
    """The steps from mean pooling to GLOT, and what each is worth."""

    tasks: tuple[str, ...] = ("stsb", "cola", "mrpc", "rte", "imdb")
    layer: int = 20
    source: str = "stuck_seeds"
    """Name of the file of results that is read."""


def scores_of(
    groups: dict[str, Any], task: str, layer: int, names: tuple[str, ...]
) -> np.ndarray | None:
    """Mean score of the named groups, of each seed: [seeds]; None where one was not trained."""
    scores = []
    for name in names:
        group = groups.get(f"{task} layer {layer} {name}")
        if group is None:
            return None
        scores.append(group["scores"])
    return np.mean(scores, axis=0)


def difference(after: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    """Mean of the paired differences, and half the width of its 95 % interval.

    Args:
        after: scores [seeds].
        before: those of the same seeds.
    """
    differences = after - before
    seeds = len(differences)
    error = differences.std(ddof=1) / np.sqrt(seeds)
    return float(differences.mean()), float(t.ppf(0.975, seeds - 1) * error)


def ladder_of(groups: dict[str, Any], task: str, layer: int) -> list[np.ndarray] | None:
    """Scores [seeds] of every step; None unless all are there."""
    steps = []
    for names in LADDER.values():
        scores = scores_of(groups, task, layer, names)
        if scores is None:
            return None
        steps.append(scores)
    return steps


def signed(value: float, half: float) -> str:
    """A difference with its interval, without leading zeros."""
    return f"{value:+.3f} ± {half:.3f}".replace("0.", ".")


def print_table(ladders: dict[str, list[np.ndarray]], groups: dict[str, Any], layer: int) -> None:
    """A row for each step, a column for each task."""
    print(f"| step | {' | '.join(ladders)} |")
    print("|---" * (len(ladders) + 1) + "|")
    for number, step in enumerate(LADDER):
        cells = []
        for steps in ladders.values():
            if number == 0:
                cells.append(f"{steps[0].mean():.3f}".replace("0.", ".", 1))
            else:
                cells.append(signed(*difference(steps[number], steps[number - 1])))
        print(f"| {step} | {' | '.join(cells)} |")
    totals = []
    remains = []
    plain = []
    for task, steps in ladders.items():
        totals.append(f"{steps[-1].mean():.3f}".replace("0.", ".", 1))
        remains.append(signed(*difference(steps[-1], steps[2])))
        paper = scores_of(groups, task, layer, ("glot-gat keep",))
        as_paper = "–" if paper is None else signed(*difference(paper, steps[0]))
        plain.append(as_paper)
    print(f"| **glot, at the defaults** | {' | '.join(totals)} |")
    print(f"| glot less mean, both at the defaults | {' | '.join(remains)} |")
    print(f"| glot less mean, sinks in view | {' | '.join(plain)} |")


def draw(ladders: dict[str, list[np.ndarray]], path: Path) -> None:
    """Bars that begin where the step before has ended, a panel for each task."""
    figure, panels = plt.subplots(
        1, len(ladders), figsize=(2.6 * len(ladders), 4.2), squeeze=False, layout="constrained"
    )
    for number, (panel, (task, steps)) in enumerate(zip(panels[0], ladders.items(), strict=True)):
        means = [float(scores.mean()) for scores in steps]
        before = [means[0], *means[:-1]]
        for step, (mean, base) in enumerate(zip(means, before, strict=True)):
            bottom = 0.0 if step == 0 else base
            panel.bar(step, mean - bottom, bottom=bottom, color=COLOURS[step], width=0.7)
            if step:
                _, half = difference(steps[step], steps[step - 1])
                panel.errorbar(step, mean, yerr=half, color="#222222", capsize=2, linewidth=1)
        panel.axhline(0, color="#222222", linewidth=0.6)
        panel.set_title(task)
        panel.set_xticks(range(len(LADDER)), list(LADDER), rotation=60, ha="right", fontsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        if number == 0:
            panel.set_ylabel("score, ten seeds")
    figure.savefig(path, format="svg", metadata={"Date": None})
    plt.close(figure)


def main(bench: Decomposition) -> None:
    """Print and draw the tasks whose groups are all there; name the others."""
    # Read where the study writes, also at toy size: nothing is trained here.
    path = RESULTS / f"{bench.source}.json"
    groups = json.loads(path.read_text())["groups"]
    ladders = {}
    for task in bench.tasks:
        steps = ladder_of(groups, task, bench.layer)
        if steps is None:
            print(f"{task}: groups of layer {bench.layer} are missing in {path.name}")
        else:
            ladders[task] = steps
    if not ladders:
        return
    print_table(ladders, groups, bench.layer)
    bench.results.mkdir(parents=True, exist_ok=True)
    out = bench.results / "decomposition.svg"
    draw(ladders, out)
    print(f"wrote {out}")


if __name__ == "__main__":
    run(Decomposition, main)
