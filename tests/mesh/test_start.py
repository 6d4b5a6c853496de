"""From settings to the devices of a run; of several devices and processes, `on_four_devices.py`."""

from __future__ import annotations

import pytest

from glot_jax.config.machines import Devices
from glot_jax.errors import UsageError
from glot_jax.mesh.device_mesh import ONE
from glot_jax.mesh.start import start


@pytest.mark.parametrize(
    ("settings", "environ"),
    [
        (Devices(), {}),
        (Devices(devices="1"), {}),
        # Tests have one device.
        (Devices(devices="all"), {}),
        # A launcher of one process.
        (Devices(distributed="auto"), {"RANK": "0", "WORLD_SIZE": "1"}),
    ],
)
def test_one_device_is_taken_as_without_a_word(settings, environ):
    said: list[str] = []
    assert start(settings, said.append, environ) is ONE
    assert said == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            Devices(devices="2"),
            "--devices asks for must be there; got 2, of which this process sees 1",
        ),
        (Devices(distributed="auto"), "--distributed auto needs a launcher"),
    ],
)
def test_what_is_not_there_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        start(settings, print, {})
