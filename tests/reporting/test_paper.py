"""The paper's numbers, typed in once."""

from __future__ import annotations

import numpy as np
import pytest

from glot_jax.reporting import paper
from glot_jax.reporting.paper import PaperTables


def test_the_papers_numbers_are_those_of_the_paper():
    # Rows and columns of its tables 1, 4, 7, 8 and 11, and the aliases of its plain GLOT.
    assert sum(len(rows) for rows in paper.TABLES["table1"].values()) == 30
    assert paper.TABLES["table1"]["BERT"]["glot"]["cola"] == 47.49
    assert paper.TABLES["table7"]["Mistral-7B"]["glot"] == {
        "0.2": 99.2,
        "0.5": 97.6,
        "0.8": 97.4,
        "0.9": 97.2,
    }
    assert PaperTables(("table8",), "BERT").number("glot", "stsb") == 83.86
    assert PaperTables(("table11",), "BERT").number("glot", "cola") == 47.49
    assert PaperTables(("table4", "table8"), "BERT").number("glot, tau 0.2", "rte") == 50.90
    assert PaperTables(("table1",), "BERT").number("sage", "cola") is None


def test_rows_are_those_that_have_a_number():
    tables = PaperTables(("table8", "table11"), "BERT")
    rows = tables.rows("cola")
    assert rows.count("glot") == 1  # tau 0.6 of one table and gat of the other
    assert {"glot, tau 0.8", "glot, gcn", "adapool"} <= set(rows)
    assert PaperTables(("table13",), "BERT").rows("cola") == []
    assert tables.source == "Table 8, Table 11"


def test_z_scores_of_a_column_have_mean_0_and_deviation_1():
    scores = paper.z_scores(paper.TABLES["table1"]["BERT"])
    for column in paper.TABLES["table1"]["BERT"]["glot"]:
        values = [numbers[column] for numbers in scores.values()]
        np.testing.assert_allclose([np.mean(values), np.std(values)], [0, 1], atol=1e-12)
    # GLOT on BERT, as Figure 4 shows it: far above the mean of the methods on CoLA.
    cola = [22.66, 19.55, 15.79, 29.20, 47.49]
    assert scores["glot"]["cola"] == pytest.approx((47.49 - np.mean(cola)) / np.std(cola))


def test_columns_without_a_deviation_have_no_z_score():
    rows = {"a": {"x": 1.0, "y": 2.0}, "b": {"x": 1.0}}
    assert paper.z_scores(rows) == {"a": {}, "b": {}}
