"""A mistake on the command line costs no import of jax, torch or transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.synthetic_stores import make_store

ROOT = Path(__file__).parents[2]
SLOW = {"jax", "jaxlib", "flax", "torch", "transformers", "datasets", "sklearn", "scipy", "orbax"}

SEVERAL = """
import contextlib, io, json, sys
from glot_jax.cli import main
answers = []
for words in json.loads(sys.argv[1]):
    error = io.StringIO()
    try:
        with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
            main(words)
    except SystemExit as ended:
        answers.append([ended.code, error.getvalue()])
print(json.dumps({"answers": answers, "modules": sorted({m.split(".")[0] for m in sys.modules})}))
"""


def run_commands(*commands) -> tuple[list[tuple[int, str]], set[str]]:
    """Exit code and stderr of each command, all in one process, and what that process imported."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    ended = subprocess.run(
        [sys.executable, "-c", SEVERAL, words],
        capture_output=True,
        check=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )
    answer = json.loads(ended.stdout)
    return [tuple(pair) for pair in answer["answers"]], set(answer["modules"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("early")
    make_store(folder / "store", layers=(0, 2))
    (folder / "full").mkdir()
    (folder / "full" / "file").write_text("x")
    (folder / "texts.txt").write_text("a text\n")
    (folder / "rows.jsonl").write_text('{"sentence": "a", "label": 1}\n')
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(
        json.dumps({"format": 2, "config": {"store": str(folder / "moved")}})
    )
    (folder / "old").mkdir()
    (folder / "old" / "config.json").write_text(json.dumps({"format": 1}))
    return folder


def mistakes(folder: Path) -> list[tuple[list, str]]:
    train = ["train", "--store", folder / "store", "--out", folder / "out"]
    none = folder / "none"
    run = folder / "run"
    out = folder / "out"
    rows = folder / "rows.jsonl"
    return [
        ([*train, "--pooler", "gloot"], "unknown pooler (--pooler); got 'gloot'"),
        ([*train, "--gnn", "gta"], "unknown GNN layer (--gnn); got 'gta'"),
        ([*train, "--graph", "treshold"], "unknown graph rule (--graph)"),
        ([*train, "--backend", "dens"], "unknown graph backend (--backend)"),
        ([*train, "--preset", "best"], "unknown preset (--preset); got 'best'"),
        ([*train, "--batch-size", "0"], "--batch-size must be at least 1; got 0"),
        ([*train, "--tau", "2"], "--tau must be a cosine in [-1, 1]; got 2.0"),
        ([*train, "--layer", "7"], "a layer must be stored to be read; got layer 7"),
        ([*train, "--mix-layers", "0", "7"], "a layer must be stored to be read; got layer 7"),
        ([*train, "--metric", "bleu"], "judged by: accuracy, f1; got --metric bleu"),
        ([*train, "--seeds", "1", "--resume", run], "--resume with --out"),
        ([*train, "--widht", "3"], "widht"),
        (["train", "--store", none, "--out", out], "a store must be a folder"),
        (["train", "--store", folder / "store", "--out", folder / "full"], "must be a new folder"),
        (["train", "--resume", none], "expected the config.json of an earlier run"),
        (["evaluate", none], "expected a run folder"),
        (["evaluate", folder / "old"], "a run folder must be of format 2 or 3"),
        (["evaluate", run], "give its new place with --store"),
        (["evaluate", run, "--data", none], "--data must be a folder or a file"),
        (["evaluate", run, "--mteb", "STS12", "--mteb-data", none], "must be a folder of tasks"),
        (["describe", none], "expected a run folder"),
        (["predict", folder / "texts.txt", "--run", none, "--out", out], "expected a run folder"),
        (["predict", folder / "texts.txt", "--run", run], "must be written somewhere"),
        (["predict", folder / "texts.txt", "--out", out], "--run must have at least one value"),
        (["encode", folder / "texts.txt", "--run", none, "--out", out], "expected a run folder"),
        (["encode", folder / "texts.txt", "--run", run, "--out", out], "suffix"),
        (["export", none, out], "expected a run folder"),
        (["export", run, folder / "full"], "an export must go to a new folder"),
        (["import-torch", none, "--gnn", "gat", "--jk", "cat", "--tau", "1", "--out", out], ".pth"),
        (["extract", "--backbone", "minilm", "--task", "colla", "--out", out], "unknown task"),
        (
            ["extract", "--backbone", "minilm", "--task", "cola", "--data", none, "--out", out],
            "--data must be a folder or a file",
        ),
        (
            ["extract", "--backbone", "minilm", "--task", "custom", "--data", rows, "--out", out],
            "needs --text-columns; got none. Columns of",
        ),
        (
            ["extract", "--backbone", none, "--task", "cola", "--out", out],
            "--backbone must be a folder",
        ),
        (["store", "verify", none], "a store must be a folder"),
        (["profile", "--pooler", "gloot"], "unknown pooler"),
        (["profile", "--compare", "gloot"], "--compare must name"),
        (["profile", "--store", none], "a store must be a folder"),
        (["stress", "--protocol", "x"], "unknown protocol (--protocol)"),
        (["stress", "--poolers", "gloot"], "unknown pooler (--poolers)"),
        (["compare", "--store", none, "--out", out], "a store must be a folder"),
        (["compare", "--store", folder / "store", "--out", out, "--pooler", "gloot"], "gloot"),
        (["sweep", "--store", none, "--out", out], "a store must be a folder"),
        (["sweep", "--store", none, "--out", out, "--hidden-dim", "0"], "--hidden-dim must be at"),
        (["sweep", "--store", none, "--out", out, "--tau", "0.6:0.1"], "with LOW below HIGH"),
        (["sweep", "--store", none, "--out", out, "--pooler", "gloot"], "gloot"),
        (["sweep", "--store", none, "--out", out, "--metric", "f1", "mcc"], "one metric on one"),
        (
            ["sweep", "--store", folder / "store", "--out", out, "--metric", "bleu"],
            "got --metric bleu",
        ),
        (["reproduce", "table99"], "unknown card of the paper"),
        (["reproduce", "table4", "--beside", "BERTT"], "unknown backbone of the paper"),
        (["report", none], "runs are read from folders"),
        (["trian"], "unknown command; got 'trian'"),
    ]


def test_a_mistake_is_one_line_and_loads_nothing(folder):
    cases = mistakes(folder)
    answers, modules = run_commands(*[words for words, _ in cases])
    for (words, message), (code, error) in zip(cases, answers, strict=True):
        assert code == 2, words
        assert message in " ".join(error.replace("│", " ").split()), words
        assert "Traceback" not in error
        if "--widht" not in words:
            assert error.count("\n") == 1, error
    assert not modules & SLOW
    assert not (folder / "out").exists()


def test_help_and_version_load_not_even_numpy():
    names = ["train", "extract", "evaluate", "store", "compare", "sweep"]
    helps = [[name, "--help"] for name in names]
    answers, modules = run_commands(["--help"], ["--version"], *helps)
    assert [code for code, _ in answers] == [0] * (2 + len(helps))
    assert not modules & (SLOW | {"numpy"})
