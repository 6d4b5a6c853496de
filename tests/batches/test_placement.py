"""Token states on the device, in host memory and in the memory map."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.head_runs import config, run
from support.synthetic_stores import CLASSES, make_store

from glot_jax.training import train


@pytest.mark.usefixtures("users_programs")
def test_device_host_and_disk_feed_the_same_numbers(stores, tmp_path):
    for cache in ("device", "host", "none"):
        run(stores["pairs"], tmp_path / cache, cache=cache)
    device, host, none = (
        (tmp_path / cache / "metrics.jsonl").read_bytes() for cache in ("device", "host", "none")
    )
    assert device == host == none


@pytest.mark.parametrize("cache", ["device", "host", "none"])
def test_a_split_of_empty_texts_alone(tmp_path, cache):
    store = make_store(
        tmp_path / "store", CLASSES, rows={"train": 2, "validation": 4}, empty_rows=[0, 1], shards=1
    )
    lines = run(store, tmp_path / "run", cache=cache, epochs=1)
    assert np.isfinite(lines["validation"]["best"]["loss"])


def test_where_states_wait_may_change_on_resume(stores, tmp_path):
    first = run(stores["classes"], tmp_path / "run", cache="device")
    (tmp_path / "run" / "summary.json").unlink()
    again = train(
        config(stores["classes"], tmp_path / "run", cache="none"), resume=True, quiet=True
    )
    assert again["validation"] == first["validation"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"]["cache"] == "none"
