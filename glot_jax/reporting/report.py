"""One page about runs: scores with intervals beside the paper's, learning curves, costs, stress
tests, tokens and graphs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from glot_jax.errors import UsageError
from glot_jax.files import TABLE_STYLE, read_json, write_json
from glot_jax.reporting import figures, paper
from glot_jax.reporting.comparison import (
    Comparison,
    Scored,
    Variant,
    compare_runs,
    find_runs,
    scored,
)
from glot_jax.reporting.pages import Block, Figure, Heading, Listing, Paragraph, Table, write_page
from glot_jax.reporting.statistics import holm, p_text
from glot_jax.reporting.tables import PaperTables, number_text, stress_section
from glot_jax.training.evaluation import load_model
from glot_jax.version import __version__


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A text as the backbone of the runs sees it."""

    text: str
    tokens: tuple[str, ...]
    states: np.ndarray
    """[length, dim], or [length, layers, dim] where layers are mixed."""


def write_report(
    folders: Sequence[Path],
    out: Path,
    *,
    title: str = "GLOT runs",
    sentences: Sequence[Sentence] = (),
    beside: PaperTables | None = None,
    labels: dict[Path, str] | None = None,
    remarks: Sequence[str] = (),
    reference: str | None = None,
    resamples: int = 1000,
    more: Sequence[Block] = (),
) -> dict[str, Any]:
    """Write OUT/report.html (self-contained), OUT/report.md with OUT/figures, and OUT/scores.json;
    the last is returned too.

    Args:
        folders: searched for run folders, stress.json and probe.json.
        sentences: whose tokens and graph are shown, for runs on states of this width.
        beside: the paper's numbers next to ours; by default Table 1 of BERT.
        labels: names of variants by run folder; others are named by the settings in which they
            differ.
        remarks: lines for the top: what is missing, what was done differently.
        reference: the variant that others are compared with; by default the first glot.
        resamples: of intervals and permutation tests.
        more: sections of the caller's own, behind the stress tests; with them there need not be any
            run.

    Raises:
        UsageError: a folder that is none, no finished run, or an OUT that cannot be written.
    """
    stress = [found for folder in folders for found in sorted(Path(folder).rglob("stress.json"))]
    notes: list[str] = []
    comparisons: list[Comparison] = []
    try:
        # Runs of a stress test are summed up in its own table.
        runs, notes = find_runs(folders)
        tests = [found.parent for found in stress]
        comparisons = compare_runs(
            [run for run in runs if not any(test in run.path.parents for test in tests)], labels
        )
    except UsageError:
        if not stress and not more:
            raise
    results = [_Result.of(comparison, reference, resamples) for comparison in comparisons]
    beside = beside or PaperTables(("table1",), "BERT")
    blocks: list[Block] = []
    blocks += _opening(results, [*remarks, *notes])
    for result in results:
        blocks += _scores(result, beside)
    if results:
        blocks += _score_figure(results)
        blocks += _curves(results)
    for number, path in enumerate(stress):
        blocks += stress_section(path, number)
    blocks += more
    blocks += _z_scores(results)
    blocks += _sentences(results, sentences)
    blocks += _provenance(results)
    values = {
        "title": title,
        "remarks": [*remarks, *notes],
        "comparisons": [result.to_json() for result in results],
    }
    write_page(title, blocks, out)
    write_json(out / "scores.json", values, TABLE_STYLE)
    return values


@dataclasses.dataclass(frozen=True)
class _Result:
    """A comparison with its statistics."""

    comparison: Comparison
    reference: str | None
    by_split: dict[str, list[Scored]]

    @classmethod
    def of(cls, comparison: Comparison, reference: str | None, resamples: int) -> _Result:
        names = [variant.label for variant in comparison.variants]
        chosen = (
            reference
            if reference in names
            else next(
                (
                    of.label
                    for of in comparison.variants
                    if of.runs[0].config.pooler.pooler == "glot"
                ),
                None,
            )
        )
        # Paired tests are of the split that people look at first; of the others the tables have no
        # room for them.
        tested = min(comparison.splits, key=_first)
        return cls(
            comparison,
            chosen,
            {
                split: scored(
                    comparison, split, chosen if split == tested else None, resamples=resamples
                )
                for split in comparison.splits
            },
        )

    @property
    def splits(self) -> list[str]:
        """From the one that people should look at first."""
        return sorted(self.comparison.splits, key=_first)

    @property
    def metric(self) -> str:
        return self.comparison.metric

    def variant(self, label: str) -> Variant:
        return next(of for of in self.comparison.variants if of.label == label)

    def probe(self, label: str, split: str) -> tuple[float, float | None] | None:
        """Mean and deviation over seeds of the linear probe's accuracy, where it was fitted to all
        of them.
        """
        found = [
            read_json(run.path / "probe.json")
            for run in self.variant(label).runs
            if (run.path / "probe.json").exists()
        ]
        if len(found) < len(self.variant(label).runs) or any(split not in of for of in found):
            return None
        values = [of[split].get("accuracy", of[split].get(self.metric)) for of in found]
        return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """Plain values; intervals as [low, high]."""
        comparison = self.comparison
        values = {
            "task": comparison.task,
            "backbone": comparison.backbone,
            "store": comparison.store,
            "metric": comparison.metric,
            "reference": self.reference,
            "baselines": {split: comparison.baselines(split) for split in comparison.splits},
            "variants": [
                {
                    **dataclasses.asdict(one),
                    "difference": None if one.difference is None else one.difference._asdict(),
                    "parameters": self.variant(one.variant).parameters,
                    "train_seconds": self.variant(one.variant).train_seconds,
                    "seed_scores": self.variant(one.variant).scores(split, comparison.metric),
                    "linear_probe": self.probe(one.variant, split),
                }
                for split, of in self.by_split.items()
                for one in of
            ],
        }
        return json.loads(json.dumps(values))


