"""One of two processes that train a run is killed, again and again, and the run goes on."""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from support.process_pairs import ended, saved_steps, started, wait_until, words_of
from support.runs import EVERY_STEP
from support.synthetic_stores import make_store

from glot_jax.cli import main

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "store"
    # 300 steps.
    return make_store(folder, rows={"train": 2_400, "validation": 32}, dim=4, longest=4)


def has_saved(out: Path, target: int) -> bool:
    return max(saved_steps(out), default=0) >= target


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_process_that_is_killed_ends_the_run_and_it_goes_on(
    store, soak, tmp_path, record_property
):
    """On two it ends byte by byte where an undisturbed one does, and on one within rounding."""
    rng = random.Random(int(os.environ.get("GLOT_FAULT_SEED", "20261130")))
    kills = 5 if soak else 1
    whole, out = tmp_path / "whole", tmp_path / "run"
    with started(words_of(store, whole), tmp_path) as pair:
        assert [code for code, _, _ in map(ended, pair)] == [0, 0]
    words = words_of(store, out)
    hits = []
    while len(hits) < kills:
        # Saved at every tenth step.
        target = max(saved_steps(out), default=0) + 10 * rng.randint(1, max(1, 15 // kills))
        victim = rng.randrange(2)
        with started(words, tmp_path) as pair:
            wait_until(functools.partial(has_saved, out, target), pair)
            time.sleep(rng.uniform(0, 0.2))
            os.kill(pair[victim].pid, signal.SIGKILL)
            began = time.monotonic()
            code, _, said = ended(pair[1 - victim])
            waited = time.monotonic() - began
        # A message of ours, or the abort of JAX where the first process is gone.
        assert code in (1, -signal.SIGABRT), said
        hits.append((victim, saved_steps(out)[-1]))
        print(f"process {victim} killed; step {hits[-1][1]} saved, the other {waited:.1f} s later")
        words = ["--resume", str(out), "--checkpoint-minutes", str(EVERY_STEP)]
    with started(words, tmp_path) as pair:
        assert [code for code, _, _ in map(ended, pair)] == [0, 0]
    lost = int((out / "metrics.jsonl").read_bytes() != (whole / "metrics.jsonl").read_bytes())
    assert lost == 0
    assert {victim for victim, _ in hits} == ({0, 1} if soak else {hits[0][0]})
    record_property(
        "fault",
        {
            "fault": "SIGKILL of one of two processes that train a run",
            "injected": len(hits),
            "lost": lost,
            "seen": (
                "the other one ends within seconds, with a line or with JAX's; --resume continues"
                " after the last saved step, on one device too"
            ),
        },
    )


def test_what_two_processes_saved_one_goes_on_with(store, tmp_path):
    out, whole = tmp_path / "run", tmp_path / "whole"
    with started(words_of(store, out), tmp_path) as pair:
        wait_until(lambda: bool(saved_steps(out)), pair)
        os.kill(pair[1].pid, signal.SIGKILL)
        ended(pair[0])
    for words in (["--resume", str(out)], words_of(store, whole)):
        with pytest.raises(SystemExit) as ending:
            main(["train", *words])
        assert ending.value.code == 0
    for ours, theirs in zip(lines(out), lines(whole), strict=True):
        assert ours == pytest.approx(theirs, rel=0, abs=1e-5)
