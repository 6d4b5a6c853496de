"""The first table of a report and its remarks."""

from __future__ import annotations

import pytest
from support.typed import of_kinds

from glot_jax.reporting.comparison import compare_runs
from glot_jax.reporting.finished_runs import find_runs
from glot_jax.reporting.opening_section import opening_section
from glot_jax.reporting.pages import Heading, Listing
from glot_jax.reporting.results import Result
from glot_jax.reporting.score_section import mean_text
from glot_jax.reporting.tables import Table

pytestmark = pytest.mark.xdist_group("report")  # what they share is made once


def test_a_row_for_each_task_says_who_is_first(folder):
    runs, _ = find_runs([folder / "runs"])
    results = [Result.from_comparison(comparison, None, 50) for comparison in compare_runs(runs)]
    (table,) = of_kinds(opening_section(results, []), Table)
    for row, result in zip(table.rows, results, strict=True):
        texts = dict(zip(table.titles, [cell.text for cell in row], strict=True))
        name = texts["task, split"]
        # Two comparisons of one task: told apart by the backbone, or else by the store.
        assert name.startswith("custom, synthetic, layer 2")
        assert name.endswith(f", {result.splits[0]}")
        assert texts["highest mean"] == f"{result.best.variant}: {mean_text(result.best)}"
        assert texts["reference"].startswith(f"{result.reference}: ")
        # The reference is not behind itself; another is ahead of it or level.
        gap = texts["highest - reference (p rows; seeds)"]
        if result.best.variant == result.reference:
            assert gap == ""
        else:
            assert gap.startswith("+")


def test_without_runs_there_are_remarks_alone():
    heading, listing = of_kinds(opening_section([], ["a", "b"]), Heading, Listing)
    assert heading.text == "Read this first"
    assert listing.items == ("a", "b")
    assert opening_section([], []) == []
