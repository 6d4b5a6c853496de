"""Extraction by Ray in a process of its own, and its actors found and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import Location

ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
"""No token file in anybody's home, and nobody counted."""


def extraction_flags(config: ExtractConfig, out: Location) -> list[str]:
    """The command line of such an extraction, into another folder."""
    flags = {
        "--backbone": config.backbone,
        "--task": config.task,
        "--data": config.data,
        "--text-columns": "text",
        "--label-column": "label",
        "--shard-tokens": config.shard_tokens,
        "--tokens-per-batch": config.tokens_per_batch,
        "--device": "cpu",
        "--out": out,
    }
    if config.threads is not None:
        flags["--threads"] = config.threads
    words = []
    for flag, value in flags.items():
        words += [flag, str(value)]
    return words


def start_extraction(config: ExtractConfig, out: Location, *flags: str) -> subprocess.Popen[str]:
    """`glot extract` into `out`, with these flags as well."""
    return subprocess.Popen(
        [sys.executable, "-m", "glot_jax", "extract", *extraction_flags(config, out), *flags],
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def actors(driver: int) -> list[int]:
    """Process ids of the actors that a driver's own cluster runs, from any of its processes."""
    found = []
    for process in _descendants(driver):
        try:
            title = Path(f"/proc/{process}/cmdline").read_text()
        except OSError:
            continue
        if title.startswith("ray::_Actor"):
            found.append(process)
    return found


def _descendants(parent: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in brackets may hold blanks.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    waiting = [parent]
    while waiting:
        for child in children.get(waiting.pop(), []):
            waiting.append(child)
            yield child


def kill_an_actor(driver: subprocess.Popen[str], store: Path, shards: int) -> bool:
    """SIGKILL an actor once there are so many shards; whether one was alive."""
    while driver.poll() is None:
        if len(list(store.glob("*/shard-*"))) >= shards:
            alive = actors(driver.pid)
            if alive:
                os.kill(alive[0], signal.SIGKILL)
                return True
        time.sleep(0.05)
    return False
