"""The last lines of a command: the score, on what, against what, what to type next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.cli.closing import (
    after_evaluation,
    after_seeds,
    after_training,
    class_table,
    confusion_table,
)
from glot_jax.objectives.class_scores import ClassScores


def summary(
    selected_on: str = "validation", score: float = 0.5, **values: object
) -> dict[str, Any]:
    entry = {"mcc": score, "accuracy": 0.75, "loss": 0.4, "epoch": 2}
    return {
        "task": "cola",
        "pooler": "glot",
        "selected_on": selected_on,
        "validation": {"best": entry, "last": {**entry, "mcc": 0.1, "epoch": 3}},
        "majority": {"mcc": 0.0, "accuracy": 0.6},
        "baselines": {"validation": {"majority": {"mcc": 0.0, "accuracy": 0.6}}},
        "parameters": {"pooler": 1, "head": 1},
        **values,
    }


def test_a_run_says_its_score_and_what_to_type_next():
    lines = after_training(summary(), Path("runs/my run"), 3)
    assert lines == [
        "runs/my run: mcc 0.500 on validation, after epoch 2 of 3, the best there;"
        " always the same answer: 0.000.",
        "Next: glot evaluate 'runs/my run'",
        "      glot predict FILE --run 'runs/my run' --out answers.csv",
    ]


def test_a_holdout_is_called_a_holdout():
    # A store without a validation split reports its holdout under that name.
    line, *_ = after_training(summary("holdout"), Path("run"), 3)
    assert "on the holdout of the training rows" in line
    assert "validation" not in line


def test_an_epoch_that_nobody_chose_is_the_last():
    line, *_ = after_training(summary("last"), Path("run"), 3)
    assert "after the last of 3 epochs" in line


def test_a_run_that_ranks_has_vectors_to_write():
    *_, last = after_training(summary(task="embedding"), Path("run"), 3)
    assert last.strip().startswith("glot encode FILE --run run")


def test_seeds_have_a_mean_and_the_first_to_go_on_with(tmp_path):
    # As `train_seeds` leaves them: the parent's summary names the folders of the runs.
    for seed, score in ((3, 0.4), (4, 0.6)):
        run = tmp_path / f"seed-{seed}"
        run.mkdir()
        (run / "summary.json").write_text(json.dumps(summary(score=score)))
    lines = after_seeds({"seeds": [3, 4], "runs": ["seed-3", "seed-4"]}, tmp_path)
    assert lines[0] == f"{tmp_path}: mcc 0.500 on validation, the mean of 2 seeds (0.400, 0.600)."
    assert lines[1] == f"Next: glot evaluate {tmp_path}/seed-3"


def test_a_split_is_judged_in_a_line_and_by_class():
    labels = np.array([0, 1, 1])
    classes = ClassScores.of_rows(labels, np.array([0, 1, 0]), ("no", "ye[s]"))
    (line,) = after_evaluation("test", {"mcc": 0.5, "loss": 0.25}, 3, classes)
    assert line == "test: mcc 0.5000, loss 0.2500 (3 rows); always ye[s]: accuracy 0.6667"
    assert [row[0].text for row in class_table(classes).rows] == ["no", "ye[s]"]
    confusion = confusion_table(classes)
    assert confusion is not None
    assert [cell.text for cell in confusion.rows[1]] == ["ye[s]", "1", "1"]
    (scores,) = after_evaluation("test", {"spearman": 0.5}, 3, None)
    assert scores == "test: spearman 0.5000 (3 rows)"


def test_a_confusion_of_many_classes_is_left_out():
    labels = np.arange(13)
    classes = ClassScores.of_rows(labels, labels, tuple(map(str, labels)))
    assert confusion_table(classes) is None


def test_of_several_classes_a_row_the_threshold_is_said():
    labels = np.array([[1, 0], [0, 1]], np.uint8)
    scores = ClassScores.of_labels(labels, labels, ("a", "b"))
    (line,) = after_evaluation("test", {"f1_micro": 1.0}, 2, scores)
    assert line.endswith("(2 rows); a class is predicted where its probability is above 0.5")
    assert confusion_table(scores) is None
    assert len(class_table(scores).rows) == 2
