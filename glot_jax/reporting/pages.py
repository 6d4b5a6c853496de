"""A page of headings, paragraphs, tables and figures, written as one self-contained HTML file and
as Markdown.
"""

from __future__ import annotations

import dataclasses
import html
import re
from collections.abc import Sequence
from pathlib import Path

from glot_jax.files import make_folders, write_bytes


@dataclasses.dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclasses.dataclass(frozen=True)
class Paragraph:
    text: str
    """Plain text; `code` between backquotes."""


@dataclasses.dataclass(frozen=True)
class Listing:
    items: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    best: tuple[tuple[int, int], ...] = ()
    """(row, column) of cells set in bold."""
    faint: tuple[int, ...] = ()
    """Rows that are no variants of ours: baselines, numbers of the paper."""


@dataclasses.dataclass(frozen=True)
class Figure:
    name: str
    """Of its file, without suffix."""
    svg: str
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
th { color: var(--soft); font-weight: 600; vertical-align: bottom; }
tr.faint td { color: var(--soft); font-style: italic; }
td.best { font-weight: 700; color: var(--mark); }
.caption, figcaption {
  color: var(--soft); font-size: .88rem; max-width: 46rem; margin: .3rem 0 1rem;
}
figure {
  margin: 1rem 0;
}
figure svg { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
code {
  background: var(--stripe); padding: .1em .3em; border-radius: 4px; font-size: .9em;
  overflow-wrap: anywhere;
}
@media print { body { max-width: none; } }
"""


def write_page(title: str, blocks: Sequence[Block], folder: Path, name: str = "report") -> None:
    """FOLDER/NAME.html, FOLDER/NAME.md and the latter's FOLDER/figures/*.svg."""
    make_folders(folder)
    pictures = [block for block in blocks if isinstance(block, Figure)]
    if pictures:
        make_folders(folder / "figures")
    for picture in pictures:
        write_bytes(folder / "figures" / f"{picture.name}.svg", picture.svg.encode())
    write_bytes(folder / f"{name}.md", to_markdown(title, blocks).encode())
    write_bytes(folder / f"{name}.html", to_html(title, blocks).encode())


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One file without scripts or addresses: figures and style are inside."""
    anchors = {
        id(block): f"s{number}" for number, block in enumerate(blocks) if isinstance(block, Heading)
    }
    links = "".join(
        f'<a href="#{anchors[id(block)]}">{html.escape(block.text)}</a>'
        for block in blocks
        if isinstance(block, Heading) and block.level == 2
    )
    # What comes before the first heading introduces the page; the links follow it.
    first = next(
        (place for place, block in enumerate(blocks) if isinstance(block, Heading)), len(blocks)
    )
    body = [_html(block, anchors) for block in blocks]
    body.insert(first, f"<nav>{links}</nav>")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport"'
        ' content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _html(block: Block, anchors: dict[int, str]) -> str:
    match block:
        case Heading():
            return (
                f"<h{block.level}"
                f' id="{anchors[id(block)]}">{html.escape(block.text)}</h{block.level}>'
            )
        case Paragraph():
            return f"<p>{_inline(block.text)}</p>"
        case Listing():
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in block.items) + "</ul>"
        case Table():
            head = "".join(f"<th>{_inline(column)}</th>" for column in block.columns)
            rows = "".join(
                f"<tr{' class=faint' if number in block.faint else ''}>"
                + "".join(
                    f"<td{' class=best' if (number, place) in block.best else ''}>"
                    f"{_inline(cell)}</td>"
                    for place, cell in enumerate(row)
                )
                + "</tr>"
                for number, row in enumerate(block.rows)
            )
            caption = f'<p class="caption">{_inline(block.caption)}</p>' if block.caption else ""
            return (
                f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
                f"<tbody>{rows}</tbody></table></div>{caption}"
            )
        case Figure():
            # Names inside an SVG are shared by the whole page: each figure's get its own prefix.
            drawn = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{block.name}-", block.svg)
            return (
                f'<figure role="img" aria-label="{html.escape(block.caption, quote=True)}">'
                f"{drawn}<figcaption>{_inline(block.caption)}</figcaption></figure>"
            )


def _inline(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The same page for readers of repositories; figures are files beside it."""
    return f"# {title}\n\n" + "\n\n".join(_markdown(block) for block in blocks) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {block.text}"
        case Paragraph():
            return block.text
        case Listing():
            return "\n".join(f"- {item}" for item in block.items)
        case Table():
            rows = [
                [
                    (
                        f"**{cell}**"
                        if (number, place) in block.best
                        else f"*{cell}*"
                        if number in block.faint and cell
                        else cell
                    )
                    for place, cell in enumerate(row)
                ]
                for number, row in enumerate(block.rows)
            ]
            lines = [list(block.columns), ["---", *["---:"] * (len(block.columns) - 1)], *rows]
            text = "\n".join(
                "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
                for line in lines
            )
            return f"{text}\n\n{block.caption}" if block.caption else text
        case Figure():
            return f"![{block.caption}](figures/{block.name}.svg)\n\n{block.caption}"
