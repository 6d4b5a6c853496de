"""What can be told before the first step."""

from __future__ import annotations

import numpy as np
import pytest

from glot_jax.health import large_states, missing_classes, small_selection


def test_long_states_and_sinks_that_the_head_sees_are_named():
    assert large_states(15, 170.0, 576, 0) == []
    (sinks,) = large_states(15, 170.0, 576, 812)
    assert sinks.name == "large-states"
    assert "layer 15: 812 states" in sinks.text
    assert "--sinks drop" in sinks.text
    (long,) = large_states(3, 31.0 * 8, 64, 0)
    assert "a size of 31 (a norm of 248)" in long.text
    assert large_states(3, 29.0 * 8, 64, 0) == []


def test_classes_that_a_split_lacks_are_named():
    names = ("no", "maybe", "yes")
    labels = {"train": np.array([0, 2]), "validation": np.array([0, 1, 2]), "test": np.array([1])}
    train, test = missing_classes(names, labels)
    assert train.text.startswith("train has no row of 1 of 3 classes (maybe): none of them can be")
    assert test.text.startswith("test has no row of 2 of 3 classes (no, yes)")
    # Of several classes a row.
    (found,) = missing_classes(names, {"train": np.array([[1, 0, 0], [1, 1, 0]])})
    assert "(yes)" in found.text
    many = tuple(map(str, range(9)))
    (found,) = missing_classes(many, {"train": np.zeros(3)})
    assert "8 of 9 classes (1, 2, 3, 4, 5, ...)" in found.text


@pytest.mark.parametrize(
    ("split", "rows", "named"),
    [("validation", 50, False), ("validation", 49, True), ("holdout", 0, True), ("last", 0, False)],
)
def test_a_split_that_is_too_small_to_choose_by_is_named(split, rows, named):
    assert bool(small_selection(split, rows)) == named


def test_what_such_a_split_can_tell_is_said():
    (found,) = small_selection("holdout", 24)
    assert "accuracies that differ by less than 0.20" in found.text
