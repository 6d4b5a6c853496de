"""`Predictor`: a new text is answered as a stored one is evaluated, alone and in company."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.trained_runs import TOPICS, make_runs, sentences, write_lines

from glot_jax.backbones.from_recipe import load_backbone
from glot_jax.cli.evaluate import evaluate
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.runs import EvaluateConfig
from glot_jax.config.train import ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.experiments.evaluate_file import judge_file
from glot_jax.extraction import dump
from glot_jax.inference.answering import Answers
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.loading import BackboneChoice, load_head
from glot_jax.inference.predict_file import (
    added_columns,
    answer_columns,
    check_rows,
    predict_file,
)
from glot_jax.inference.predictor import Predictor, predict
from glot_jax.inference.row_files import RowFile
from glot_jax.objectives.probabilities import probabilities
from glot_jax.run_folders.run_folder import RunFolder
from glot_jax.store import HiddenStore
from glot_jax.training import train
from glot_jax.training.evaluation import judge_run, open_run, predict_run
from glot_jax.training.forward import run_over

pytestmark = pytest.mark.xdist_group("predictor")  # what they share is made once


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("predictor"))


@pytest.fixture(scope="module")
def choice(runs):
    return BackboneChoice(str(runs / "tiny"), device="cpu")


@pytest.fixture(scope="module")
def topics(runs, choice):
    return Predictor.load([runs / "topics"], choice)


def stored_rows(runs, kind):
    lines = (runs / "data" / kind / "validation.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def outputs_of_a_store(run):
    """Outputs of the head [rows, ...] for the stored validation rows, in their order."""
    prepared, state = open_run(run, quiet=True)
    outputs = run_over(prepared, state, "validation")
    return outputs.values[np.argsort(outputs.rows)]


# Padding changes the last digit of sums, and rounding to 16 bits may turn that into one of its own.
NEAR = {"float32": 1e-6, "float16": 1e-4, "int8": 1e-3, "int4": 1e-3, "bfloat16": 1e-3}


def softmax(logits):
    exponentials = np.exp(logits.astype(np.float64))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["topics", "pairs", "scores"])
def test_a_text_is_answered_as_it_is_evaluated(runs, choice, kind):
    predictor = Predictor.load([runs / kind], choice)
    columns = predictor.task.text_columns
    rows = [tuple(row[column] for column in columns) for row in stored_rows(runs, kind)]
    answers = predictor.predict(rows)
    outputs = outputs_of_a_store(runs / kind)
    if kind == "topics":
        assert predictor.classes == TOPICS
        np.testing.assert_allclose(answers.probabilities, softmax(outputs), atol=NEAR["float16"])
        np.testing.assert_array_equal(answers.values, outputs.argmax(axis=1))
        return
    predictions = predict_run(runs / kind, quiet=True)["validation"]
    expected = predictions.predictions[np.argsort(predictions.rows)]
    with pytest.raises(UsageError, match="must have been trained on classes"):
        answers.probabilities  # noqa: B018 - reading it is what fails
    np.testing.assert_allclose(answers.values, expected, atol=1e-3)


@pytest.mark.parametrize("storage_dtype", ["float32", "bfloat16", "int8", "int4"])
def test_states_pass_through_the_stores_dtype(tmp_path, storage_dtype):
    runs = make_runs(tmp_path, storage_dtype=storage_dtype)
    predictor = Predictor.load([runs / "topics"], BackboneChoice(str(runs / "tiny"), "cpu"))
    rows = [row["body"] for row in stored_rows(runs, "topics")]
    answers = predictor.predict(rows)
    expected = softmax(outputs_of_a_store(runs / "topics"))
    np.testing.assert_allclose(answers.probabilities, expected, atol=NEAR[storage_dtype])
    # As the backbone computes them, states give other probabilities.
    (member,) = predictor.members
    member.recipe = member.recipe.extended(storage_dtype="float32")
    unrounded = predictor.predict(rows).probabilities
    assert (np.abs(unrounded - expected).max() > 1e-6) == (storage_dtype != "float32")


@pytest.mark.parametrize("storage_dtype", ["float32", "float16"])
def test_neither_order_nor_company_matters(topics, monkeypatch, storage_dtype):
    (member,) = topics.members
    monkeypatch.setattr(member, "recipe", member.recipe.extended(storage_dtype=storage_dtype))
    texts = sentences(40, 9)
    together = topics.predict(texts).probabilities
    np.testing.assert_allclose(together.sum(axis=1), 1)
    order = np.random.default_rng(2).permutation(40)
    shuffled = topics.predict([texts[row] for row in order], batch_size=7).probabilities
    near = NEAR[storage_dtype]
    np.testing.assert_allclose(shuffled[np.argsort(order)], together, atol=near)
    for row in range(5):
        alone = topics.predict([texts[row]]).probabilities
        np.testing.assert_allclose(alone[0], together[row], atol=near)


def test_company_changes_nothing_where_each_text_has_a_pass_of_its_own(runs):
    # float16 turns the last digit of a padded sum into one of its own; without padding there is
    # none to turn.
    head = load_head(runs / "topics")
    recipe = head.folder.recipe.extended(deterministic=True, storage_dtype="float16")
    backbone = load_backbone(
        recipe, layers=head.folder.model.layers, backbone=str(runs / "tiny"), device="cpu"
    )
    member = SentenceEncoder.from_head(head, backbone)
    member.recipe = recipe
    predictor = Predictor([member])
    texts = sentences(40, 9)
    together = predictor.predict(texts).probabilities
    for row in range(8):
        alone = predictor.predict([texts[row]]).probabilities
        np.testing.assert_allclose(alone[0], together[row], atol=1e-6, rtol=0)


class Ordinal:
    """The head of a plugin's objective: thresholds between classes, one fewer than classes."""

    def __call__(self, vectors):
        return vectors[0, :, :2]


