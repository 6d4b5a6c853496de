"""Where a run is trained, as the command line says it."""

from __future__ import annotations

import pytest

from glot_jax.config.devices import Devices
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
