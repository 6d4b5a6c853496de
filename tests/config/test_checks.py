"""Checks of a single value: what passes, and the rule that a wrong value breaks."""

from __future__ import annotations

import pytest

from glot_jax.config.checks import (
    at_least,
    between,
    distinct,
    each,
    filled,
    is_number,
    one_of,
    positive,
    require_divisor,
    share,
    whole,
)
from glot_jax.errors import UsageError

NAN = float("nan")


@pytest.mark.parametrize(
    ("check", "values"),
    [
        (at_least(0), (0, 0.5, 3)),
        (whole(1), (1, 32)),
        (positive, (1e-9, 5)),
        (between(-1, 1), (-1, 0, 1)),
        (share, (0, 0.0, 0.999)),
        (filled, ((1,), (1, 1))),
        (distinct, ((), (1, 2))),
        (each(positive), ((), (1, 2))),
        (one_of("cat", "max"), ("cat",)),
    ],
)
def test_what_passes(check, values):
    for value in values:
        assert check(value) is None


@pytest.mark.parametrize(
    ("check", "value", "rule"),
    [
        (at_least(1), 0, "must be at least 1"),
        (at_least(1), NAN, "must be a finite number"),
        (at_least(1), True, "must be a finite number"),
        (whole(1), 2.0, "must be a whole number"),
        (whole(1), True, "must be a whole number"),
        (whole(1), 0, "must be at least 1"),
        (positive, 0, "must be a positive number"),
        (between(-1, 1, "a cosine"), 1.1, "must be a cosine in [-1, 1]"),
        (between(0, 1), "x", "must be a number in [0, 1]"),
        (share, 1, "must be a share in [0, 1)"),
        (share, NAN, "must be a share in [0, 1)"),
        (filled, (), "must have at least one value"),
        (distinct, (1, 2, 1), "must have values that differ from one another"),
        (each(positive), (1, -1), "must each be a positive number"),
        (one_of("cat", "max"), "min", "must be one of cat, max"),
        (one_of(1, 2), True, "must be one of 1, 2"),
    ],
)
def test_the_rule_that_is_broken(check, value, rule):
    assert check(value) == rule


def test_true_is_not_a_number():
    assert is_number(1)
    assert not is_number(True)
    assert not is_number(float("inf"))
    assert not is_number(float("nan"))
    # JSON may hold an integer that no float can.
    assert not is_number(10**400)


def test_heads_that_do_not_divide_a_width_are_told_those_that_do():
    require_divisor(4, 12, "--hidden-dim")
    with pytest.raises(UsageError, match="--heads must divide --hidden-dim; got 5 .* 1, 2, 3, 4"):
        require_divisor(5, 12, "--hidden-dim")
