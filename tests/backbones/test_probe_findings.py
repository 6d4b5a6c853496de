"""What was found out about a backbone, in a line for the user and in JSON for the manifest."""

from __future__ import annotations

import dataclasses
import json

import pytest

from glot_jax.backbones.blocks import LAST, BlockList, LayerMap
from glot_jax.backbones.probe_findings import RIGHT_PADDING, SECOND_PASS, Probe

LISTED = LayerMap(("hidden_states[0]", "hidden_states[1]", LAST), (32, 32, 32), None, True)
PROBE = Probe(
    layers=LISTED,
    passes="padded",
    left=False,
    positions=False,
    kind="encoder",
    changes={RIGHT_PADDING: 2.34567e-7, SECOND_PASS: 0.5},
    massive={},
)


def test_a_usual_model_needs_few_words():
    expected = "encoder, 2 blocks; padding on the right leaves its states as they are"
    assert PROBE.summary("encoder") == expected
    left = dataclasses.replace(PROBE, left=True)
    assert "padding on the left" in left.summary("encoder")
    assert PROBE.summary("decoder").startswith("decoder (measured: encoder), 2 blocks")


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        ("one length", "texts of one length share a pass"),
        ("single texts", "each text has a pass of its own"),
    ],
)
def test_leaking_padding_is_said_with_its_consequence(passes, words):
    probe = dataclasses.replace(PROBE, passes=passes, changes={RIGHT_PADDING: 0.25})
    assert f"padding changes its states by 0.25 of their norm, so {words}" in probe.summary("x")


def test_where_inner_layers_come_from_is_said_where_it_is_unusual():
    def summary(**changes):
        layers = dataclasses.replace(LISTED, **changes)
        return dataclasses.replace(PROBE, layers=layers).summary("encoder")

    assert "could not be compared with its blocks" in summary(verified=False)
    assert "are read at the blocks" in summary(blocks=BlockList("layers", (), 2))
    shapeless = summary(widths=(None, None, 32))
    assert "only the last can be stored" in shapeless
    assert "blocks" not in shapeless


def test_attention_sinks_are_named_by_token_and_layer():
    probe = dataclasses.replace(PROBE, massive={1: {0: 20.0}, 2: {0: 90.4, 5: 11.0}})
    assert (
        "token 0, 5 of a text has states of up to 90 times the median norm in layers 1 .. 2"
        in probe.summary("encoder")
    )


def test_the_manifest_keeps_what_does_not_depend_on_how_passes_were_asked_for():
    probe = dataclasses.replace(PROBE, massive={2: {0: 12.3456}})
    values = probe.to_json()
    assert values["changes"] == {RIGHT_PADDING: 0.0}
    assert values["massive"] == {"2": {"0": 12.3}}
    infinite = dataclasses.replace(PROBE, changes={RIGHT_PADDING: float("inf")})
    # JSON has no number for it.
    json.dumps(infinite.to_json(), allow_nan=False)
