"""How messages quote what files hold."""

import doctest

import pytest

from glot_jax.file_formats import quoting
from glot_jax.file_formats.quoting import because, encodes, listed, plain, shown


def test_the_examples_of_the_docstrings():
    tested = doctest.testmod(quoting)
    assert (tested.attempted, tested.failed) == (1, 0)


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("label", "label"),
        ("名 前", "名 前"),
        ("", "''"),
        (" a", "' a'"),
        ("a\n", r"'a\n'"),
        ("\ufeffa", r"'\ufeffa'"),
        ("\ud83d", r"'\ud83d'"),
    ],
)
def test_a_name_is_quoted_where_it_would_not_be_seen(name, spelled):
    assert plain(name) == spelled


@pytest.mark.parametrize(
    "value",
    [
        "x" * 10**6,
        "\x1b" * 10**6,
        b"\xff" * 10**6,
        ["x" * 10**6] * 9,
        {"x" * 500: ["y" * 500] * 9},
        10**4000,
    ],
)
def test_any_value_fits_in_a_line(value):
    assert len(shown(value)) <= 80
    assert shown(value).isprintable()


def test_nesting_does_not_exceed_the_recursion_limit():
    nested = []
    for _ in range(100_000):
        nested = [nested]
    assert shown(nested) == "[[[...]]]"
    while nested:  # freed from outside in: the interpreter's own way is recursive
        nested = nested.pop()


def test_lists_of_names_and_errors():
    assert listed(["b", "", "a"]) == "b, '', a"
    assert listed([str(number) for number in range(25)], limit=2) == "0, 1 and 23 more"
    assert because(ValueError("two\n  lines")) == "two lines"
    assert because(MemoryError()) == "MemoryError"
    assert len(because(ValueError("x" * 10**6))) == 200


def test_half_a_surrogate_pair_cannot_be_written():
    assert [encodes(text) for text in ("", "a\0", "👩‍🚀", "\ud83d")] == [True, True, True, False]
