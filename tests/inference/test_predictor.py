"""`Predictor`: a new text is answered as a stored one is evaluated, alone and in company."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.trained_runs import TOPICS, make_runs, sentences

from glot_jax.backbones.from_recipe import load_backbone
from glot_jax.errors import UsageError
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.loading import BackboneChoice, load_head
from glot_jax.inference.predictor import Predictor
from glot_jax.training.evaluation import open_run, predict_run
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
NEAR = {"float32": 1e-6, "float16": 1e-4, "int8": 1e-3, "bfloat16": 1e-3}


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


@pytest.mark.parametrize("storage_dtype", ["float32", "bfloat16", "int8"])
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


def test_what_is_no_row_is_refused(runs, choice, topics):
    with pytest.raises(UsageError, match=r"must have 1 texts: body; got 2 in row 1"):
        topics.predict(["a", ("a", "b")])
    with pytest.raises(UsageError, match=r"must be a string; got int in row 0"):
        topics.predict([(3,)])
    pairs = Predictor.load([runs / "pairs"], choice)
    with pytest.raises(UsageError, match=r"must have 2 texts: sentence1, sentence2; got 1 in row"):
        pairs.predict(["only one"])


def test_runs_of_other_rows_do_not_answer_together(runs, choice):
    with pytest.raises(UsageError, match=r"same kind of rows; got label_kind 'classes'"):
        Predictor.load([runs / "topics", runs / "scores"], choice)
    with pytest.raises(UsageError, match="predictions need a run"):
        Predictor.load([], choice)
