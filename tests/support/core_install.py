"""An installation of the wheel, with the core dependencies alone or with some extras.

The wheel of this tree, and from the packages of this environment those that it then requires.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]


def build_wheel(folder: Path) -> Path:
    """The wheel of this tree."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*command, "-w", str(folder), str(ROOT)], check=True)
    return next(folder.glob("*.whl"))


def install_core(folder: Path, *extras: str) -> Path:
    """A folder of packages with the core dependencies and those of extras, for `python -S`."""
    site = folder / "site"
    with zipfile.ZipFile(build_wheel(folder)) as wheel:
        wheel.extractall(site)
        metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
        text = wheel.read(metadata).decode()
    required = re.findall(r"^Requires-Dist: (.+)$", text, flags=re.M)
    for distribution in _closure(required, frozenset(extras)):
        for file in distribution.files or ():
            # `../../bin/f2py`: scripts lie outside.
            if file.parts[0] != "..":
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    target.symlink_to(str(distribution.locate_file(file)))
    return site


def _closure(
    required: list[str], extras: frozenset[str]
) -> Iterator[importlib.metadata.Distribution]:
    """The installed distributions that requirements ask for, and those that these ask for."""
    waiting = []
    for line in required:
        requirement = Requirement(line)
        if _applies(requirement, extras | {""}):
            requirement.marker = None
            waiting.append(requirement)
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (requirement.name.lower(), frozenset(requirement.extras))
        if key in seen or not _applies(requirement, frozenset({""})):
            continue
        seen.add(key)
        distribution = importlib.metadata.distribution(requirement.name)
        yield distribution
        chosen_extras = frozenset(requirement.extras) | {""}
        for line in distribution.requires or ():
            inner = Requirement(line)
            if _applies(inner, chosen_extras):
                # Its marker holds: what is left is the name and the extras of its own.
                inner.marker = None
                waiting.append(inner)


def _applies(requirement: Requirement, extras: frozenset[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(requirement.marker.evaluate({"extra": extra}) for extra in extras)
