"""What a session tells others of its run."""

from __future__ import annotations

from pathlib import Path

import pytest

from glot_jax.config.location import parse_location
from glot_jax.config.train import TrainConfig
from glot_jax.training.session import tracked_run


@pytest.mark.parametrize("store", ["/home/lovelace/stores/cola", "s3://lovelace/stores/cola"])
def test_trackers_are_told_no_path(store):
    config = TrainConfig(
        store=parse_location(store),
        out=Path("/home/lovelace/runs/cola"),
        store_cache=Path("/home/lovelace/cache"),
    )
    told = tracked_run(config, 0)
    assert told.name == "cola"
    assert "lovelace" not in repr(told.settings)
    assert not {"store", "out", "store_cache"} & set(told.settings)
    assert told.settings["pooler"] == "glot"
    assert told.settings["layer"] is None
