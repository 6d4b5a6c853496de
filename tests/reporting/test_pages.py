"""Pages: one self-contained HTML file, and Markdown of the same content."""

from __future__ import annotations

from support.html_elements import HOSTILE, Elements

from glot_jax.reporting.pages import (
    Figure,
    Heading,
    Listing,
    Paragraph,
    to_html,
    to_markdown,
    write_page,
)
from glot_jax.reporting.tables import Cell, Table


def test_names_inside_figures_do_not_meet():
    drawn = '<svg><defs><path id="a"/></defs><use href="#a" clip-path="url(#a)"/></svg>'
    page = to_html("T", [Heading("One"), Figure("x", drawn, "first"), Figure("y", drawn, "second")])
    assert page.count('id="x-a"') == page.count('id="y-a"') == 1
    assert 'href="#x-a" clip-path="url(#x-a)"' in page


def test_both_pages_hold_the_same_table():
    rows = (
        (Cell("x", faint=True), Cell("", faint=True)),
        (Cell("<y>"), Cell("2", bold=True)),
    )
    table = Table(("a|b", "n"), rows, "why")
    blocks = [Heading("H", 3), Paragraph("see `code`"), Listing(("one",)), table]
    lines = to_markdown("T", blocks).splitlines()
    assert "| a\\|b | n |" in lines
    assert "| *x* |  |" in lines
    assert "| <y> | **2** |" in lines
    html = to_html("T", blocks)
    assert '<td>&lt;y&gt;</td><td class="best">2</td>' in html
    assert '<tr><td class="faint">x</td>' in html


def test_a_wide_table_becomes_cards_on_a_phone_and_a_narrow_one_stays():
    titles = ("variant", 'a "b"', "c", "d")
    wide = to_html("T", [Table(titles, ((Cell("x"), Cell("1"), Cell(""), Cell("4")),), "")])
    assert '<table class="many">' in wide
    assert '<td data-label="a &quot;b&quot;">1</td><td data-label="c"></td>' in wide
    narrow = to_html("T", [Table(titles[:3], ((Cell("x"), Cell("1"), Cell("2")),), "")])
    assert "<table>" in narrow
    assert "data-label=" not in narrow.partition("<body>")[2]


def test_every_figure_has_a_number_of_its_own():
    drawn = "<svg></svg>"
    blocks = [Figure("x", drawn, "one"), Heading("H"), Figure("y", drawn, "two")]
    for page in (to_html("T", blocks), to_markdown("T", blocks)):
        assert page.index("Figure 1. one") < page.index("Figure 2. two")
        assert "Figure 3" not in page


def test_the_links_stand_below_the_introduction():
    page = to_html("T", [Paragraph("first"), Heading("One"), Heading("Part", 3), Heading("Two")])
    assert page.index("<p>first</p>") < page.index("<nav>") < page.index("<h2")
    assert '<nav><a href="#s1">One</a><a href="#s3">Two</a></nav>' in page


def test_a_page_is_three_kinds_of_files(tmp_path):
    write_page("T", [Heading("One"), Figure("x", "<svg/>", "first")], tmp_path / "out", "page")
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert written == ["out/figures/x.svg", "out/page.html", "out/page.md"]
    assert "![Figure 1. first](figures/x.svg)" in (tmp_path / "out" / "page.md").read_text()


def test_no_string_is_markup():
    """A text, a label and the name of a column may hold anything, and are shown."""

    def elements(text: str) -> list[tuple[str, set[str]]]:
        table = Table((text, text), ((Cell(text), Cell(text, bold=True)),), text)
        drawn = Figure("x", "<svg></svg>", text)
        blocks = [Paragraph(text), Heading(text), Listing((text, f"`{text}`")), table, drawn]
        shown = Elements(to_html(text, blocks)).elements
        return [(tag, set(attributes)) for tag, attributes in shown]

    assert elements(HOSTILE) == elements("a")
