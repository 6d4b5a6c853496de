"""Whether the processes of a run are about to compute the same thing."""

from __future__ import annotations

import importlib.metadata
import platform
import socket
from collections.abc import Mapping

import jax

from glot_jax.config.json import Json, differences, to_json
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.mesh.processes import Processes
from glot_jax.version import __version__

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
# What else is compiled into a program, or decides its random numbers.
_SWITCHES = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
)
_SHOWN = 3
"""Differences named in a message."""


def versions() -> dict[str, Json]:
    """What this process computes with."""
    named: dict[str, Json] = {
        "glot-jax": __version__,
        "python": platform.python_version(),
        "device": jax.local_devices()[0].device_kind,
    }
    for package in _PACKAGES:
        named[package] = importlib.metadata.version(package)
    for switch in _SWITCHES:
        named[switch] = str(getattr(jax.config, switch))
    return named


def require_alike(
    processes: Processes,
    config: TrainConfig,
    store: str,
    plans: Mapping[str, Json],
) -> None:
    """Compare what the processes are about to do.

    Args:
        processes: of the run.
        config: its settings, with what was measured for them.
        store: identity of its store.
        plans: of its feeds (`Feed.outline`), by split.

    Raises:
        UsageError: they differ; it names the first process that differs from process 0, and in
            what.
    """
    if not processes.several:
        return
    settings = to_json(config)
    # Each machine may have it elsewhere.
    del settings["store"]
    # Not the same word: each may have been started in a folder of its own.
    settings["out"] = str(config.out.absolute())
    values: dict[str, Json] = {
        "versions": versions(),
        "store": store,
        "config": settings,
        "plans": dict(plans),
    }
    own = {"host": socket.gethostname(), "values": values}
    answers = processes.gather(own)
    first = answers[0]
    for number, answer in enumerate(answers):
        changed = differences(first["values"], answer["values"])
        if changed:
            shown = "; ".join(changed[:_SHOWN])
            # By their machines too: one of them has another version, or another store.
            here = f"process 0 on {first['host']}"
            there = f"process {number} on {answer['host']}"
            pair = f"{here} -> {there}"
            raise UsageError(
                rule="all processes of a run must have the same versions, settings and data",
                got=f"{pair}: {shown}",
                fix="Start them with one command, in one environment, on one store.",
            )
