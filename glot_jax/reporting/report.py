"""One page about runs.

Scores with intervals beside the paper's, learning curves, costs, stress tests, tokens and graphs.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glot_jax.errors import UsageError
from glot_jax.files import TABLE_STYLE, write_json
from glot_jax.reporting.comparison import compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.opening_section import opening_section
from glot_jax.reporting.pages import Block, Heading, Listing, write_page
from glot_jax.reporting.paper import PaperTables
from glot_jax.reporting.results import Result
from glot_jax.reporting.score_figures import curve_figure, score_figure, z_score_figure
from glot_jax.reporting.score_section import class_section, score_section
from glot_jax.reporting.stress_records import RECORDS
from glot_jax.reporting.stress_section import stress_section
from glot_jax.reporting.token_section import Sentence, norm_section, token_section
from glot_jax.version import __version__


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What a report shows beside the runs, and how it compares them."""

    title: str = "GLOT runs"
    sentences: Sequence[Sentence] = ()
    """Sentences whose tokens and graph are shown, for runs on states of this width."""
    beside: PaperTables = dataclasses.field(
        default_factory=lambda: PaperTables(("table1",), "BERT")
    )
    """The paper's numbers that stand next to ours."""
    labels: Mapping[Path, str] = dataclasses.field(default_factory=dict)
    """Run folder -> name of its variant; others are named by the settings in which they differ."""
    remarks: Sequence[str] = ()
    """Lines for the top: what is missing, what was done differently."""
    reference: str | None = None
    """Label of the variant that others are compared with. Default: the first glot."""
    resamples: int = 1000
    """Resamples of intervals and permutation tests."""
    across_layers: bool = False
    """Layers of a backbone stand in one table, as variants."""
    more: Sequence[Block] = ()
    """Sections of the caller's own, below the stress tests; with them there need not be any run."""


def write_report(
    folders: Sequence[Path],
    out: Path,
    options: ReportOptions | None = None,
) -> dict[str, Any]:
    """Write OUT/report.html (self-contained), OUT/report.md with OUT/figures, and OUT/scores.json.

    Args:
        folders: searched for run folders, stress.json and probe.json.
        out: folder of the report; made if it does not exist.
        options: what else is shown. Default: nothing but the runs.

    Returns:
        The values of scores.json.

    Raises:
        UsageError: a folder that does not exist, no finished run, or an OUT that cannot be written.
    """
    # Made here: a default in the signature would be one object for all calls.
    options = options or ReportOptions()
    tests = _stress_folders(folders)
    # A report of stress tests or of the caller's own sections can do without a run.
    needs_runs = not tests and not options.more
    results, notes = _results(folders, tests, options, needs_runs)
    remarks = [*options.remarks, *notes, *_findings(results)]
    blocks = _blocks(results, tests, remarks, options)
    comparisons = [result.to_json() for result in results]
    values = {"title": options.title, "remarks": remarks, "comparisons": comparisons}
    # The page first: whoever waits for scores.json finds the page beside it.
    write_page(options.title, blocks, out)
    write_json(out / "scores.json", values, TABLE_STYLE)
    return values


def _stress_folders(folders: Sequence[Path]) -> list[Path]:
    paths = []
    for folder in folders:
        # A folder may hold several tests, in folders of their own.
        paths += sorted(Path(folder).rglob(RECORDS))
    return [path.parent for path in paths]


def _results(
    folders: Sequence[Path],
    tests: Sequence[Path],
    options: ReportOptions,
    needs_runs: bool,
) -> tuple[list[Result], list[str]]:
    """Comparisons of the runs, and a line about each folder that could not be read as one."""
    try:
        runs, notes = find_runs(folders)
    # Also raised where no folder holds a run, which a report of stress tests alone may lack.
    except UsageError:
        if needs_runs:
            raise
        return [], []
    # Runs of a stress test are summed up in its own table.
    own_runs = []
    for run in runs:
        if set(tests).isdisjoint(run.path.parents):
            own_runs.append(run)
    results = []
    compared = compare_runs(own_runs, options.labels, across_layers=options.across_layers)
    for comparison in compared:
        result = Result.from_comparison(
            comparison,
            options.reference,
            options.resamples,
        )
        results.append(result)
    return results, notes


def _findings(results: Sequence[Result]) -> list[str]:
    """A line about each kind of thing that looked wrong, with the runs that it was found in."""
    texts: dict[str, dict[str, None]] = {}
    runs: dict[str, dict[str, list[str]]] = {}
    for result in results:
        for variant in result.comparison.variants:
            label = f"{result.comparison.task}, {variant.label}"
            for run in variant.runs:
                for finding in run.summary.health:
                    # As a dict, which keeps an order and nothing twice.
                    of_kind = texts.setdefault(finding.name, {})
                    of_kind[finding.text] = None
                    variants = runs.setdefault(finding.name, {})
                    seeds = variants.setdefault(label, [])
                    seed = str(run.config.seed)
                    # A run may have a finding of one kind in each of its splits.
                    if seed not in seeds:
                        seeds.append(seed)
    lines = []
    for name, variants in runs.items():
        where = []
        for label, seeds in variants.items():
            noun = "seed"
            if len(seeds) > 1:
                noun = "seeds"
            where.append(f"{label}, {noun} {', '.join(seeds)}")
        first, *others = texts[name]
        line = f"{'; '.join(where)}: {first}"
        # Their numbers differ, and stand in each run's summary.json.
        if others:
            line += f" ({len(others)} more like it)"
        lines.append(line)
    return lines


def _blocks(
    results: Sequence[Result],
    tests: Sequence[Path],
    remarks: Sequence[str],
    options: ReportOptions,
) -> list[Block]:
    blocks = opening_section(results, remarks)
    for result in results:
        blocks += score_section(result, options.beside)
        blocks += class_section(result)
    if results:
        blocks += score_figure(results)
        blocks += curve_figure(results)
    # Figures of several tests need names of their own.
    for number, folder in enumerate(tests):
        blocks += stress_section(folder, number)
    # Costs and the like, between the tests and the figures that end the page.
    blocks += options.more
    blocks += z_score_figure(results)
    blocks += norm_section(results)
    blocks += token_section(results, options.sentences)
    blocks += _provenance(results)
    return blocks


def _provenance(results: Sequence[Result]) -> list[Block]:
    """Backbone, store, rows and settings of each comparison, and what wrote the page."""
    items = list(map(_origin, results))
    items.append(f"Written by glot-jax {__version__}, Python {platform.python_version()}")
    return [Heading("Where this comes from"), Listing(tuple(items))]


def _origin(result: Result) -> str:
    comparison = result.comparison
    # Seeds and their number may differ between variants; everything else is told of the first.
    variant = comparison.variants[0]
    run = variant.runs[0]
    recipe = run.folder.recipe
    # A commit of the Hub, or of a local folder the hash of its weights.
    identity = recipe.revision or recipe.backbone.get("sha256") or "unknown"
    counts = []
    for split, predictions in (run.predictions or {}).items():
        # Predictions have the rows that were judged; a summary does not count them.
        counts.append(f"{split} {len(predictions.labels):,}")
    rows = ", ".join(counts) or "unknown"
    seeds = ", ".join(str(run.config.seed) for run in variant.runs)
    return (
        f"{comparison.task}: {recipe.backbone_name} ({identity[:12]}), store"
        f" `{comparison.store[:12]}`, rows: {rows}; {run.config.epochs} epochs,"
        f" batch {run.config.batch_size}, lr {run.config.optimizer.lr:g}, seeds {seeds}, epoch"
        f" selected on {run.summary.selected_on}"
    )
