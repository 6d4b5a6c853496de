"""Colours of variants: one each, and the same from figure to figure."""

from __future__ import annotations

import re

import pytest

from glot_jax.colours import colours_of


@pytest.mark.parametrize("count", [1, 5, 13, 40, 200])
def test_no_two_variants_are_alike(count):
    names = ["glot", "mean", *(f"glot, layer {layer}" for layer in range(count))]
    colours = colours_of(names)
    assert list(colours) == names
    assert len(set(colours.values())) == len(names)
    assert all(re.fullmatch("#[0-9A-F]{6}", colour) for colour in colours.values())


def test_poolers_keep_theirs_whatever_stands_beside_them():
    alone = colours_of(["adapool"])["adapool"]
    assert colours_of(["other", "mlp", "adapool", "glot"])["adapool"] == alone


def test_the_reference_has_that_of_glot_where_no_variant_is_called_so():
    ours = colours_of(["glot"])["glot"]
    labels = ["mean, layer 3", "glot, layer 3"]
    assert colours_of(labels, "glot, layer 3")["glot, layer 3"] == ours
    assert colours_of(["glot", *labels], "glot, layer 3")["glot"] == ours
    # What has a colour of its own keeps it as a reference.
    assert colours_of(["mean"], "mean")["mean"] != ours


def test_what_is_drawn_beside_the_runs_changes_no_colour_of_theirs():
    labels = [f"adapool, layer {layer}" for layer in range(20)]
    before = colours_of(labels, labels[0])
    after = colours_of([*labels, "mean"], labels[0])
    assert {name: after[name] for name in labels} == before