def _first(split: str) -> bool:
    """A test split before one that may have selected an epoch."""
    return not split.startswith("test")


# --------------------------------------------------------------------------------------------------
# Sections


def _opening(results: Sequence[_Result], remarks: Sequence[str]) -> list[Block]:
    blocks: list[Block] = []
    rows = []
    for result in results:
        split = result.splits[0]
        of = result.by_split[split]
        best = max(of, key=lambda one: one.mean)
        ours = next((one for one in of if one.variant == result.reference), None)
        gap = (
            ""
            if ours is None or best.difference is None
            else (
                f"{0 - best.difference.value:+.3f}"
                f"{p_text(best.difference.p, best.difference.p_seeds)}"
            )
        )
        majority = result.comparison.baselines(split).get("majority")
        others = [
            one.difference.p_both
            for one in of
            if one.difference is not None and one.difference.p_both is not None
        ]
        rows.append(
            (
                f"{result.comparison.task}, {split}",
                result.metric,
                f"{best.variant}: {_mean(best)}",
                "" if ours is None else f"{ours.variant}: {_mean(ours)}",
                gap,
                f"{holm(others)} of {len(others)}" if others else "",
                "" if majority is None else f"{majority:.3f}",
            )
        )
    if rows:
        columns = (
            "task, split",
            "metric",
            "highest mean",
            "reference",
            "highest - reference (p rows; seeds)",
            "differ from it",
            "majority",
        )
        caption = (
            "Means and deviations over seeds. p over rows: two-sided permutation test of these"
            " trained heads on the same rows; over seeds: Welch's t-test of the scores of the"
            ' seeds. The highest of many means is flattered by chance: "differ from it" counts the'
            " variants that do at the 5 % level by both tests when all of them are tested (Holm)."
            " Majority: the commonest answer, always."
        )
        blocks.append(Table(columns, tuple(rows), caption))
    if remarks:
        blocks += [Heading("Read this first", 2), Listing(tuple(remarks))]
    return blocks


