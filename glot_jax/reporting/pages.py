"""Pages of headings, paragraphs, tables and figures.

A page is one self-contained HTML file, and the same as Markdown.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from glot_jax.files import make_folders, write_bytes
from glot_jax.reporting.tables import Cell, Table


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading; those of level 2 are linked at the top of the page."""

    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """A paragraph of plain text; `code` stands between backquotes."""

    text: str


@dataclasses.dataclass(frozen=True)
class Listing:
    """A list with bullets, each item set like a paragraph."""

    items: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing with a caption."""

    name: str
    """Name of its file without suffix; unique on the page."""
    svg: str
    """The SVG element."""
    caption: str


Block = Heading | Paragraph | Listing | Table | Figure

_STYLE = """
:root {
  --ink: #1c2024; --soft: #5b6470; --line: #d9dee4; --mark: #d55e00; --back: #ffffff;
  --stripe: #f6f8fa;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ec; --soft: #9aa4af; --line: #3a424b; --mark: #ff9347; --back: #15191d;
    --stripe: #1d2328;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 5rem; max-width: 78rem;
  font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--back);
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 {
  font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: .8rem;
  border-top: 1px solid var(--line);
}
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
p { max-width: 46rem; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem; margin: 1rem 0; }
a { color: inherit; text-decoration-color: var(--mark); }
.wide { overflow-x: auto; }
table {
  border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums;
  margin: .4rem 0 .2rem;
}
th, td {
  padding: .3rem .55rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap;
}
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; }
td.faint { color: var(--soft); font-style: italic; }
td.best { font-weight: 700; color: var(--mark); }
.caption, figcaption {
  color: var(--soft); font-size: .88rem; max-width: 46rem; margin: .3rem 0 1rem;
}
figure {
  margin: 1rem 0;
}
figure svg { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
/* A row of many cells becomes a card where it would have to be scrolled. */
@media (max-width: 40rem) {
  body { padding: 1rem .9rem 3rem; }
  .many, .many tbody, .many tr, .many td { display: block; }
  .many thead { display: none; }
  .many tr { padding: .4rem 0; border-bottom: 1px solid var(--line); }
  .many td { display: flex; gap: 1rem; justify-content: space-between; border: 0;
    padding: .1rem 0; white-space: normal; overflow-wrap: anywhere; }
  .many td::before { content: attr(data-label); color: var(--soft); text-align: left; }
  .many td:first-child { font-weight: 600; }
  .many td:first-child::before, .many td:empty { display: none; }
  .drawn { overflow-x: auto; }
  .drawn svg { min-width: 30rem; }
}
code {
  background: var(--stripe); padding: .1em .3em; border-radius: 4px; font-size: .9em;
  overflow-wrap: anywhere;
}
@media print { body { max-width: none; } }
"""


def write_page(
    title: str,
    blocks: Sequence[Block],
    folder: Path,
    name: str = "report",
) -> None:
    """Write FOLDER/NAME.html, FOLDER/NAME.md and the latter's FOLDER/figures/*.svg.

    Raises:
        UsageError: a folder that cannot be written to.
    """
    make_folders(folder)
    for block in blocks:
        if isinstance(block, Figure):
            # Here, so that a page without figures leaves no empty folder.
            make_folders(folder / "figures")
            # The HTML page has its figures inside; these are for the Markdown page.
            write_bytes(folder / "figures" / f"{block.name}.svg", block.svg.encode())
    write_bytes(folder / f"{name}.md", to_markdown(title, blocks).encode())
    write_bytes(folder / f"{name}.html", to_html(title, blocks).encode())


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """The page as one HTML file without scripts or addresses: figures and style are inside."""
    # By identity, not by text: two sections may have the same heading.
    # The blocks outlive the page, so no identity is given twice.
    anchors = {}
    links = []
    for number, block in enumerate(blocks):
        if isinstance(block, Heading):
            anchors[id(block)] = f"s{number}"
            if block.level == 2:
                links.append(f'<a href="#s{number}">{html.escape(block.text)}</a>')
    anchors |= _figure_numbers(blocks)
    body = [_html(block, anchors) for block in blocks]
    # What comes before the first heading introduces the page; the links follow it.
    body.insert(_first_heading(blocks), f"<nav>{''.join(links)}</nav>")
    head = (
        '<head><meta charset="utf-8"><meta name="viewport"'
        ' content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>"
    )
    content = "\n".join(body)
    return (
        f'<!doctype html>\n<html lang="en">{head}\n<body><h1>{html.escape(title)}</h1>\n'
        f"{content}\n</body></html>\n"
    )


def _figure_numbers(blocks: Sequence[Block]) -> dict[int, str]:
    """What the caption of each figure begins with, by the figure's identity: one number each."""
    numbers: dict[int, str] = {}
    for block in blocks:
        if isinstance(block, Figure):
            numbers[id(block)] = f"Figure {len(numbers) + 1}. "
    return numbers


def _first_heading(blocks: Sequence[Block]) -> int:
    for number, block in enumerate(blocks):
        if isinstance(block, Heading):
            return number
    return len(blocks)


def _html(block: Block, anchors: dict[int, str]) -> str:
    match block:
        case Heading():
            tag = f"h{block.level}"
            return f'<{tag} id="{anchors[id(block)]}">{html.escape(block.text)}</{tag}>'
        case Paragraph():
            return f"<p>{_inline(block.text)}</p>"
        case Listing():
            items = "".join(f"<li>{_inline(item)}</li>" for item in block.items)
            return f"<ul>{items}</ul>"
        case Table():
            return _html_table(block)
        case Figure():
            # Names inside an SVG are shared by the whole page: each figure's get its own prefix.
            drawn = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{block.name}-", block.svg)
            caption = anchors[id(block)] + block.caption
            label = html.escape(caption, quote=True)
            return (
                f'<figure role="img" aria-label="{label}"><div class="drawn">{drawn}</div>'
                f"<figcaption>{_inline(caption)}</figcaption></figure>"
            )


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{_inline(title)}</th>" for title in table.titles)
    # Three columns fit a phone; of more each cell is told the head that it is far away from.
    many = len(table.titles) > 3
    lines = []
    for row in table.rows:
        cells = []
        for cell, title in zip(row, table.titles, strict=True):
            cells.append(_html_cell(cell, title if many else ""))
        lines.append(f"<tr>{''.join(cells)}</tr>")
    caption = f'<p class="caption">{_inline(table.caption)}</p>' if table.caption else ""
    kind = ' class="many"' if many else ""
    # A table that is wider than the page scrolls by itself.
    return (
        f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>{caption}"
    )


def _html_cell(cell: Cell, label: str) -> str:
    names = []
    if cell.bold:
        names.append("best")
    if cell.faint:
        names.append("faint")
    attributes = ""
    if names:
        attributes += f' class="{" ".join(names)}"'
    if label:
        attributes += f' data-label="{html.escape(label, quote=True)}"'
    return f"<td{attributes}>{_inline(cell.text)}</td>"


def _inline(text: str) -> str:
    # Escaped first: what stands between backquotes may be markup itself.
    escaped = html.escape(text, quote=False)
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", escaped)


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The same page for readers of repositories; figures are files beside it."""
    numbers = _figure_numbers(blocks)
    parts = [f"# {title}"]
    for block in blocks:
        parts.append(_markdown(block, numbers))
    return "\n\n".join(parts) + "\n"


def _markdown(block: Block, numbers: dict[int, str]) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Paragraph():
            return block.text
        case Listing():
            return "\n".join(f"- {item}" for item in block.items)
        case Table():
            return _markdown_table(block)
        case Figure():
            caption = numbers[id(block)] + block.caption
            return f"![{caption}](figures/{block.name}.svg)\n\n{caption}"


def _markdown_table(table: Table) -> str:
    # The first column names the row; the others are numbers, which stand to the right.
    numbers = len(table.titles) - 1
    rule = ["---", *["---:"] * numbers]
    lines = [_markdown_line(table.titles), _markdown_line(rule)]
    for row in table.rows:
        lines.append(_markdown_line(map(_markdown_cell, row)))
    text = "\n".join(lines)
    if table.caption:
        return f"{text}\n\n{table.caption}"
    return text


def _markdown_line(texts: Iterable[str]) -> str:
    # A bar inside a cell would begin another one.
    escaped = [text.replace("|", "\\|") for text in texts]
    return f"| {' | '.join(escaped)} |"


def _markdown_cell(cell: Cell) -> str:
    if cell.bold:
        return f"**{cell.text}**"
    # Markdown shows the stars of an empty cell.
    if cell.faint and cell.text:
        return f"*{cell.text}*"
    return cell.text
