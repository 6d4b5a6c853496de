"""Every benchmark runs from top to bottom at toy size; what it measures there means nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support.synthetic_stores import CLASSES, make_store

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
HELPERS = {"benchmark", "machine", "torch_heads", "head_contenders"}
NAMES = sorted({path.stem for path in BENCHMARKS.glob("*.py")} - HELPERS)
WORDS = ("a", "the", "cat", "dog", "sat", "ran", "red", "house", "tree", "is", "was", "not", "very")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder per task with a few random rows, in the columns of the real one."""
    folder = tmp_path_factory.mktemp("data")
    draw = random.Random(0)

    def text() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(4, 12)))

    def pair(label: object) -> dict:
        return {"sentence1": text(), "sentence2": text(), "label": label}

    def question() -> dict:
        return {"query": text(), "pos": [text()], "neg": [text(), text()]}

    rows = {
        "cola": lambda number: {"sentence": text(), "label": number % 2},
        "stsb": lambda number: pair(float(number % 6)),
        "mrpc": lambda number: pair(number % 2),
        "rte": lambda number: pair(number % 2),
        "trecqa": lambda _number: question(),
        "sts12": lambda number: {**pair(0), "score": float(number % 6)},
    }
    for task, row in rows.items():
        (folder / task).mkdir()
        for split, count in (("train", 48), ("validation", 16), ("test", 16)):
            lines = [json.dumps(row(number)) + "\n" for number in range(count)]
            (folder / task / f"{split}.jsonl").write_text("".join(lines))
    make_store(folder / "store", CLASSES, rows={"train": 48, "validation": 16}, layers=(1, 2))
    return folder


def arguments(name: str, data: Path) -> list[list[str]]:
    """The command lines of one benchmark."""
    if name == "method":
        return [[part, "--data", str(data)] for part in ("presets", "layers", "ablation")]
    if name in ("epoch", "extraction", "writer"):
        return [["--data", str(data / "cola")]]
    if name == "explanations":
        return [["--data", str(data / "cola"), "--task", "cola"]]
    if name in ("compare", "runs_together"):
        return [["--store", str(data / "store")]]
    if name in ("decoder_states", "extraction_kills"):
        return [["--data", str(data / "stsb")]]
    whole = (
        "classifiers",
        "encode",
        "glue",
        "embeddings",
        "predict",
        "serving",
        "start",
        "tokenising",
        "lora",
    )
    if name in (*whole, "stuck_seeds", "decoder_search", "decoder_confirmation", "storage_dtypes"):
        return [["--data", str(data)]]
    return [[]]


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_at_toy_size(name, data, tmp_path):
    for settings in arguments(name, data):
        command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *settings]
        command += ["--smoke", "--results", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, f"{settings}: {done.stdout}{done.stderr}"
    assert list(tmp_path.glob("*.json")) or list(tmp_path.glob("*.svg"))