def _scores(result: _Result, beside: PaperTables) -> list[Block]:
    comparison, first = result.comparison, result.splits[0]
    of_paper = {
        one.variant: beside.number(one.variant, comparison.task) for one in result.by_split[first]
    }
    with_paper = any(value is not None for value in of_paper.values())
    probes = {one.variant: result.probe(one.variant, first) for one in result.by_split[first]}
    with_probe = any(value is not None for value in probes.values())
    splits = result.splits
    columns = [
        "variant",
        f"{first} {result.metric}",
        *([beside.noun] if with_paper else []),
        "95 % of rows",
    ]
    columns += [f"{result.reference} - this (p rows; seeds)"] if result.reference else []
    columns += ["linear probe"] if with_probe else []
    columns += [f"{split} {result.metric}" for split in splits[1:]]
    columns += [f"last epoch, {first}", "parameters", "train s"]
    rows, places = [], {name: place for place, name in enumerate(columns)}
    best: list[tuple[int, int]] = []
    for split in splits:
        means = [one.mean for one in result.by_split[split]]
        best.append((means.index(max(means)), places[f"{split} {result.metric}"]))
    for number, one in enumerate(result.by_split[first]):
        variant, value = result.variant(one.variant), of_paper[one.variant]
        row = [
            one.variant,
            _mean(one),
            *(["" if value is None else f"{value / 100:.3f}"] if with_paper else []),
        ]
        row.append(str(one.interval) if one.interval else str(one.why))
        if result.reference:
            row.append(
                ""
                if one.difference is None
                else (
                    f"{one.difference.value:+.3f}{p_text(one.difference.p, one.difference.p_seeds)}"
                )
            )
        if with_probe:
            probe = probes[one.variant]
            row.append("" if probe is None else number_text(*probe))
        row += [_mean(result.by_split[split][number]) for split in splits[1:]]
        row += [f"{one.last:.3f}", f"{variant.parameters:,}", f"{variant.train_seconds:.0f}"]
        rows.append(tuple(row))
    faint = []
    baselines = {
        places[f"{split} {result.metric}"]: comparison.baselines(split) for split in splits
    }
    for name in dict.fromkeys(name for of in baselines.values() for name in of):
        faint.append(len(rows))
        known = {at: f"{of[name]:.3f}" for at, of in baselines.items() if name in of}
        rows.append(
            tuple(
                f"baseline: {name}" if at == 0 else known.get(at, "") for at in range(len(columns))
            )
        )
    counts = [one.seeds for one in result.by_split[first]]
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    for name in beside.rows(comparison.task) if with_paper else ():
        if name not in of_paper:
            faint.append(len(rows))
            value = beside.number(name, comparison.task) or 0.0
            rows.append(
                tuple(
                    (
                        f"quoted: {name}"
                        if at == 0
                        else f"{value / 100:.3f}"
                        if at == places[beside.noun]
                        else ""
                    )
                    for at in range(len(columns))
                )
            )
    caption = [
        f"{result.metric}; mean ± deviation over {seeds} seed{'' if seeds == '1' else 's'}, best"
        " epoch; the interval is a bootstrap over rows of the mean over seeds, p over rows is a"
        " permutation test on the same rows, p over seeds Welch's t-test of the seeds' scores."
    ]
    if any(one.selected_here for split in splits for one in result.by_split[split]):
        caption.append(
            "†: the best epoch was selected on this very split, which flatters it; the last epoch"
            " is not."
        )
    if with_paper:
        caption.append(
            f"The paper's number is of another backbone ({beside.backbone}; {beside.source}):"
            " beside ours for orientation, not for comparison. Quoted rows were not run here."
        )
    if with_probe:
        caption.append(
            "Linear probe: accuracy of a linear SVM on the frozen vectors, C by cross-validation on"
            " train (Table 8)."
        )
    return [
        Heading(f"{comparison.task}: {comparison.backbone}"),
        Table(tuple(columns), tuple(rows), " ".join(caption), tuple(best), tuple(faint)),
    ]


def _score_figure(results: Sequence[_Result]) -> list[Block]:
    panels, baselines = {}, {}
    for result in results:
        for split in result.splits:
            title = f"{result.comparison.task}, {split}: {result.metric}"
            panels[title] = [
                (one.variant, one.mean, None if one.interval is None else tuple(one.interval))
                for one in result.by_split[split]
            ]
            of = result.comparison.baselines(split)
            # A line at zero beside scores of .8 would only flatten them.
            near = min(one.mean for one in result.by_split[split]) - 0.2
            baselines[title] = {name: value for name, value in of.items() if value > near}
    caption = (
        "Points: mean over seeds; bars: 95 % bootstrap over rows. Overlapping bars of variants"
        " judged on the same rows say less than the paired tests in the tables."
    )
    return [
        Heading("All scores"),
        Figure("scores", figures.svg(figures.plot_scores(panels, baselines)), caption),
    ]


def _curves(results: Sequence[_Result]) -> list[Block]:
    panels = {
        f"{result.comparison.task}, {split}: {result.metric}": {
            variant.label: [run.curve(split, result.metric) for run in variant.runs]
            for variant in result.comparison.variants
        }
        for result in results
        for split in [result.splits[-1]]
    }
    return [
        Heading("Learning curves"),
        Figure(
            "curves",
            figures.svg(figures.plot_curves(panels)),
            "Score after each epoch; thick: mean over seeds, thin: the seeds.",
        ),
    ]


_POOLERS = ("cls", "mean", "max", "adapool", "glot")


