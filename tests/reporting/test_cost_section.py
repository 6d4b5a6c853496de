"""The section of measured times: cells of ours and of the paper's rows."""

from __future__ import annotations

from support.typed import of_kinds

from glot_jax.reporting.cost_section import cost_section
from glot_jax.reporting.pages import Heading
from glot_jax.reporting.tables import Table

TITLES = {"length": "tokens", "graph_ms": "graph, ms", "total_ms": "total, ms"}


def test_our_times_stand_above_the_papers():
    records = [
        {"backbone": "tiny", "load_per_core": 0.25, "length": 1024, "graph_ms": 0.12345},
        {"backbone": "tiny", "load_per_core": 0.0, "length": 8, "graph_ms": 1234.5, "total_ms": 9},
    ]
    blocks = cost_section("Cost", records, TITLES, {"512 tokens": {"graph_ms": 0.043}})
    heading, table = of_kinds(blocks, Heading, Table)
    assert heading.text == "Cost"
    assert table.titles == ("tokens", "graph, ms", "total, ms")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["1,024", "0.123", ""],
        ["8", "1,234", "9"],
        ["paper: 512 tokens", "0.043", ""],
    ]
    assert [row[0].faint for row in table.rows] == [False, False, True]
    assert table.caption == (
        "Medians on this machine, tiny; one-minute load per core before: 0.25."
    )


def test_a_busy_machine_is_told():
    blocks = cost_section("Cost", [{"backbone": "tiny", "load_per_core": 0.75}], TITLES, {})
    _, table = of_kinds(blocks, Heading, Table)
    assert "Other work ran beside" in table.caption


def test_without_measurements_there_is_no_caption():
    blocks = cost_section("Cost", [], TITLES, {"512 tokens": {"graph_ms": 0.043}})
    _, table = of_kinds(blocks, Heading, Table)
    assert table.caption == ""
