"""Tables by columns: a column is a title and a function that makes its cell from a row.

The same table is set on a page (`glot_jax.reporting.pages`) and printed to the console.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Generic, Literal, TypeVar

from rich.console import Console
from rich.table import Table as ConsoleTable
from rich.text import Text

Row = TypeVar("Row")
Align = Literal["left", "right"]

PIPE_WIDTH = 150
"""Columns of a table that is printed into a pipe or a file."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """The text of one row in one column, and how it is set."""

    text: str
    bold: bool = False
    """The best of its column."""
    faint: bool = False
    """Not a result of ours: a baseline, or a number of the paper."""


@dataclasses.dataclass(frozen=True)
class Column(Generic[Row]):
    """A title, and the function that makes a cell from a row."""

    title: str
    cell: Callable[[Row], Cell | str]
    """A plain string is a cell in ordinary type."""
    shown_if: bool = True
    """False leaves the column out of the table."""
    align: Align = "right"
    """On the console; a page sets the first column left and all others right."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells in rows below the titles of their columns, with a caption."""

    titles: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    aligned: tuple[Align, ...] = ()
    """Of each column on the console."""

    @classmethod
    def by_columns(
        cls,
        columns: Sequence[Column[Row]],
        rows: Sequence[Row],
        caption: str = "",
        *,
        faint: Callable[[Row], bool] | None = None,
    ) -> Table:
        """The table of these rows.

        Args:
            columns: from left to right; those that are not shown, or empty in all rows, are left
                out.
            rows: from top to bottom, of any type that the columns can read.
            caption: a sentence below the table.
            faint: tells of a row whether all of its cells are set faint. Default: none is.
        """
        # A column that is not shown is never asked for a cell: it may have nothing to read.
        shown = [column for column in columns if column.shown_if]
        lines = []
        for row in rows:
            is_faint = faint is not None and faint(row)
            cells = [_cell(column, row, is_faint) for column in shown]
            lines.append(tuple(cells))
        # A column in which no row has anything says nothing, and takes room from those that do.
        filled = [
            index
            for index in range(len(shown))
            if not lines or any(line[index].text for line in lines)
        ]
        return cls(
            titles=tuple(shown[index].title for index in filled),
            rows=tuple(tuple(line[index] for index in filled) for line in lines),
            caption=caption,
            aligned=tuple(shown[index].align for index in filled),
        )

    @property
    def width(self) -> int:
        """Columns that it takes on a console."""
        total = 1  # the line at the left
        for number, title in enumerate(self.titles):
            texts = [row[number].text for row in self.rows]
            # A space on both sides of each column, and a line after it.
            total += max(map(len, [title, *texts])) + 3
        return total

    def transposed(self) -> Table:
        """The same table with a row for each column, titles on the left.

        For few rows with many values.
        """
        titles = [self.titles[0]]
        aligned: list[Align] = ["left"]
        for row in self.rows:
            titles.append(row[0].text)
            aligned.append("right")
        rows = []
        for number, title in enumerate(self.titles):
            # The first column has become the line of titles.
            if number > 0:
                cells = [row[number] for row in self.rows]
                rows.append((Cell(title), *cells))
        return Table(tuple(titles), tuple(rows), self.caption, tuple(aligned))

    def to_console(
        self,
        title: str | None = None,
        *,
        ruled_after: Collection[int] = (),
        wrap: bool = True,
    ) -> ConsoleTable:
        """The table as rich prints it.

        Args:
            title: a line above the table.
            ruled_after: numbers of the rows that are followed by a line.
            wrap: whether cells may be broken where the console is too narrow.
        """
        table = ConsoleTable(title=title, caption=self.caption or None)
        for heading, align in zip(self.titles, self.aligned, strict=True):
            table.add_column(heading, justify=align, no_wrap=not wrap)
        for number, row in enumerate(self.rows):
            # As Text, not as str: names of classes and files may hold brackets, no markup.
            texts = map(_as_text, row)
            table.add_row(*texts, end_section=number in ruled_after)
        return table


def table_console(width: int = PIPE_WIDTH) -> Console:
    """Stdout for tables: as wide as the terminal, or `width` columns where it is not a terminal."""
    console = Console()
    # A pipe does not know its width, and rich would cut names and numbers at 80 columns.
    if console.is_terminal:
        return console
    return Console(width=width)


def _cell(column: Column[Row], row: Row, is_faint: bool) -> Cell:
    cell = column.cell(row)
    if isinstance(cell, str):
        cell = Cell(cell)
    # A faint row keeps what its cells say of themselves.
    if is_faint:
        return dataclasses.replace(cell, faint=True)
    return cell


def _as_text(cell: Cell) -> Text:
    style = ""
    if cell.faint:
        style = "dim"
    # The best of a column is to be seen, whatever row it stands in.
    if cell.bold:
        style = "bold"
    return Text(cell.text, style=style)
