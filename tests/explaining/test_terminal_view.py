"""An explanation in a terminal."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console
from support.explanations import explanation

from glot_jax.explaining.explanation import SCOPE
from glot_jax.explaining.terminal_view import print_explanations, printable


def printed(made, **options) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=120, markup=False, emoji=False, **options)
    print_explanations([made], console)
    return stream.getvalue()


def test_a_text_its_strongest_tokens_and_what_was_left_out():
    lines = printed(explanation()).splitlines()
    assert lines[0] == "a cat sat   (a cat sat 0.750, other 0.250)"
    (row,) = [line for line in lines if "0.500" in line and "+1.50" in line]
    assert row.split()[:3] == ["a", "cat", "sat"]
    assert "+0.200" in row
    assert "cat 0.60" in row
    assert "left out before the graph: sat" in lines
    assert SCOPE.split()[-1] in lines[-1]


@pytest.mark.parametrize("color", [None, "truecolor"])
def test_a_text_does_not_move_the_cursor(color):
    """Nor is its markup read, nor a code of a picture."""
    text = "\x1b[31mred\x07 [bold]b[/bold] :smile:"
    shown = printed(explanation(text), force_terminal=color is not None, color_system=color)
    assert "\\x1b[31mred\\x07 [bold]b[/bold] :smile:" in shown
    assert "\x1b[31m" not in shown
    assert "\x07" not in shown


def test_what_speaks_for_and_against_is_coloured():
    made = explanation()
    text = dataclasses.replace(made.texts[0], words=None)
    of_tokens = dataclasses.replace(made, texts=(text,))
    shown = printed(of_tokens, force_terminal=True, color_system="truecolor")
    assert "48;2;200;90;0" in shown
    assert "48;2;0;95;185" in shown


def test_printable():
    assert printable(" cat") == "cat"
    assert printable("  ") == "·"
    assert printable("ü\n") == "ü\\n"
