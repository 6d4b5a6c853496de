"""Settings of a Ray cluster."""

from __future__ import annotations

import pytest

from glot_jax.config.cluster import RayChoice
from glot_jax.errors import UsageError


@pytest.mark.parametrize(
    "address", ["auto", "local", "10.0.0.1:6379", "head-0.ray:6379", "[::1]:1"]
)
def test_addresses(address):
    assert RayChoice(ray=address).ray == address


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:", ":1", "a b:1", ""])
def test_other_words_are_refused(address):
    with pytest.raises(UsageError, match="--ray must be auto, local, or HOST:PORT"):
        RayChoice(ray=address)


def test_what_belongs_to_a_cluster_needs_one():
    with pytest.raises(UsageError, match="--actors, --gpus-per-actor must come with --ray"):
        RayChoice(actors=2, gpus_per_actor=1.0)


@pytest.mark.parametrize(
    "changes",
    [{"actors": 0}, {"cpus_per_actor": 0.0}, {"gpus_per_actor": -1.0}, {"ray_timeout": 0.0}],
)
def test_sizes_are_checked(changes):
    with pytest.raises(UsageError):
        RayChoice(ray="local", **changes)
