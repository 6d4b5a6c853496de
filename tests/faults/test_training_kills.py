"""Training in real processes that are killed or told to stop at random moments.

They are continued until done, and compared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from support import runs
from support.synthetic_stores import make_store

from glot_jax.training import train

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parent.parent.parent
PATIENCE = 600  # seconds; a busy machine has taken more than 60


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_store(tmp_path_factory.mktemp("store") / "store")


@pytest.fixture
def start() -> Callable[..., BaseProcess]:
    """`start(store, out, epochs)`: begin or continue a run in a process of its own."""
    # The server has imported jax, but started no backend: a child of it trains within a second.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["glot_jax.training", "support.runs"])

    def starting(*arguments: object) -> BaseProcess:
        process = context.Process(target=_train, args=arguments)
        process.start()
        return process

    return starting


def _train(store: Path, out: Path, epochs: int) -> None:
    # Saved at every step, with a line every third one: losses wait for their line at most saves.
    settings = runs.config(store, out, epochs=epochs, checkpoint_minutes=runs.EVERY_STEP)
    train(settings, resume=(out / "config.json").exists(), quiet=True)


def saved_step(out: Path) -> int:
    """The latest checkpoint under its final name; 0 without one."""
    folder = out / "checkpoints"
    return (
        max((int(name) for name in os.listdir(folder) if name.isdecimal()), default=0)
        if folder.exists()
        else 0
    )


def lines(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def writes(out: Path) -> set[tuple[str, int]]:
    """Checkpoints under their temporary name: saves in hand, and what earlier kills left."""
    with contextlib.suppress(FileNotFoundError):  # it may be renamed while one looks
        return {
            (path.name, path.stat().st_ino)
            for path in (out / "checkpoints").glob("*.orbax-checkpoint-tmp")
        }
    return set()


def wait_for(process: BaseProcess, condition: Callable[[], bool]) -> None:
    """Until `condition`, or the process's end."""
    deadline = time.monotonic() + PATIENCE
    while process.is_alive() and not condition():
        assert time.monotonic() < deadline, "the process hangs"
        time.sleep(0.0005)


def pause(process: BaseProcess, seconds: float) -> None:
    until = time.monotonic() + seconds
    wait_for(process, lambda: time.monotonic() > until)


@dataclasses.dataclass(frozen=True)
class Hit:
    """Where a kill struck."""

    when: str
    step: int
    lines: int
    writing: bool


def kill(process: BaseProcess, out: Path, when: str, rng: random.Random) -> Hit | None:
    """SIGKILL at a moment of the kind `when`; None where the process was done before."""
    begun, left = saved_step(out), writes(out)
    match when:
        case "before the first line":
            wait_for(process, (out / "config.json").exists)
            pause(
                process, rng.uniform(0, 0.02)
            )  # on a fast machine the first line follows within 0.2 s
        case "while a checkpoint is written":
            ahead = rng.randint(1, 3)
            wait_for(process, lambda: saved_step(out) >= begun + ahead and bool(writes(out) - left))
        case "between":
            ahead = rng.randint(1, 4)
            wait_for(process, lambda: saved_step(out) >= begun + ahead)
            pause(process, rng.uniform(0, 0.15))
    if not process.is_alive():
        return None
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(PATIENCE)
    return (
        Hit(when, saved_step(out), lines(out), bool(writes(out) - left))
        if process.exitcode == -signal.SIGKILL
        else None
    )


