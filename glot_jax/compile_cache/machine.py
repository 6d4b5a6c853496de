"""What a compiled program was compiled for: programs of another machine are not read.

XLA compiles for the processor it runs on. Where a home is shared by machines, one of them would
crash on the instructions of another.
"""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

_FACTS = frozenset(
    {
        # x86
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "flags",
        # ARM
        "CPU implementer",
        "CPU architecture",
        "CPU variant",
        "CPU part",
        "Features",
        # POWER, s390x, RISC-V
        "cpu",
        "features",
        "isa",
        "uarch",
    }
)
"""Lines of /proc/cpuinfo that stay the same from one start to the next."""

_CPUINFO = Path("/proc/cpuinfo")


def folder_name(backend: str, jaxlib: str) -> str:
    """The folder of this machine's programs: `jaxlib-0.10.2-cpu-0f3a...`.

    Args:
        backend: JAX's name of it: cpu, gpu, tpu. Which GPU it is stands in JAX's key of a program.
        jaxlib: its version, which holds the compiler.
    """
    facts = f"{processor()}\n{usable_processors()}"
    digest = hashlib.sha256(facts.encode()).hexdigest()
    return f"{PREFIX}{jaxlib}-{backend}-{digest[:16]}"


PREFIX = "jaxlib-"
"""What the names of all such folders begin with."""


def processor(cpuinfo: Path = _CPUINFO) -> str:
    """Names and features of the processors, as the system tells them.

    Args:
        cpuinfo: the file that tells; where there is none, or one that tells nothing of the kind, a
            machine is known by its name on the network.
    """
    facts = set()
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in _FACTS:
            # A set: one processor has cores of several kinds, and each is told as often as it is
            # there.
            facts.add(f"{name.strip()}: {value.strip()}")
    if not facts:
        facts = {platform.node(), platform.machine(), platform.processor()}
    return "\n".join(sorted(facts))


def usable_processors() -> int:
    """How many processors this process may use: XLA divides its loops among them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
