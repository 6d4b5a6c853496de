"""The report of `glot reproduce`.

What was run, beside which numbers of the paper, and what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from glot_jax.config.experiments import ReproduceConfig
from glot_jax.experiments.card_results import CardResult

_COSTS = {
    "table10": {
        "length": "tokens",
        "graph_ms": "graph, ms",
        "forward_ms": "backbone, ms",
        "head_ms": "head, ms",
        "total_ms": "total, ms",
        "overhead_percent": "graph, % of total",
    },
    "table16": {
        "pooler": "pooler",
        "forward_ms": "backbone, ms",
        "head_ms": "head, ms",
        "total_ms": "total, ms",
        "head_percent": "head, % of total",
        "parameters": "parameters of the pooler",
        "peak_bytes": "head's memory, bytes",
    },
}
"""Cards of measured times -> the fields of their records that are shown, with their titles."""

_OWN_NUMBERS = ("1", "2", "4", "8", "9", "11", "13", "14", "15", "17")
"""Tables that have numbers for the rows of their own cards."""

_BESIDE = {f"table{number}": f"table{number}" for number in _OWN_NUMBERS}
_BESIDE |= {"table5": "table9", "figure4": "table1"}
"""Cards whose rows have numbers in the paper -> the table that has them."""


def report_cards(
    config: ReproduceConfig,
    results: Mapping[str, CardResult],
    labels: Mapping[Path, str],
) -> None:
    """Write OUT/report.html, report.md and scores.json, if anything was run or measured.

    Args:
        config: settings of the command.
        results: name of a card -> what came of it.
        labels: run folder -> label of its variant.

    Raises:
        UsageError: an OUT that cannot be written, or a sentence without a token.
    """
    # matplotlib and jax, which the command's checks do without.
    from glot_jax.experiments.sentences import sentences_of
    from glot_jax.reporting.cost_section import cost_section
    from glot_jax.reporting.pages import Block
    from glot_jax.reporting.paper import PaperTables
    from glot_jax.reporting.report import ReportOptions, write_report

    folders = []
    for path in (config.out / "runs", config.out / "stress"):
        # Cards of times alone train nothing.
        if path.is_dir():
            folders.append(path)
    costs: list[Block] = []
    for name, result in results.items():
        if name in _COSTS:
            printed = _printed_costs(name, config.beside)
            costs += cost_section(result.title, result.records or [], _COSTS[name], printed)
    if not folders and not costs:
        print("no run to report", file=sys.stderr)
        return
    # Any run will do: all of them read states of the same backbone.
    run = _first_run(results)
    sentences = []
    if run is not None:
        sentences = sentences_of(run, config.sentences, backbone=config.backbone)
    options = ReportOptions(
        title=f"{card_names(results)} of the GLOT paper with {Path(config.backbone).name}",
        sentences=sentences,
        beside=PaperTables(_tables_beside(results), config.beside),
        labels=labels,
        remarks=_remarks(config, results, labels),
        reference="glot",
        resamples=config.resamples,
        # A variant's layer is part of what was chosen for it.
        across_layers=bool(config.selection_seeds),
        more=costs,
    )
    write_report(folders, config.out, options)
    print(f"wrote {config.out}/report.html, report.md, scores.json and cards.json", file=sys.stderr)


def _first_run(results: Mapping[str, CardResult]) -> Path | None:
    for result in results.values():
        for run in result.runs or ():
            return Path(run.run)
    return None


def _tables_beside(names: Iterable[str]) -> tuple[str, ...]:
    tables = []
    for name in names:
        # Two cards may stand beside one table.
        if name in _BESIDE and _BESIDE[name] not in tables:
            tables.append(_BESIDE[name])
    # A report needs a table to look in; without a row of the same name it shows none of it.
    return tuple(tables) or ("table1",)


def _remarks(
    config: ReproduceConfig,
    results: Mapping[str, CardResult],
    labels: Mapping[Path, str],
) -> list[str]:
    remarks = []
    for name, result in results.items():
        # What is missing stands at the top, before what was run.
        remarks += [f"{name}, missing: {line}" for line in result.missing]
    for name, result in results.items():
        remark = f"{name}, {result.title}"
        # Each once, in the order of the card: there is a run for every task and seed.
        variants = dict.fromkeys(run.variant for run in result.runs or ())
        if variants:
            remark += f": rows {'; '.join(variants)}"
        if result.note:
            remark += f" ({result.note})"
        remarks.append(remark)
    # Tables give the plain GLOT different names; the report has one.
    if "glot" in labels.values():
        remarks.append(
            "`glot` is GAT, tau 0.6: the rows that tables call tau 0.6 or gat are these runs"
        )
    if config.selection_seeds:
        remarks.append(
            "Rate, layer and number of epochs of each variant were chosen by the mean of the seeds"
            f" {' '.join(map(str, config.selection_seeds))} on holdouts of the training rows"
            " (selection.json has all trials); the reported seeds were trained on all of them, to"
            " that epoch. Unselected: the last layer, rate 2e-4"
        )
    if config.tasks:
        remarks.append(f"Only these tasks were asked for: {', '.join(config.tasks)}")
    return remarks


def _printed_costs(card: str, backbone: str) -> dict[str, dict[str, float]]:
    """The paper's rows of a table of times, named by backbone and row."""
    from glot_jax.reporting.paper import TABLES

    printed = {}
    for name, rows in TABLES[card].items():
        # Table 10 has a row for each backbone, all of which are shown; Table 16 is of Mistral-7B.
        is_shown = card == "table10" or name in (backbone, "Mistral-7B")
        if is_shown:
            for row, numbers in rows.items():
                printed[f"{name}, {row}"] = numbers
    return printed


def card_names(names: Iterable[str]) -> str:
    """`table4`, `table8`, `figure5` -> "Tables 4, 8, Figure 5"."""
    # Looked at once for each kind.
    names = list(names)
    parts = []
    for kind in ("table", "figure"):
        numbers = [name.removeprefix(kind) for name in names if name.startswith(kind)]
        if numbers:
            plural = "s" if len(numbers) > 1 else ""
            parts.append(f"{kind.capitalize()}{plural} {', '.join(numbers)}")
    return ", ".join(parts)
