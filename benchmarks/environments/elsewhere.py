"""Environments of other projects' packages, and servers that run in them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmark import Mismatch

TORCH = f"torch=={importlib.metadata.version('torch').partition('+')[0]}"
"""First and by itself, so that pip takes the build that fits the machine."""
SECONDS = 600
"""How long a server may take until it answers."""


def environment(folder: Path, steps: Sequence[Sequence[str]]) -> tuple[Path, str | None]:
    """The Python of a new environment, and what stopped its installation.

    Args:
        folder: where it is made, unless it is there.
        steps: requirements of each call of pip.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    for requirements in steps:
        command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return python, "\n".join(lines or done.stderr.splitlines()[-3:])
    return python, None


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """What is installed of some packages."""
    code = (
        "import importlib.metadata as m, json, sys;"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()};"
        "print(json.dumps({n: have[n] for n in sys.argv[1:] if n in have}))"
    )
    done = subprocess.run(
        [str(python), "-c", code, *names], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@contextlib.contextmanager
def started(command: Sequence[str], log: Path, **variables: str) -> Iterator[subprocess.Popen]:
    """A process that writes into a log, and ends with the block."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(address: str, process: subprocess.Popen, log: Path) -> None:
    """Until /health answers 200."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Mismatch(f"the server must run; got {log.read_text()[-2000:]}")
        # Refused, or answered 503.
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):
            return
        time.sleep(0.5)
    raise Mismatch(f"the server must be ready within {SECONDS} s; got {log.read_text()[-2000:]}")


def exported(run: Path, work: Path) -> Path:
    """The folder of sentence-transformers that `glot export` writes for a run."""
    out = work / "exported"
    if not out.exists():
        command = [sys.executable, "-m", "glot_jax", "export", str(run), str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out
