"""`train.py` in several processes of one machine, each with one CPU device."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from support import runs

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 600  # seconds, on a machine that is busy with other things


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def started(
    words: Sequence[str], cwd: Path, count: int = 2, own: Sequence[Sequence[str]] = ((), ())
) -> Iterator[list[subprocess.Popen[str]]]:
    """`train.py` with these words in each process; whoever is left at the end is killed.

    Args:
        words: of all of them.
        cwd: where they run.
        count: how many there are.
        own: words of each.
    """
    address = f"127.0.0.1:{free_port()}"
    processes = []
    try:
        for number in range(count):
            place = ["--distributed", address, "--process", f"{number}/{count}"]
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *words, *place, *own[number]],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=cwd,
            )
            processes.append(process)
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of a process."""
    out, said = process.communicate(timeout=PATIENCE)
    return process.returncode, out, said


def wait_until(condition: Callable[[], bool], processes: Sequence[subprocess.Popen[str]]) -> None:
    """Until something holds, or one of the processes has ended."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the processes hang"
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.001)


def saved_steps(out: Path) -> list[int]:
    """Checkpoints under their final names."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(name) for name in os.listdir(out / "checkpoints") if name.isdecimal())
    return []


def words_of(store: Path, out: Path, *more: str) -> list[str]:
    """A run that saves at every line of its log."""
    settings = {
        "store": store,
        "out": out,
        "pooler": "mean",
        "epochs": 1,
        "batch-size": 8,
        "eval-batch-size": 16,
        "buckets": 1,
        "log-every": 10,
        "lr": 0.001,
        "checkpoint-minutes": runs.EVERY_STEP,
    }
    words = []
    for name, value in settings.items():
        words += [f"--{name}", str(value)]
    # Of a flag that is given twice the last one counts.
    return [*words, *more]
