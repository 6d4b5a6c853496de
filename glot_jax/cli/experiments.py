"""Commands that train many runs, or report on them."""

from __future__ import annotations

import sys

from glot_jax.cli.early_checks import require_folder, require_poolers
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config.experiments import ReportConfig, ReproduceConfig, StressConfig
from glot_jax.errors import lookup, require_extra, require_known


def stress(config: StressConfig) -> int:
    """Run the stress test: which poolers find one relation among distractor words."""
    from glot_jax.texts.stress_texts import PROTOCOLS

    for protocol in config.protocol:
        require_known(PROTOCOLS, protocol, "protocol (--protocol)")
    require_poolers(config.poolers, "--poolers")
    # Both now: the figure is drawn last, when everything else has been computed.
    require_extra("extract", "glot stress")
    require_extra("viz", "glot stress")
    use_compile_cache(config.programs.compile_cache)
    from glot_jax.experiments.stress import run_stress

    run_stress(config)
    return 0


def reproduce(config: ReproduceConfig) -> int:
    """Run tables and figures of the paper again on a backbone of your choice."""
    from glot_jax.experiments.cards import CARDS, MORE

    for card in config.cards:
        lookup(CARDS, card, "card of the paper")
    for name in config.more:
        lookup(MORE, name, "further row (--more)")
    _require_paper_backbone(config.beside)
    require_extra("viz", "glot reproduce")
    require_extra("extract", "glot reproduce")
    use_compile_cache(config.programs.compile_cache)
    from glot_jax.experiments.reproduce import run_cards

    run_cards(config)
    return 0


def report(config: ReportConfig) -> int:
    """Write one page about finished runs: HTML in a single file, and Markdown."""
    _require_paper_backbone(config.beside)
    # All of them before the first is read: one page is about all.
    for folder in config.folders:
        require_folder(folder, "runs are read from folders")
    require_extra("viz", "glot report")
    if config.sentences:
        require_extra("extract", "--sentences")
    from glot_jax.reporting.paper import PaperTables
    from glot_jax.reporting.report import ReportOptions, write_report

    options = ReportOptions(
        title=config.title,
        sentences=_sentences(config),
        beside=PaperTables(("table1",), config.beside),
        reference=config.reference,
        resamples=config.resamples,
    )
    values = write_report(config.folders, config.out, options)
    written = ["report.html", "report.md", "scores.json"]
    from glot_jax.files import write_bytes
    from glot_jax.run_tables.score_files import scores_csv, scores_latex

    # Of the same numbers as the page.
    if config.csv:
        text = scores_csv(values["comparisons"])
        write_bytes(config.out / "scores.csv", text.encode())
        written.append("scores.csv")
    if config.latex:
        text = scores_latex(values["comparisons"])
        write_bytes(config.out / "scores.tex", text.encode())
        written.append("scores.tex")
    print(f"wrote {config.out}/{', '.join(written)}", file=sys.stderr)
    return 0


def _sentences(config: ReportConfig) -> list:
    if not config.sentences:
        return []
    from glot_jax.experiments.sentences import sentences_of
    from glot_jax.reporting.finished_runs import find_runs

    runs, _ = find_runs(config.folders)
    # By the first run: its backbone and head are those that the page shows.
    return sentences_of(runs[0].path, config.sentences, backbone=config.backbone)


def _require_paper_backbone(name: str) -> None:
    from glot_jax.reporting.paper import PARAMETERS

    require_known(PARAMETERS, name, "backbone of the paper (--beside)")
