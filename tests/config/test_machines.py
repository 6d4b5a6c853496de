"""Where a run is trained, as the command line says it."""

from __future__ import annotations

import pytest

from glot_jax.config.machines import Devices, RayChoice
from glot_jax.errors import UsageError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"devices": "0"}, "--devices must be a positive number of devices, or all; got '0'"),
        ({"devices": "many"}, "--devices must be a positive number of devices, or all"),
        ({"distributed": "host"}, "--distributed must be auto, or HOST:PORT"),
        ({"distributed": ":8476"}, "--distributed must be auto, or HOST:PORT"),
        ({"distributed": "host:99999"}, "--distributed must be auto, or HOST:PORT"),
        ({"process": "0/2"}, "--process goes with --distributed HOST:PORT"),
        ({"distributed": "auto", "process": "0/2"}, "--process goes with"),
        ({"distributed": "host:1", "process": "2/2"}, "--process I/N must be a process's number"),
        ({"distributed": "host:1", "process": "²/3"}, "--process I/N must be a process's number"),
    ],
)
def test_what_says_nothing_of_devices(settings, message):
    with pytest.raises(UsageError, match=message):
        Devices(**settings)


@pytest.mark.parametrize(
    ("settings", "share", "default"),
    [
        ({}, None, True),
        ({"devices": "1"}, None, True),
        ({"devices": "all"}, None, False),
        ({"distributed": "auto"}, None, False),
        ({"distributed": "[::1]:8476", "process": "1/2"}, (1, 2), False),
        ({"distributed": "10.0.0.1:8476", "process": "0/12", "devices": "2"}, (0, 12), False),
    ],
)
def test_devices_and_a_number_among_processes(settings, share, default):
    devices = Devices(**settings)
    assert devices.share == share
    assert devices.are_default is default


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
