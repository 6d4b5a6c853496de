"""Settings as plain JSON and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from glot_jax.config.json import differences, from_json, to_json
from glot_jax.config.train import GraphConfig, TrainConfig
from glot_jax.errors import UsageError

CONFIG = TrainConfig(
    store=Path("stores/ü"), out=Path("out"), mix_layers=(0, 6), graph=GraphConfig(tau=0.3, k=4)
)
SMALLEST = {"store": "s", "out": "o"}


def test_settings_come_back_as_they_were():
    values = json.loads(json.dumps(to_json(CONFIG)))
    assert values["store"] == "stores/ü"
    assert values["mix_layers"] == [0, 6]
    assert values["graph"]["tau"] == 0.3
    assert from_json(TrainConfig, values) == CONFIG


def test_fields_that_are_missing_get_their_defaults():
    # But for what versions without the field did in another way than the default.
    before = TrainConfig(Path("s"), Path("o"), xla_cpu_options="default")
    assert from_json(TrainConfig, SMALLEST) == before
    assert from_json(TrainConfig, {**SMALLEST, "xla_cpu_options": "eigen"}) != before


def test_a_whole_number_is_a_float_and_null_is_none():
    values = {**SMALLEST, "checkpoint_minutes": 5, "layer": None}
    assert from_json(TrainConfig, values).checkpoint_minutes == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "a TrainConfig must be a JSON object"),
        ({**SMALLEST, "epoch": 3}, "unknown field of TrainConfig; got 'epoch'. Known: store, out"),
        ({"store": "s"}, 'a TrainConfig must have a field out; got none. .*"out": ...'),
        ({**SMALLEST, "epochs": 1.5}, "epochs must be of type int; got 1.5. .*a whole number: 3"),
        ({**SMALLEST, "epochs": True}, "epochs must be of type int; got True"),
        ({**SMALLEST, "trust_store": 1}, "trust_store must be of type bool; got 1"),
        ({**SMALLEST, "store": 3}, 'store must be of type Path; got 3. .*"stores/cola"'),
        ({**SMALLEST, "mix_layers": 3}, "mix_layers must be a list; got 3"),
        ({**SMALLEST, "graph": {"temperature": [0.1]}}, "temperature must be a list of 2"),
        ({**SMALLEST, "cache": "cloud"}, "--cache must be one of auto, device, host, none"),
        ({**SMALLEST, "graph": {"tau": 3}}, "--tau must be a cosine"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        from_json(TrainConfig, values)


def test_differences_name_the_leaves():
    old = {"a": 1, "inner": {"b": 2, "c": 3}, "gone": 4}
    new = {"a": 1, "inner": {"b": 5, "c": 3}, "new": 6}
    changes = ["gone: 4 -> None", "inner.b: 2 -> 5", "new: None -> 6"]
    assert differences(old, new) == changes
    assert differences(old, old) == []
