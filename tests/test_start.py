"""What is loaded when the first step is dispatched: no more than it needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.synthetic_stores import CLASSES, SCORE, make_store

STEP = """
import json, sys
from glot_jax import cli
from glot_jax.training import steps
dispatched = steps.Steps.train_block
def first(*arguments, **options):
    print("LOADED", json.dumps(sorted(sys.modules)), flush=True)
    steps.Steps.train_block = dispatched
    return dispatched(*arguments, **options)
steps.Steps.train_block = first
cli.main(sys.argv[1:])
"""
BASE = """
import json, sys
import jax, flax.nnx, optax
from orbax.checkpoint import v1
print("LOADED", json.dumps(sorted(sys.modules)))
"""
INTRUDERS = {
    "datasets",
    "grain",
    "matplotlib",
    "onnx",
    "optuna",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
}
"""Packages that take longer to load than a small head to train, and that a step does not need."""


def loaded_by(code: str, *arguments: object) -> set[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("LOADED")]
    return set(json.loads(line.removeprefix("LOADED")))


def packages(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.mark.parametrize("kind", ["classes", "score"])
def test_the_first_step_waits_for_nothing_that_it_does_not_need(tmp_path, kind):
    store = make_store(tmp_path / "store", {"classes": CLASSES, "score": SCORE}[kind])
    run = ("--store", store, "--out", tmp_path / "run", "--pooler", "mean", "--epochs", 1)
    loaded = loaded_by(STEP, "train", *run, "--batch-size", 8, "--buckets", 1)
    assert not packages(loaded) & INTRUDERS
    # Beside our own modules: what the libraries bring that a step is made of, and the command line.
    needed = loaded_by(BASE)
    others = {module for module in loaded - needed if not module.startswith("glot_jax")}
    assert len(others) < 0.15 * len(needed), sorted(packages(others))
