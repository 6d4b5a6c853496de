"""What a result was measured on: without it a number is a rumour."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "glot-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "torch",
    "torch-geometric",
    "transformers",
    "peft",
    "numpy",
)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, versions and the date."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "date": datetime.date.today().isoformat(),
    }


def processor_name() -> str:
    """The model as Linux names it, elsewhere what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
