"""Figures of a report that are drawn from scores: all scores, learning curves, z-scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from glot_jax.colours import colours_of
from glot_jax.reporting import figures, paper
from glot_jax.reporting.pages import Block, Figure, Heading
from glot_jax.reporting.results import Result, titles_of

_POOLERS = ("cls", "mean", "max", "adapool", "glot")
"""The poolers of the paper's Figure 4."""
_FEWEST_POOLERS = 3
"""A z-score among fewer poolers says little."""


def page_colours(results: Sequence[Result], more: Sequence[str] = ()) -> dict[str, str]:
    """Variant -> its colour, the same in every figure of a page; `more` are drawn beside them."""
    labels = []
    ours = None
    for result in results:
        labels += [variant.label for variant in result.comparison.variants]
        ours = ours or result.reference
    return colours_of([*labels, *more], ours)


def score_figure(results: Sequence[Result]) -> list[Block]:
    """A panel for each task and split: scores with their intervals, and baselines."""
    panels = {}
    baselines = {}
    for result, name in zip(results, titles_of(results), strict=True):
        for split in result.splits:
            title = f"{name}, {split}: {result.metric}"
            panel = []
            for score in result.by_split[split]:
                panel.append((score.variant, score.mean, score.interval))
            panels[title] = panel
            baselines[title] = _drawn_baselines(result, split)
    caption = (
        "Points: mean over seeds; bars: 95 % bootstrap over rows. Overlapping bars of variants"
        " judged on the same rows say less than the paired tests in the tables."
    )
    figure = figures.plot_scores(panels, baselines, page_colours(results))
    drawn = figures.svg(figure)
    return [Heading("All scores"), Figure("scores", drawn, caption)]


def _drawn_baselines(result: Result, split: str) -> dict[str, float]:
    means = [score.mean for score in result.by_split[split]]
    lowest = min(means)
    drawn = {}
    for name, value in result.comparison.baselines(split).items():
        # A line at zero beside scores of .8 would only flatten them.
        if value > lowest - 0.2:
            drawn[name] = value
    return drawn


def curve_figure(results: Sequence[Result]) -> list[Block]:
    """A panel for each task: score by epoch on the split that epochs are selected on."""
    panels = {}
    for result, name in zip(results, titles_of(results), strict=True):
        # A test split is judged after training alone, so the last of the splits has the curve.
        split = result.splits[-1]
        title = f"{name}, {split}: {result.metric}"
        curves = {}
        for variant in result.comparison.variants:
            curves[variant.label] = [run.curve(split, result.metric) for run in variant.runs]
        panels[title] = curves
    caption = "Score after each epoch; thick: mean over seeds, thin: the seeds."
    figure = figures.plot_curves(panels, page_colours(results))
    drawn = figures.svg(figure)
    return [Heading("Learning curves"), Figure("curves", drawn, caption)]


def z_score_figure(results: Sequence[Result]) -> list[Block]:
    """Figure 4: our z-scores beside the paper's, where runs compare poolers at all."""
    ours = _pooler_scores(results)
    # The paper's own lines alone would be no report of these runs.
    if not ours:
        return []
    backbones = sorted(paper.PARAMETERS, key=paper.PARAMETERS.__getitem__)
    scores = {}
    # Ours stand to the right of the paper's, whose backbones grow from left to right.
    for name in backbones:
        scores[name] = paper.z_scores(paper.TABLES["table1"][name])
    for name, rows in ours.items():
        scores[name] = paper.z_scores(rows)
    figure = figures.plot_z_scores(_panels(scores), [*backbones, *ours])
    drawn = figures.svg(figure)
    caption = (
        "The paper's Figure 4: z-scores of the poolers within a task and backbone, averaged over"
        " kinds of tasks. The named language models are computed from the paper's Table 1; ours"
        " stand to the right of them, over the tasks that were run."
    )
    return [Heading("z-scores by backbone"), Figure("z_scores", drawn, caption)]


def _pooler_scores(results: Sequence[Result]) -> dict[str, paper.Rows]:
    """Backbone -> pooler -> task -> mean score on the first split."""
    ours: dict[str, paper.Rows] = {}
    for result in results:
        # Variants that are named by their settings are no poolers of the paper's.
        compared = []
        for score in result.first_scores:
            if score.variant in _POOLERS:
                compared.append(score)
        if len(compared) < _FEWEST_POOLERS:
            continue
        task = result.comparison.task
        # The paper's table has two columns of MNLI; ours is matched.
        column = "mnli_m" if task == "mnli" else task
        rows = ours.setdefault(result.comparison.backbone, {})
        for score in compared:
            rows.setdefault(score.variant, {})[column] = score.mean
    return ours


def _panels(scores: dict[str, paper.Rows]) -> dict[str, dict[str, dict[str, float]]]:
    """Kind of task -> pooler -> backbone -> mean z-score over the tasks of this kind."""
    panels: dict[str, dict[str, dict[str, float]]] = {}
    for kind, tasks in paper.CATEGORIES.items():
        for backbone, rows in scores.items():
            for pooler, by_task in rows.items():
                # A backbone may have run some tasks of a kind, or none.
                values = []
                for task in tasks:
                    if task in by_task:
                        values.append(by_task[task])
                if not values:
                    continue
                poolers = panels.setdefault(kind, {})
                by_backbone = poolers.setdefault(pooler, {})
                # A sum without rounding does not depend on the order of the tasks.
                by_backbone[backbone] = math.fsum(values) / len(values)
    return panels