def test_a_run_that_is_killed_again_and_again_equals_one_that_is_not(
    store, start, soak, tmp_path, record_property
):
    """Nothing is lost: metrics.jsonl byte for byte, latest and best checkpoint bit for bit."""
    rng = random.Random(int(os.environ.get("GLOT_FAULT_SEED", "20261121")))
    moments = ["before the first line"] * (3 if soak else 1) + [
        "between",
        "while a checkpoint is written",
    ]
    moments += [
        rng.choice(["between", "between", "while a checkpoint is written"])
        for _ in range(20 if soak else 0)
    ]
    whole, epochs = tmp_path / "whole", 20 if soak else 4
    train(runs.config(store, whole, epochs=epochs), quiet=True)
    hits: list[Hit] = []
    lost = 0
    for number in range(
        len(moments)
    ):  # most often one run takes all the kills; on a fast machine it may end before
        out = tmp_path / f"run-{number}"
        while len(hits) < len(moments):
            process = start(store, out, epochs)
            hit = kill(process, out, moments[len(hits)], rng)
            if hit is None:
                break
            hits.append(hit)
            print(
                f"kill {len(hits)} of run {number}, {hit.when}: step {hit.step} of {5 * epochs}"
                f" saved, {hit.lines} lines, {'in' if hit.writing else 'no'} save"
            )
        else:
            process = start(store, out, epochs)
        process.join(PATIENCE)
        assert process.exitcode == 0
        lost += differ(out, whole)
        if len(hits) == len(moments):
            break

    assert lost == 0
    assert len(hits) == (25 if soak else 3)
    assert sum(0 < hit.step < 5 * epochs for hit in hits) >= (15 if soak else 2)
    assert any(hit.lines == 0 for hit in hits)
    assert any(hit.writing for hit in hits)
    record_property(
        "fault",
        {
            "fault": "SIGKILL while training",
            "injected": len(hits),
            "lost": lost,
            "seen": (
                "nothing but the end of the process; --resume continues after the last saved step"
            ),
        },
    )


def differ(one: Path, other: Path) -> int:
    """1 if metrics.jsonl, the latest or the best checkpoint of two runs differ, else 0."""
    try:
        runs.assert_same_run(one, other)
    except AssertionError as error:
        print(error)
        return 1
    return 0


def command(*arguments: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "train.py"),
        *arguments,
        "--checkpoint-minutes",
        str(runs.EVERY_STEP),
    ]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="SIGINT"),
        pytest.param(signal.SIGTERM, 143, id="SIGTERM", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_told_to_stop_saves_and_ends(
    store, soak, tmp_path, record_property, number, code
):
    """`python train.py` itself: its exit code and its last line.

    --resume ends where an undisturbed run ends.
    """
    rng, out, whole = random.Random(int(number)), tmp_path / "run", tmp_path / "whole"
    epochs = 16 if soak else 4
    total = 5 * epochs
    train(runs.config(store, whole, epochs=epochs), quiet=True)
    first = command(
        "--store",
        str(store),
        "--out",
        str(out),
        "--epochs",
        str(epochs),
        "--pooler",
        "mean",
        "--batch-size",
        "8",
        "--eval-batch-size",
        "16",
        "--buckets",
        "1",
        "--log-every",
        "3",
        "--lr",
        "0.1",
    )
    stopped: list[int] = []
    for _ in range(5 if soak else 1):
        process = subprocess.Popen(
            first if not stopped else command("--resume", str(out)),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        target = (stopped[-1] if stopped else 0) + rng.randint(1, total // 10)
        deadline = time.monotonic() + PATIENCE
        while saved_step(out) < target and process.poll() is None:
            assert time.monotonic() < deadline, "the process hangs"
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.1))
        process.send_signal(number)
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, said
        stopped.append(saved_step(out))
        assert target <= stopped[-1] < total
        expected = (
            f"{number.name}: stopped after step {stopped[-1]} of {total}, which is saved; continue"
            f" with train.py --resume {out}"
        )
        assert said.splitlines()[-1] == expected
        assert "Traceback" not in said
        print(expected)
    runs.resume(out, checkpoint_minutes=0)
    lost = differ(out, whole)
    assert lost == 0
    record_property(
        "fault",
        {
            "fault": f"{number.name} while training",
            "injected": len(stopped),
            "lost": lost,
            "seen": (
                "one line with the step that was saved and the command that continues; exit code"
                f" {code}"
            ),
        },
    )