def _z_scores(results: Sequence[_Result]) -> list[Block]:
    """Figure 4: ours beside the paper's, where runs compare poolers at all."""
    ours: dict[str, paper.Rows] = {}
    for result in results:
        names = {
            one.variant: one.mean
            for one in result.by_split[result.splits[0]]
            if one.variant in _POOLERS
        }
        column = {"mnli": "mnli_m"}.get(result.comparison.task, result.comparison.task)
        if len(names) >= 3:
            for name, mean in names.items():
                ours.setdefault(result.comparison.backbone, {}).setdefault(name, {})[column] = mean
    if not ours:
        return []
    order = [*sorted(paper.PARAMETERS, key=paper.PARAMETERS.__getitem__)]
    scores = {name: paper.z_scores(paper.TABLES["table1"][name]) for name in order} | {
        name: paper.z_scores(rows) for name, rows in ours.items()
    }
    panels: dict[str, dict[str, dict[str, float]]] = {}
    for kind, columns in paper.CATEGORIES.items():
        for backbone, rows in scores.items():
            for pooler, of in rows.items():
                values = [of[column] for column in columns if column in of]
                if values:
                    panels.setdefault(kind, {}).setdefault(pooler, {})[backbone] = math.fsum(
                        values
                    ) / len(values)
    caption = (
        "Figure 4: z-scores of the poolers within a task and backbone, averaged over kinds of"
        " tasks. The named language models are computed from the paper's Table 1; ours stand to the"
        " right of them, over the tasks that were run."
    )
    return [
        Heading("z-scores by backbone"),
        Figure("z_scores", figures.svg(figures.plot_z_scores(panels, [*order, *ours])), caption),
    ]


def _sentences(results: Sequence[_Result], sentences: Sequence[Sentence]) -> list[Block]:
    """Figure 5 and the token graph, from the first seed of adapool and glot of the first task that
    has glot; the mean needs none.
    """
    if not sentences:
        return []
    for result in results:
        chosen: dict[str, Variant] = {}
        # The reference before other glots, which may have been given a wrong graph on purpose.
        for variant in sorted(
            result.comparison.variants, key=lambda variant: variant.label != result.reference
        ):
            name = variant.runs[0].config.pooler.pooler
            if name in ("adapool", "glot"):
                chosen.setdefault(name, variant)
        if "glot" in chosen:
            break
    else:
        return [Heading("Tokens"), Paragraph("No run of glot is here whose tokens could be shown.")]
    names = ", ".join(
        f"{name} ({variant.label})" if variant.label != name else name
        for name, variant in chosen.items()
    )
    blocks: list[Block] = [
        Heading("Tokens and their graph"),
        Paragraph(f"Heads trained on {result.comparison.task}, first seed: {names}."),
    ]
    for number, sentence in enumerate(sentences):
        length = len(sentence.tokens)
        weights, adjacency = {"mean": np.full(length, 1 / length)}, np.zeros((length, length), bool)
        for name, variant in chosen.items():
            model = load_model(variant.runs[0].path)
            states, mask = (
                jnp.asarray(sentence.states, jnp.float32)[None],
                jnp.ones((1, len(sentence.tokens)), bool),
            )
            graph = model.stem(states, mask)
            weights[name] = np.asarray(model.pooler.token_weights(graph))[0]
            if name == "glot":
                adjacency = np.asarray(graph.adjacency)[0]  # type: ignore[attr-defined]
        caption = (
            f'Figure 5: weight of each token in the vector of "{sentence.text}". Coloured: the'
            " three tokens glot weighs most."
        )
        blocks.append(
            Figure(
                f"tokens{number}",
                figures.svg(figures.plot_contributions(sentence.tokens, weights)),
                caption,
            )
        )
        flat = sentence.states.astype(np.float64)
        flat = flat.mean(axis=1) if flat.ndim == 3 else flat
        unit = flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-12)
        drawn = figures.svg(figures.plot_token_graph(sentence.tokens, unit @ unit.T, adjacency))
        density = (adjacency.sum() - length) / max(1, length * (length - 1))
        blocks.append(
            Figure(
                f"graph{number}",
                drawn,
                f"Its token graph: cosines, and a dot for each edge; {density:.0%} of the pairs are"
                " linked.",
            )
        )
    return blocks


def _provenance(results: Sequence[_Result]) -> list[Block]:
    items = []
    for result in results:
        comparison, run = result.comparison, result.comparison.variants[0].runs[0]
        backbone = run.folder.recipe.get("backbone") or {}
        identity = backbone.get("revision") or backbone.get("sha256") or "unknown"
        rows = ", ".join(
            f"{split} {len(of.labels):,}" for split, of in (run.predictions or {}).items()
        )
        seeds = ", ".join(str(run.config.seed) for run in comparison.variants[0].runs)
        items.append(
            f"{comparison.task}: {backbone.get('name')} ({identity[:12]}), store"
            f" `{comparison.store[:12]}`, rows: {rows or 'unknown'}; {run.config.epochs} epochs,"
            f" batch {run.config.batch_size}, lr {run.config.optimizer.lr:g}, seeds {seeds}, epoch"
            f" selected on {run.summary.selected_on}"
        )
    return [
        Heading("Where this comes from"),
        Listing((*items, f"Written by glot-jax {__version__}, Python {platform.python_version()}")),
    ]


# --------------------------------------------------------------------------------------------------
# Numbers


def _mean(one: Scored) -> str:
    return number_text(one.mean, one.deviation) + ("†" if one.selected_here else "")
