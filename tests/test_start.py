"""What is loaded when a command has its first result: no more than it needs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.synthetic_stores import CLASSES, SCORE, make_store
from support.tiny_backbones import make_backbone
from support.trained_runs import make_runs, sentences, write_lines

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
ANSWER = """
import importlib, json, sys
from glot_jax import cli
home = importlib.import_module(sys.argv[1])
if sys.argv[2]:
    home = getattr(home, sys.argv[2])
computed = getattr(home, sys.argv[3])
def first(*arguments, **options):
    result = computed(*arguments, **options)
    print("LOADED", json.dumps(sorted(sys.modules)), flush=True)
    setattr(home, sys.argv[3], computed)
    return result
setattr(home, sys.argv[3], first)
cli.main(sys.argv[4:])
"""
WHOLE = """
import json, sys
from glot_jax import cli
try:
    cli.main(sys.argv[1:])
finally:
    print("LOADED", json.dumps(sorted(sys.modules)))
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
BACKBONE = {"torch", "transformers"}
"""Of them, what a text needs before it has states."""
ENCODER = ("glot_jax.inference.encoder", "SentenceEncoder", "encode")
PREDICTOR = ("glot_jax.inference.predictor", "Predictor", "predict")
FORWARD = ("glot_jax.training.evaluation", "", "run_over")


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Runs, and a file of texts."""
    folder = make_runs(tmp_path_factory.mktemp("runs"))
    write_lines(folder / "texts.jsonl", [{"body": text} for text in sentences(9, 1)])
    return folder


def test_the_first_vector_waits_for_nothing_that_it_does_not_need(folder, tmp_path):
    texts = ("encode", folder / "texts.jsonl", "--column", "body", "--out", tmp_path / "x.npy")
    run = ("--run", folder / "topics", "--backbone", folder / "tiny")
    loaded = loaded_by(ANSWER, *ENCODER, *texts, *run)
    assert packages(loaded) & INTRUDERS == BACKBONE


def test_the_first_prediction_waits_for_nothing_that_it_does_not_need(folder, tmp_path):
    texts = ("predict", folder / "texts.jsonl", "--out", tmp_path / "x.jsonl")
    run = ("--run", folder / "topics", "--backbone", folder / "tiny")
    loaded = loaded_by(ANSWER, *PREDICTOR, *texts, *run)
    assert packages(loaded) & INTRUDERS == BACKBONE


def test_the_first_outputs_of_an_evaluation_wait_for_no_backbone(folder):
    loaded = loaded_by(ANSWER, *FORWARD, "evaluate", folder / "topics")
    assert not packages(loaded) & INTRUDERS


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_an_extraction_loads_the_backbone_alone(tmp_path, architecture):
    make_backbone(architecture, tmp_path / "tiny")
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"text": text} for text in sentences(4, 2)]
    write_lines(data / "train.jsonl", rows)
    task = ("--task", "custom", "--data", data, "--text-columns", "text", "--out", tmp_path / "s")
    loaded = loaded_by(WHOLE, "extract", "--backbone", tmp_path / "tiny", *task)
    assert packages(loaded) & INTRUDERS == BACKBONE


def test_a_run_of_classes_ends_without_what_takes_longer_than_it(tmp_path, folder):
    run = ("train", "--store", folder / "store-topics", "--out", tmp_path / "run", "--epochs", 1)
    loaded = loaded_by(WHOLE, *run, "--pooler", "mean", "--layer", -1)
    # The length baseline is fitted by an optimizer of SciPy's.
    assert packages(loaded) & INTRUDERS == {"scipy"}
    loaded = loaded_by(WHOLE, "evaluate", tmp_path / "run")
    assert not packages(loaded) & INTRUDERS
