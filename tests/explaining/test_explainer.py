"""`Explainer`: it names what decided, and says what `Predictor` says."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from support.marked_runs import (
    MARKERS,
    decide_by_markers,
    make_marked_store,
    marked_rows,
    train_marked,
)
from support.trained_runs import WORDS, make_runs
from support.typed import present

from glot_jax.batches.token_choice import TokenChoice
from glot_jax.errors import UsageError
from glot_jax.explaining.explainer import Explainer, explain
from glot_jax.inference.loading import BackboneChoice
from glot_jax.inference.predictor import Predictor

pytestmark = pytest.mark.xdist_group("explainer")  # what they share is made once

HEADS = {
    "mean": {"pooler": "mean"},
    "adapool": {"pooler": "adapool"},
    "mlp": {"pooler": "mlp", "hidden_dim": 8, "num_layers": 1},
    "gat": {"pooler": "glot", "gnn": "gat", "hidden_dim": 8, "num_layers": 1},
    "gin": {"pooler": "glot", "gnn": "gin", "hidden_dim": 8, "num_layers": 1},
}


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    return make_marked_store(tmp_path_factory.mktemp("marked"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("explained"))


def explainer_of(runs, name, **changes):
    predictor = Predictor.load([runs / name], BackboneChoice(str(runs / "tiny"), "cpu"))
    (member,) = predictor.members
    for field, value in changes.items():
        setattr(member.model.stem, field, value)
    return Explainer(predictor)


def deciding_by_markers(folder, name, pooler):
    """A run whose right answers are known, and why."""
    train_marked(folder, name, **pooler)
    predictor = Predictor.load([folder / name], BackboneChoice(str(folder / "tiny"), "cpu"))
    (member,) = predictor.members
    words = ("[CLS]", *WORDS, "[SEP]")
    assert member.backbone is not None
    ids = member.backbone.tokenizer.convert_tokens_to_ids(list(words))
    states = member.backbone.states([ids]).layers[0]
    decide_by_markers(member.model, dict(zip(words, states, strict=True)))
    return Explainer(predictor)


@pytest.mark.parametrize("head", HEADS)
def test_the_token_that_decides_is_named(marked, head):
    explainer = deciding_by_markers(marked, head, HEADS[head])
    rows = marked_rows(40, 7)
    explanations = explainer.explain([row["body"] for row in rows], occlude="words")
    for row, explanation in zip(rows, explanations, strict=True):
        assert explanation.prediction == row["label"]
        (text,) = explanation.texts
        decisive = text.tokens[text.strongest(1)[0]]
        assert MARKERS[decisive] == row["label"]
        assert text.words is not None
        word = max(text.words, key=lambda word: word.effect.score)
        assert word.text == decisive
        # Of two classes, what speaks for one speaks against the other.
        assert text.effects[text.strongest(1)[0]].score > 0


def test_another_class_turns_effects_around(marked):
    explainer = deciding_by_markers(marked, "turned", HEADS["mean"])
    rows = [row["body"] for row in marked_rows(4, 8)]
    travel, weather = (explainer.explain(rows, class_name=name) for name in MARKERS.values())
    for first, second in zip(travel, weather, strict=True):
        assert (first.explained, second.explained) == ("travel", "weather")
        ours = [effect.score for effect in first.texts[0].effects]
        theirs = [effect.score for effect in second.texts[0].effects]
        np.testing.assert_allclose(ours, np.negative(theirs), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("topics", ["the cat sat on the mat", "sun", ""]),
        ("scores", ["the dog on the mat", "bird bird"]),
        ("pairs", [("cat on mat", "dog"), ("sun", "sun train")]),
    ],
)
def test_answers_are_those_of_the_predictor(runs, name, rows):
    explainer = explainer_of(runs, name)
    answers = explainer.predictor.predict(rows)
    for number, explanation in enumerate(explainer.explain(rows)):
        if name == "topics":
            assert explanation.probabilities is not None
            shares = list(explanation.probabilities.values())
            np.testing.assert_array_equal(shares, answers.probabilities[number])
        else:
            assert explanation.prediction == answers.values[number]
            assert explanation.explained is None
        assert len(explanation.texts) == (2 if name == "pairs" else 1)
        for text in explanation.texts:
            assert len(text.tokens) == len(text.effects) == len(text.weights)
            np.testing.assert_allclose(text.weights.sum(), 1, atol=1e-6)
        json.dumps(explanation.to_json(), allow_nan=False)


def test_words_of_a_pair_are_taken_out_of_their_own_text(runs):
    explainer = explainer_of(runs, "pairs")
    row = ("cat on mat", "dog bird")
    (explanation,) = explainer.explain([row], occlude="words")
    variants = [row, ("on mat", row[1]), ("cat mat", row[1]), ("cat on", row[1])]
    variants += [(row[0], "bird"), (row[0], "dog")]
    scores = explainer.predictor.predict(variants).values
    effects = []
    for text in explanation.texts:
        assert text.words is not None
        effects += [word.effect.score for word in text.words]
    np.testing.assert_allclose(effects, scores[0] - scores[1:], atol=1e-6)


def test_tokens_left_out_before_the_graph_have_no_part(runs):
    explainer = explainer_of(runs, "topics", tokens=TokenChoice(skip_first=1))
    (explanation,) = explainer.explain(["cat dog bird"])
    (text,) = explanation.texts
    assert not text.takes_part[0]
    assert text.takes_part[1:].all()
    assert text.weights[0] == 0
    assert text.effects[0].score == 0
    assert not text.links[0].any()
    assert not text.links[:, 0].any()
    assert 0 not in text.strongest(10)
    # What decides without the first token is what the predictor says of such a text.
    assert explanation.probabilities is not None
    answers = explainer.predictor.predict(["cat dog bird"])
    np.testing.assert_allclose(
        list(explanation.probabilities.values()), answers.probabilities[0], atol=1e-6
    )


def test_neighbours_are_links_by_cosine(runs):
    (explanation,) = explainer_of(runs, "topics").explain(["cat dog bird train sun park mat"])
    (text,) = explanation.texts
    for token in range(len(text.tokens)):
        neighbours = text.neighbours(token, 100)
        assert len(neighbours) == text.degrees[token]
        cosines = [neighbour.cosine for neighbour in neighbours]
        assert cosines == sorted(cosines, reverse=True)
        for neighbour in neighbours:
            assert neighbour.position != token
            assert text.links[token, neighbour.position]


def test_what_cannot_be_explained(runs):
    scores = explainer_of(runs, "scores")
    with pytest.raises(UsageError, match="trained on classes"):
        scores.explain(["cat"], class_name="travel")
    with pytest.raises(UsageError, match=r"unknown class.*'rain'.*weather"):
        explainer_of(runs, "topics").explain(["cat"], class_name="rain")
    with pytest.raises(UsageError, match="must be a list of strings.*got one string: 'cat'"):
        explain(runs / "topics", "cat", backbone=str(runs / "tiny"))
    with pytest.raises(UsageError, match="must have 2 texts"):
        explain(runs / "pairs", ["one"], backbone=str(runs / "tiny"))
    choice = BackboneChoice(str(runs / "tiny"), "cpu")
    with pytest.raises(UsageError, match="of one run"):
        Explainer(Predictor.load([runs / "topics", runs / "other"], choice))
    (member,) = Predictor.load([runs / "topics"], choice).members
    member.backbone = None
    with pytest.raises(UsageError, match="texts need a backbone"):
        Explainer(Predictor([member]))


def test_an_explanation_is_plain_data(runs):
    (explanation,) = explainer_of(runs, "topics").explain(["cat dog"])
    assert dataclasses.is_dataclass(explanation)
    values = explanation.to_json()
    assert values["head"]["pooler"] == "glot"
    assert values["head"]["tau"] == 0.6
    assert "not the backbone" in values["scope"]
    assert [token["token"] for token in values["texts"][0]["tokens"]][1:3] == ["cat", "dog"]


def test_several_tokens_are_taken_out_together(runs):
    explainer = explainer_of(runs, "topics")
    row = "cat dog bird train"
    (explanation,) = explainer.explain([row])
    (text,) = explanation.texts
    answers = explainer.answers_without(row, [[], [2], [1, 2, 4]])
    assert explanation.probabilities is not None
    whole = list(explanation.probabilities.values())
    np.testing.assert_allclose(answers.probabilities[0], whole, atol=1e-6)
    drop = answers.probabilities[0] - answers.probabilities[1]
    chosen = list(explanation.probabilities).index(str(explanation.explained))
    np.testing.assert_allclose(drop[chosen], present(text.effects[2].probability), atol=1e-6)
    assert not np.allclose(answers.probabilities[1], answers.probabilities[2])
