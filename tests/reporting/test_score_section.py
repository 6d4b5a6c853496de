"""The table of scores: its rows, its columns and its caption follow from what there is to show."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.typed import of_kinds

from glot_jax.reporting.comparison import compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.pages import Heading
from glot_jax.reporting.paper import PaperTables
from glot_jax.reporting.results import Result
from glot_jax.reporting.score_section import mean_text, score_section
from glot_jax.reporting.tables import Table

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once

NO_TABLES = PaperTables((), "BERT")


def result_of(folder: Path, reference: str | None = None) -> Result:
    runs, _ = find_runs([folder])
    (comparison,) = compare_runs(runs)
    return Result.from_comparison(comparison, reference, 50)


@pytest.fixture(scope="module")
def result(folder):
    return result_of(folder / "runs" / "classes")


def test_variants_stand_above_the_baselines(result):
    heading, table = of_kinds(score_section(result, NO_TABLES), Heading, Table)
    assert heading.text.startswith("custom: ")
    names = [row[0].text for row in table.rows]
    labels = [score.variant for score in result.first_scores]
    assert names == [*labels, "baseline: majority", "baseline: length"]
    assert [row[0].faint for row in table.rows] == [False] * 4 + [True] * 2
    assert table.titles == (
        "variant",
        f"test {result.metric}",
        "95 % of rows",
        "glot, tau 0.6 - this (p rows; seeds)",
        "p after Holm (3)",
        # Runs of an epoch or two, of which some have learned nothing.
        "seeds that learned",
        f"validation {result.metric}",
        "last epoch, test",
        "parameters",
        "train s",
    )


def test_each_split_has_its_own_best_and_baselines(result):
    _, table = of_kinds(score_section(result, NO_TABLES), Heading, Table)
    for split in result.splits:
        column = table.titles.index(f"{split} {result.metric}")
        scores = result.by_split[split]
        bold = [row[0].text for row in table.rows if row[column].bold]
        assert bold == [max(scores, key=lambda score: score.mean).variant]
        for row, score in zip(table.rows, scores, strict=False):
            assert row[column].text == mean_text(score)
        baselines = result.comparison.baselines(split)
        assert table.rows[4][column].text == f"{baselines['majority']:.3f}"


def test_scores_selected_on_their_own_split_are_marked(folder):
    blocks = score_section(result_of(folder / "runs" / "scores"), NO_TABLES)
    _, table = of_kinds(blocks, Heading, Table)
    assert all(row[1].text.endswith("†") for row in table.rows if not row[0].faint)
    assert "†: the best epoch was selected on this very split" in table.caption
    assert "over 1 to 2 seeds" in table.caption


def test_rows_of_the_paper_are_quoted_where_ours_have_a_number(result):
    class Tables(PaperTables):
        """The paper knows two rows of every task, one of which was run here."""

        def number(self, row: str, column: str) -> float | None:
            del column
            return {"mean": 12.5, "max": 50.0}.get(row)

        def rows(self, column: str) -> list[str]:
            del column
            return ["mean", "max"]

    blocks = score_section(result, Tables(("table1",), "BERT"))
    _, table = of_kinds(blocks, Heading, Table)
    column = table.titles.index("paper, BERT")
    printed = {row[0].text: row[column].text for row in table.rows}
    assert printed["mean"] == "0.125"
    assert printed["adapool"] == ""
    assert printed["quoted: max"] == "0.500"
    assert "quoted: mean" not in printed
    assert "(BERT; Table 1)" in table.caption