def test_what_is_no_logit_of_each_class_is_refused(runs, choice, monkeypatch):
    predictor = Predictor.load([runs / "topics"], choice)
    monkeypatch.setattr(predictor.members[0].model, "head", Ordinal())
    with pytest.raises(UsageError, match=r"logits \[rows, 3\].*got outputs \[1, 2\]"):
        predictor.predict(["a text"])


def test_nothing_is_compiled_for_rows_after_a_warm_up(runs, choice):
    both = Predictor.load([runs / name for name in ("topics", "other")], choice)
    compiled = both.warm_up(range(1, 65), 4)
    assert compiled == sum(member.compilations for member in both.members) > 0
    both.predict(sentences(30, 6), 4)
    both.predict(["cat " * 100], 4)
    assert compiled == sum(member.compilations for member in both.members)


def test_runs_answer_together_by_the_mean_of_their_probabilities(runs, choice):
    names = ["topics", "other"]
    both = Predictor.load([runs / name for name in names], choice)
    # They read different layers of one store: one backbone gives both.
    assert both.members[0].backbone is both.members[1].backbone
    texts = sentences(12, 5)
    alone = [Predictor.load([runs / name], choice).predict(texts) for name in names]
    answers = both.predict(texts)
    mean = (alone[0].probabilities + alone[1].probabilities) / 2
    np.testing.assert_allclose(answers.probabilities, mean, atol=1e-7)
    np.testing.assert_array_equal(answers.values, mean.argmax(axis=1))


def test_texts_without_words_and_no_rows_are_answered(topics):
    assert topics.predict([]).probabilities.shape == (0, 3)
    np.testing.assert_allclose(topics.predict(["", " "]).probabilities.sum(axis=1), 1)


def test_a_frame_is_read_row_by_row(topics):
    pandas = pytest.importorskip("pandas")
    texts = ["the cat sat", "a red house", "the dog ran"]
    expected = topics.predict(texts)
    for frame in (pandas.DataFrame({"text": texts}), pandas.Series(texts, index=[7, 8, 9])):
        answers = topics.predict(frame)
        np.testing.assert_array_equal(answers.probabilities, expected.probabilities)


def test_what_is_no_row_is_refused(runs, choice, topics):
    with pytest.raises(UsageError, match=r"must have 1 texts: body; got 2 in row 1"):
        topics.predict(["a", ("a", "b")])
    with pytest.raises(UsageError, match=r"must be a string; got int in row 0"):
        topics.predict([(3,)])
    with pytest.raises(UsageError, match=r"must be a string; got int in row 1"):
        topics.predict(["a", 3])
    with pytest.raises(UsageError, match=r"must be a string; got bytes in row 0"):
        topics.predict([b"a"])
    # No tokenizer reads half of a character: its own error names no row.
    with pytest.raises(UsageError, match=r"UTF-8; got half of a surrogate pair in row 1"):
        topics.predict(["a", "b \ud83d"])
    # Else every character would be a row.
    with pytest.raises(UsageError, match=r"got one string: 'a text'. Give \['a text'\]"):
        topics.predict("a text")
    with pytest.raises(UsageError, match=r"got one string: 'a text'"):
        predict(runs / "topics", "a text", backbone=str(runs / "tiny"), device="cpu")
    pairs = Predictor.load([runs / "pairs"], choice)
    with pytest.raises(UsageError, match=r"must have 2 texts: sentence1, sentence2; got 1 in row"):
        pairs.predict(["only one"])


