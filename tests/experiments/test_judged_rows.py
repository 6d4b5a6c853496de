"""Judged rows are written with their labels, and beside the columns of their file."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from glot_jax.errors import UsageError
from glot_jax.experiments.judged_rows import write_judged_rows
from glot_jax.objectives.metrics import Predictions
from glot_jax.texts.tasks import TaskSpec
from glot_jax.training.evaluation import JudgedSplit

TOPICS = TaskSpec("custom", ("body",), ("text",), "topic", "classes", classes=("cat", "dog, big"))
SCORES = TaskSpec("custom", ("body",), ("text",), "score", "regression", label_range=(0.0, 5.0))


def judged(predictions, labels, outputs, rows=None):
    numbers = np.arange(len(labels)) if rows is None else np.array(rows)
    values = Predictions(np.array(predictions), np.array(labels), numbers)
    return JudgedSplit({"accuracy": 0.5}, values, np.array(outputs, np.float32))


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_rows_of_a_store_have_numbers(tmp_path):
    splits = {
        "validation": judged([1], [0], [[0, 0]], rows=[7]),
        "test": judged([0, 1], [0, 1], [[100, 0], [0, 100]]),
    }
    write_judged_rows(tmp_path / "o.csv", TOPICS, splits)
    rows = read_csv(tmp_path / "o.csv")
    assert [row["split"] for row in rows] == ["validation", "test", "test"]
    assert [row["row"] for row in rows] == ["7", "0", "1"]
    assert [row["label"] for row in rows] == ["cat", "cat", "dog, big"]
    assert [row["prediction"] for row in rows] == ["dog, big", "cat", "dog, big"]
    assert [float(row["probability"]) for row in rows] == [0.5, 1.0, 1.0]


def test_rows_of_a_file_keep_its_columns(tmp_path):
    (tmp_path / "in.jsonl").write_text(
        '{"body": "a", "topic": "cat", "id": 5}\n{"body": "b", "topic": "cat", "id": 6}\n'
    )
    splits = {"test": judged([0, 1], [0, 0], [[1, 0], [0, 1]])}
    write_judged_rows(tmp_path / "o.jsonl", TOPICS, splits, file=tmp_path / "in.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert [(row["id"], row["topic"], row["prediction"]) for row in rows] == [
        (5, "cat", "cat"),
        (6, "cat", "dog, big"),
    ]
    # Where a row was left out, rows cannot be told by their place.
    one = {"test": judged([0], [0], [[1, 0]], rows=[0])}
    write_judged_rows(tmp_path / "one.csv", TOPICS, one, file=tmp_path / "in.jsonl")
    assert [row["row"] for row in read_csv(tmp_path / "one.csv")] == ["0"]


def test_scores_have_no_probabilities(tmp_path):
    splits = {"test": judged([2.5], [3.0], [[0.5]])}
    write_judged_rows(tmp_path / "o.csv", SCORES, splits)
    assert read_csv(tmp_path / "o.csv") == [
        {"split": "test", "row": "0", "label": "3.0", "prediction": "2.5"}
    ]


def test_a_column_of_the_file_is_not_overwritten(tmp_path):
    (tmp_path / "in.csv").write_text("body,topic,prediction\na,cat,x\n")
    splits = {"test": judged([0], [0], [[1, 0]])}
    with pytest.raises(UsageError, match="must not have the columns"):
        write_judged_rows(tmp_path / "o.csv", TOPICS, splits, file=tmp_path / "in.csv")
    assert not (tmp_path / "o.csv").exists()
