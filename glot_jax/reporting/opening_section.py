"""The first lines of a report: a row for each task, and what a reader has to know beforehand."""

from __future__ import annotations

from collections.abc import Sequence

from glot_jax.reporting.pages import Block, Heading, Listing
from glot_jax.reporting.results import Result, titles_of
from glot_jax.reporting.score_section import mean_text
from glot_jax.reporting.statistics import holm, p_text
from glot_jax.reporting.tables import Column, Table

_CAPTION = (
    "Means and deviations over seeds. p over rows: two-sided permutation test of these"
    " trained heads on the same rows; over seeds: Welch's t-test of the scores of the"
    ' seeds. The highest of many means is flattered by chance: "differ from it" counts the'
    " variants that do at the 5 % level by both tests when all of them are tested (Holm)."
    " Majority: the commonest answer, always."
)


def opening_section(results: Sequence[Result], remarks: Sequence[str]) -> list[Block]:
    """The table of tasks, where there are runs, and the remarks, where there are any."""
    blocks: list[Block] = []
    if results:
        names = dict(zip(map(id, results), titles_of(results), strict=True))

        def name(result: Result) -> str:
            # The numbers of this table are all of the first split.
            return f"{names[id(result)]}, {result.splits[0]}"

        columns = [Column("task, split", name), *_COLUMNS]
        blocks.append(Table.by_columns(columns, results, _CAPTION))
    if remarks:
        blocks += [Heading("Read this first", 2), Listing(tuple(remarks))]
    return blocks


def _best(result: Result) -> str:
    return f"{result.best.variant}: {mean_text(result.best)}"


def _reference(result: Result) -> str:
    score = result.reference_score
    if score is None:
        return ""
    return f"{score.variant}: {mean_text(score)}"


def _gap(result: Result) -> str:
    # The best variant may be the reference, which is not compared with itself.
    difference = result.best.difference
    if result.reference_score is None or difference is None:
        return ""
    # Differences are reference - variant. Subtracted from 0, and not negated: no gap is +0.000.
    gap = 0 - difference.value
    return f"{gap:+.3f}{p_text(difference.p, difference.p_seeds)}"


def _different(result: Result) -> str:
    # Variants without predictions, or with too few rows, have no test to count.
    p_values = []
    for score in result.first_scores:
        if score.difference is not None and score.difference.p_both is not None:
            p_values.append(score.difference.p_both)
    if p_values:
        return f"{holm(p_values)} of {len(p_values)}"
    return ""


def _majority(result: Result) -> str:
    # Scores of a regression have no commonest answer.
    baselines = result.comparison.baselines(result.splits[0])
    majority = baselines.get("majority")
    if majority is None:
        return ""
    return f"{majority:.3f}"


_COLUMNS: list[Column[Result]] = [
    Column("metric", lambda result: result.metric),
    Column("highest mean", _best),
    Column("reference", _reference),
    Column("highest - reference (p rows; seeds)", _gap),
    Column("differ from it", _different),
    Column("majority", _majority),
]
