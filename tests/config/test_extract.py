"""Settings of an extraction: workers, appending, and the stress test's numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError


def settings(**changes) -> ExtractConfig:
    return ExtractConfig("minilm", changes.pop("task", "cola"), Path("out"), **changes)


@pytest.mark.parametrize(("worker", "share"), [(None, None), ("0/4", (0, 4)), ("3/4", (3, 4))])
def test_a_worker_has_a_share(worker, share):
    assert settings(worker=worker).share == share


@pytest.mark.parametrize("worker", ["4/4", "1", "a/b", "-1/4", "1/", "/4", "1.0/4"])
def test_a_worker_is_a_number_below_their_count(worker):
    with pytest.raises(UsageError, match=f"--worker I/N must be .*; got {worker}. Give for"):
        settings(worker=worker)


@pytest.mark.parametrize(
    ("changes", "received"),
    [
        ({"worker": "0/2"}, "--append with --worker 0/2"),
        ({"max_train_rows": 5}, "--max-train-rows 5"),
        ({"task": "diagnostic"}, "--task diagnostic"),
    ],
)
def test_what_append_does_not_go_with(changes, received):
    with pytest.raises(UsageError, match=received):
        settings(append=True, **changes)
    assert settings(append=True).append


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 1.0}, "--ratio must be a share"),
        ({"position": 1.5}, r"--position must be a number in \[0, 1\]"),
        ({"diagnostic_rows": (2000, 1, 500)}, "--diagnostic-rows must each be at least 2"),
        ({"layers": ()}, "--layers must have at least one value; got none"),
        ({"tokens_per_batch": 0}, "--tokens-per-batch must be at least 1"),
        ({"storage_dtype": "float64"}, "--storage-dtype must be one of auto, float16"),
    ],
)
def test_what_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        settings(**changes)
