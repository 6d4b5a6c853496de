"""One process with four devices, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 900  # seconds, on a machine that is busy with other things


@pytest.mark.parametrize("part", ["not slow", pytest.param("slow", marks=pytest.mark.slow)])
def test_four_devices_of_a_cpu(part):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    command = [sys.executable, "-m", "pytest", "tests/mesh/on_four_devices.py"]
    child = subprocess.run(
        [*command, "-p", "no:xdist", "-m", part],
        env={**os.environ, "XLA_FLAGS": flags},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert child.returncode == 0, child.stdout[-6000:] + child.stderr[-2000:]
    # None of them was left out.
    assert " passed" in child.stdout
    assert "skipped" not in child.stdout
