"""Runs, and a server, that all tests of the room share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.served_runs import serving, settings
from support.trained_runs import make_runs

from glot_jax.serving.served_run import ServedRun


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> Path:
    return make_runs(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="session")
def topics(runs) -> ServedRun:
    return ServedRun.load(settings(runs))


@pytest.fixture(scope="session")
def address(runs, topics):
    limits = {"max_texts": 20, "max_tokens": 200, "max_body_bytes": 5000}
    with serving(topics, settings(runs, **limits)) as address:
        yield address