def test_runs_of_other_rows_do_not_answer_together(runs, choice):
    with pytest.raises(UsageError, match=r"same kind of rows; got label_kind 'classes'"):
        Predictor.load([runs / "topics", runs / "scores"], choice)
    with pytest.raises(UsageError, match="predictions need a run"):
        Predictor.load([], choice)


# --------------------------------------------------------------------------------------------------
# Several classes a row


@pytest.fixture(scope="module")
def labels(runs):
    """A calibrated run of rows with any of three words, and their file."""
    rows = []
    for text in sentences(60, 9):
        present = [word for word in ("cat", "dog", "sun") if word in text.split()]
        rows.append({"body": text, "label": "; ".join(present), "id": len(rows)})
    file = write_lines(runs / "labels.jsonl", rows)
    dump(
        ExtractConfig(
            backbone=str(runs / "tiny"),
            task="custom",
            data=file,
            out=runs / "store-labels",
            text_columns=("body",),
            label_column="label",
            label_separator=";",
        )
    )
    objective = ObjectiveConfig(select_on="holdout", calibrate=True)
    pooler = PoolerConfig(hidden_dim=8)
    train(
        TrainConfig(
            store=runs / "store-labels",
            out=runs / "labels",
            epochs=2,
            buckets=1,
            pooler=pooler,
            objective=objective,
        ),
        quiet=True,
    )
    return file


def test_several_classes_are_answered_as_they_are_judged(runs, choice, labels, tmp_path):
    predictor = Predictor.load([runs / "labels"], choice)
    folder = RunFolder.open(runs / "labels")
    texts = [json.loads(line)["body"] for line in labels.read_text().splitlines()]
    answers = predictor.predict(texts)
    assert answers.values.shape == answers.probabilities.shape == (60, 3)
    assert answers.values.dtype == bool
    judged = judge_run(runs / "labels", quiet=True)["validation"]
    expected = probabilities(judged.outputs, predictor.task, folder.temperature)
    own = answers.probabilities[judged.predictions.rows]
    np.testing.assert_allclose(own, expected, atol=NEAR["float16"])
    np.testing.assert_array_equal(own > 0.5, judged.predictions.predictions > 0)
    # Without the temperature they would be others.
    assert np.abs(own - probabilities(judged.outputs, predictor.task)).max() > 1e-3
    rows = RowFile(labels, ("body",))
    for suffix in ("csv", "jsonl", "parquet"):
        out = tmp_path / f"out.{suffix}"
        predict_file(predictor, rows, out, check_rows(rows, out, predictor.task))
    names = [";".join(np.array(predictor.classes)[row]) for row in answers.values]
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names[:4] == ["body", "label", "id", "prediction"]
    assert table["prediction"].to_pylist() == names
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["prediction"] for line in lines] == names


def test_without_a_separator_the_prediction_is_a_list(runs, labels):
    del labels
    task = dataclasses.replace(RunFolder.open(runs / "labels").model.task, label_separator=None)
    indicator = np.array([[True, False, True], [False, False, False]])
    shares = np.where(indicator, 0.75, 0.25)
    columns = answer_columns(task, Answers(indicator, shares))
    assert columns["prediction"] == [["cat", "sun"], []]
    assert list(columns) == list(added_columns(task))
    assert list(columns)[1:] == ["probability.cat", "probability.dog", "probability.sun"]


def test_evaluate_tells_every_class_and_both_calibrations(runs, labels, capsys, tmp_path):
    del labels
    evaluate(EvaluateConfig(run=runs / "labels", json=True))
    values = json.loads(capsys.readouterr().out)["validation"]
    assert list(values["classes"]) == ["cat", "dog", "sun"]
    assert "confusion" not in values
    assert values["calibration"]["temperature"] == RunFolder.open(runs / "labels").temperature
    assert set(values["without_temperature"]) == {"ece", "brier"}
    out = tmp_path / "rows.jsonl"
    evaluate(EvaluateConfig(run=runs / "labels", predictions=out))
    said = capsys.readouterr().out
    assert "a class is predicted where its probability is above 0.5" in said
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert list(rows[0])[:4] == ["split", "row", "label", "prediction"]
    right = 0
    marked = 0
    for row in rows:
        true = set(filter(None, row["label"].split(";")))
        guessed = set(filter(None, row["prediction"].split(";")))
        right += len(true & guessed)
        marked += len(true) + len(guessed)
    assert values["f1_micro"] == pytest.approx(2 * right / max(marked, 1))


def test_a_labelled_file_is_judged_by_the_same_separator(runs, labels):
    judged = judge_file(runs / "labels", labels, backbone=str(runs / "tiny"))
    (result,) = judged.values()
    np.testing.assert_array_equal(
        result.predictions.labels, HiddenStore(runs / "store-labels")["train"].labels
    )
