"""Axes of a search: what is typed as values and what as a range."""

from __future__ import annotations

import math

import pytest

from glot_jax.config.axes import Choices, Range, axis_of
from glot_jax.errors import UsageError


@pytest.mark.parametrize(
    ("values", "axis"),
    [
        ([0.1, 0.3], Choices((0.1, 0.3))),
        (["cat"], Choices(("cat",))),
        (["1e-4:1e-2:log"], Range(1e-4, 1e-2, log=True)),
        (["0.1:1"], Range(0.1, 1)),
        (["8:64"], Range(8, 64)),
        ([[1, 2], [3]], Choices(([1, 2], [3]))),
    ],
)
def test_values_and_ranges(values, axis):
    read = axis_of("lr", values)
    assert read == axis
    # As it is typed, it is read again.
    if isinstance(axis, Range):
        assert axis_of("lr", [str(axis)]) == axis


def test_how_many_values_an_axis_has():
    assert axis_of("lr", [0.1, 0.3]).count == 2
    assert axis_of("k", ["8:10"]).count == 3
    assert axis_of("lr", ["0.1:1"]).count == math.inf


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "--lr without one"),
        ([0.1, 0.1], "--lr must have values that differ"),
        ([[1], [1]], "--lr must have values that differ"),
        (["0.1:0.2", 0.3], "must have values, or one range"),
        (["0.2:0.1"], "with LOW below HIGH"),
        (["0.1:0.1"], "with LOW below HIGH"),
        (["a:b"], "must be LOW:HIGH"),
        (["1:2:lin"], "must be LOW:HIGH"),
        (["1:2:log:x"], "must be LOW:HIGH"),
        (["0:1:log"], "above 0"),
        (["nan:1"], "must be LOW:HIGH"),
        (["0:inf"], "must be LOW:HIGH"),
        ([":"], "must be LOW:HIGH"),
    ],
)
def test_what_is_no_axis(values, message):
    with pytest.raises(UsageError, match=message):
        axis_of("lr", values)
