"""Tables by columns: which columns are shown, how cells are set, what the console shows."""

from __future__ import annotations

import io
from typing import NamedTuple

from rich.console import Console

from glot_jax.reporting.tables import PIPE_WIDTH, Cell, Column, Table, table_console


class Item(NamedTuple):
    name: str
    value: int


def never(item: Item) -> str:
    raise AssertionError(f"asked for the note of {item.name}")


COLUMNS: list[Column[Item]] = [
    Column("name", lambda row: row.name, align="left"),
    Column("value", lambda row: Cell(f"{row.value:.2f}", bold=row.value == 2)),
    Column("note", never, shown_if=False),
]
ROWS = [Item("a [b]", 1), Item("c", 2)]


def test_a_column_that_is_not_shown_is_never_asked_for_a_cell():
    table = Table.by_columns(COLUMNS, ROWS)
    assert table.titles == ("name", "value")
    assert table.rows[1] == (Cell("c"), Cell("2.00", bold=True))


def test_a_column_in_which_no_row_has_anything_is_left_out():
    remark = Column[Item]("remark", lambda row: "odd" if row.value == 3 else "")
    assert Table.by_columns([*COLUMNS, remark], ROWS).titles == ("name", "value")
    table = Table.by_columns([remark, *COLUMNS], [*ROWS, Item("d", 3)])
    assert table.titles == ("remark", "name", "value")
    assert table.aligned == ("right", "left", "right")
    # Of no rows nothing is known.
    assert Table.by_columns([*COLUMNS, remark], []).titles == ("name", "value", "remark")


def test_a_faint_row_has_faint_cells_and_keeps_what_is_bold():
    table = Table.by_columns(COLUMNS, ROWS, faint=lambda row: row.name == "c")
    assert table.rows[0] == (Cell("a [b]"), Cell("1.00"))
    assert table.rows[1] == (Cell("c", faint=True), Cell("2.00", bold=True, faint=True))


def test_the_console_shows_the_same_cells():
    table = Table.by_columns(COLUMNS, ROWS, "below")
    stream = io.StringIO()
    Console(file=stream, width=60).print(table.to_console("above", ruled_after=(0,)))
    lines = stream.getvalue().splitlines()
    assert lines[0].strip() == "above"
    assert lines[-1].strip() == "below"
    cells = [[part.strip() for part in line.split("│")[1:-1]] for line in lines if "│" in line]
    # Brackets are no markup.
    assert cells == [["a [b]", "1.00"], ["c", "2.00"]]
    assert sum("─" in line for line in lines) == 2  # below the first row and at the end


def test_a_pipe_is_wide_enough_for_names(capsys):
    table_console().print("x" * PIPE_WIDTH)
    assert capsys.readouterr().out == "x" * PIPE_WIDTH + "\n"
