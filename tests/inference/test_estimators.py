"""`TextClassifier` and `TextRegressor`: scikit-learn's ways, on texts."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MultiLabelBinarizer
from support.tiny_backbones import make_backbone
from support.trained_runs import TOPICS, make_runs, write_lines

from glot_jax.backbones.cached_backbone import CachedBackbone
from glot_jax.commands import extract
from glot_jax.commands import train as train_run
from glot_jax.config.base import NUMBERS
from glot_jax.config.json import to_json
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.inference import fitting
from glot_jax.inference.estimators import TextClassifier, TextRegressor, load
from glot_jax.inference.fitting import as_rows, loaded_backbone, train_config
from glot_jax.inference.predictor import predict
from glot_jax.training import train

pytestmark = pytest.mark.xdist_group("estimators")  # what they share is made once

RNG = np.random.default_rng(0)
FILLER = ("the", "on", "mat", "sun")
CLASSES = ["animal", "travel"]
TEXTS = []
LABELS = []
for number in range(48):
    word = ("cat", "train")[number % 2]
    words = [*RNG.choice(FILLER, RNG.integers(1, 4)), *[word] * RNG.integers(2, 5)]
    TEXTS.append(" ".join(RNG.permutation(words)))
    LABELS.append(("animal", "travel")[number % 2])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(make_backbone("bert", tmp_path_factory.mktemp("estimators") / "tiny"))


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLOT_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def small(kind, tiny, **changes):
    settings = {
        "hidden_dim": 16,
        "epochs": 20,
        "batch_size": 8,
        "lr": 2e-2,
        "tau": 0.3,
        "device": "cpu",
        "settings": {"buckets": 1, "standardise": True},
    }
    return kind(tiny, **{**settings, **changes})


@pytest.fixture(scope="module")
def classifier(tiny):
    return small(TextClassifier, tiny).fit(TEXTS, LABELS)


def test_classes_are_learned_and_named(classifier, tiny):
    # Of words themselves, pooled by their mean: what can be learned is, whatever the seed.
    learner = small(TextClassifier, tiny, pooler="mean", layer=0, epochs=60, lr=3e-2)
    assert learner.fit(TEXTS, LABELS).score(TEXTS, LABELS) > 0.9
    assert classifier.classes_.tolist() == ["animal", "travel"]
    probabilities = classifier.predict_proba(TEXTS)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    chosen = classifier.classes_[probabilities.argmax(axis=1)]
    np.testing.assert_array_equal(classifier.predict(TEXTS), chosen)
    assert classifier.predict([]).shape == (0,)


@pytest.mark.parametrize("labels", [[7, -2], [True, False], [2.0, 1.0]])
def test_labels_keep_their_type(tiny, labels):
    y = np.array(labels)[np.arange(16) % 2]
    classifier = small(TextClassifier, tiny, epochs=1).fit(TEXTS[:16], y)
    assert classifier.classes_.dtype == y.dtype
    assert classifier.classes_.tolist() == sorted(labels)
    assert classifier.predict(TEXTS[:2]).dtype == y.dtype


def test_scores_and_pairs_of_texts(tiny):
    scores = np.array([len(text) for text in TEXTS], float)
    regressor = small(TextRegressor, tiny, pooler="mean").fit(TEXTS, scores)
    assert regressor.predict(TEXTS[:3]).shape == (3,)
    assert np.isfinite(regressor.score(TEXTS, scores))
    pairs = list(itertools.pairwise(TEXTS))
    classifier = small(TextClassifier, tiny, epochs=1).fit(pairs, LABELS[1:])
    assert classifier.predict_proba(pairs[:2]).shape == (2, 2)
    with pytest.raises(UsageError, match="must have 2 texts"):
        classifier.predict(TEXTS[:2])


# --------------------------------------------------------------------------------------------------
# Several labels a text

SEVERAL = [sorted({"cat", "train", "mat"} & set(text.split())) for text in TEXTS]


def test_lists_and_indicators_train_the_same_head(tiny, tmp_path):
    learner = small(TextClassifier, tiny, pooler="mean", layer=0, epochs=60, lr=3e-2)
    learner.fit(TEXTS, SEVERAL)
    assert learner.classes_.tolist() == ["cat", "mat", "train"]
    binarizer = MultiLabelBinarizer(classes=learner.classes_.tolist())
    indicator = np.asarray(binarizer.fit_transform(SEVERAL))
    shares = learner.predict_proba(TEXTS)
    assert shares.shape == indicator.shape
    guessed = learner.predict(TEXTS)
    np.testing.assert_array_equal(guessed, (shares > 0.5).astype(int))
    # Ties of the tokenizer's training are broken by chance: .87 to .93 were seen.
    assert f1_score(indicator, guessed, average="micro") > 0.8
    assert learner.score(TEXTS, indicator) > 0.6
    matrix = small(TextClassifier, tiny, pooler="mean", layer=0, epochs=60, lr=3e-2)
    matrix.fit(TEXTS, indicator)
    assert matrix.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(matrix.predict_proba(TEXTS), shares)
    assert learner.predict([]).shape == (0, 3)
    learner.save_pretrained(tmp_path / "saved")
    loaded = TextClassifier.from_pretrained(tmp_path / "saved", device="cpu")
    assert loaded.classes_.tolist() == learner.classes_.tolist()
    np.testing.assert_array_equal(loaded.predict(TEXTS), guessed)


def test_a_temperature_goes_with_the_head(tiny, tmp_path):
    options = {"select_on": "holdout", "epochs": 4}
    plain = small(TextClassifier, tiny, **options).fit(TEXTS, LABELS)
    settings = {"buckets": 1, "standardise": True, "calibrate": True}
    calibrated = small(TextClassifier, tiny, **options, settings=settings).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(calibrated.predict(TEXTS), plain.predict(TEXTS))
    shares = calibrated.predict_proba(TEXTS)
    temperature = calibrated.head_.folder().temperature
    assert temperature is not None
    assert temperature != 1
    odds = np.diff(np.log(plain.predict_proba(TEXTS)), axis=1)
    np.testing.assert_allclose(np.diff(np.log(shares), axis=1), odds / temperature, rtol=1e-6)
    copy = pickle.loads(pickle.dumps(calibrated))
    np.testing.assert_array_equal(copy.predict_proba(TEXTS), shares)
    calibrated.save_pretrained(tmp_path / "saved")
    loaded = TextClassifier.from_pretrained(tmp_path / "saved", device="cpu")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), shares)


# --------------------------------------------------------------------------------------------------
# scikit-learn


def test_clones_have_the_parameters_and_are_not_fitted(classifier, tiny):
    copy: Any = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    with pytest.raises(NotFittedError, match="must be fitted first"):
        copy.predict(["a"])
    assert copy.set_params(tau=0.2).tau == 0.2
    # As they were given, even where fit reads something else out of them.
    state = np.random.RandomState(0)
    assert TextClassifier(tiny, random_state=state).random_state is state


def test_a_fit_changes_neither_its_input_nor_what_it_was_told(tiny):
    texts = np.array(TEXTS[:16], object)
    labels = np.array(LABELS[:16], object)
    before = texts.copy(), labels.copy()
    classifier = small(TextClassifier, tiny, epochs=1)
    parameters = classifier.get_params()
    assert classifier.fit(texts, labels) is classifier
    np.testing.assert_array_equal(texts, before[0])
    np.testing.assert_array_equal(labels, before[1])
    assert classifier.get_params() == parameters


def test_the_same_fit_gives_the_same_answers(classifier, tiny):
    again = small(TextClassifier, tiny).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    other = small(TextClassifier, tiny, random_state=1).fit(TEXTS, LABELS)
    assert (other.predict_proba(TEXTS) != classifier.predict_proba(TEXTS)).any()


def test_a_pickle_is_plain_data_and_answers_the_same(classifier):
    expected = classifier.predict_proba(TEXTS)
    data = pickle.dumps(classifier)
    # Of ours only the classes themselves: no compiled code, no model of torch or flax.
    for foreign in (b"flax", b"torch", b"jaxlib", b"transformers"):
        assert foreign not in data
    np.testing.assert_array_equal(pickle.loads(data).predict_proba(TEXTS), expected)


def test_it_fits_into_pipelines_and_searches_and_runs_each_text_once(tiny):
    fitting._LOADED.clear()
    frozen = small(TextClassifier, tiny).frozen_model()
    # Texts that no other test has.
    texts = [f"{text} park" for text in TEXTS]
    lower = FunctionTransformer(lambda rows: [row.lower() for row in rows])
    pipeline = make_pipeline(lower, small(TextClassifier, tiny, epochs=2))
    loud: dict[str, Any] = {"error_score": "raise"}
    search = GridSearchCV(pipeline, {"textclassifier__tau": [0.2, 0.4]}, cv=2, **loud)
    search.fit(texts, LABELS)
    assert 0 <= search.best_score_ <= 1
    backbone = loaded_backbone(frozen)
    assert isinstance(backbone, CachedBackbone)
    assert backbone.runs == len(set(texts))
    scores = cross_val_score(small(TextClassifier, tiny, epochs=1), texts, LABELS, cv=2)
    assert scores.shape == (2,)
    assert backbone.runs == len(set(texts))


# --------------------------------------------------------------------------------------------------
# Runs


def test_a_run_is_an_estimator(tmp_path):
    runs = make_runs(tmp_path)
    classifier = TextClassifier.load(runs / "topics", backbone=str(runs / "tiny"), device="cpu")
    assert classifier.classes_.tolist() == list(TOPICS)
    probabilities = classifier.predict_proba(TEXTS[:3])
    assert probabilities.shape == (3, 3)
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_allclose(again.predict_proba(TEXTS[:3]), probabilities, atol=1e-6)
    # The layer and everything else is that of the run's states, not of the parameters.
    mixed = TrainConfig(store=runs / "store-topics", out=runs / "mixed", epochs=1, buckets=1)
    train(replace(mixed, mix_layers=(), pooler=PoolerConfig(hidden_dim=8)), quiet=True)
    first = TextClassifier.load(runs / "mixed", backbone=str(runs / "tiny"), device="cpu")
    expected = first.predict_proba(TEXTS[:3])
    copied = pickle.loads(pickle.dumps(first))
    np.testing.assert_allclose(copied.predict_proba(TEXTS[:3]), expected, atol=1e-4)
    regressor = TextRegressor.load(runs / "scores", backbone=str(runs / "tiny"), device="cpu")
    assert regressor.predict(TEXTS[:3]).shape == (3,)
    loaded = load(runs / "topics", backbone=str(runs / "tiny"), device="cpu")
    assert isinstance(loaded, TextClassifier)
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS[:3]), probabilities)
    assert isinstance(load(runs / "pairs", backbone=str(runs / "tiny")), TextRegressor)
    answers = predict(runs / "topics", TEXTS[:3], backbone=str(runs / "tiny"), device="cpu")
    np.testing.assert_array_equal(answers.probabilities, probabilities)
    with pytest.raises(UsageError, match=r"trained on classes; got .*scores"):
        TextClassifier.load(runs / "scores", backbone=str(runs / "tiny"))
    with pytest.raises(UsageError, match="trained on scores"):
        TextRegressor.load(runs / "topics", backbone=str(runs / "tiny"))


def trained_again(tmp_path, several=False, states=None, **settings):
    """The estimator of a run with these settings of train.py, and its labels.

    `states` are settings of the extraction.
    """
    make_backbone("bert", tmp_path / "tiny")
    labels = SEVERAL if several else LABELS
    rows = [{"text": text, "label": label} for text, label in zip(TEXTS, labels, strict=True)]
    file = write_lines(tmp_path / "rows.jsonl", rows)
    extract(
        backbone=str(tmp_path / "tiny"),
        task="custom",
        data=file,
        text_columns=["text"],
        label_column="label",
        layers=(1, 2),
        out=tmp_path / "store",
        **(states or {}),
    )
    train_run(store=tmp_path / "store", out=tmp_path / "run", **settings)
    estimator = TextClassifier.load(tmp_path / "run", backbone=str(tmp_path / "tiny"), device="cpu")
    return estimator, labels


def decided(config):
    """The settings that decide numbers, but those that a fit of an estimator has of its own."""
    values = to_json(config.part(NUMBERS))
    del values["layer"]
    del values["objective"]["select_on"]
    return values


@pytest.mark.parametrize("several", [False, True])
def test_a_loaded_run_is_fitted_again_with_its_own_settings(tmp_path, several):
    weights = (1.0, 2.0, 3.0) if several else (1.0, 2.0)
    estimator, labels = trained_again(
        tmp_path,
        several,
        hidden_dim=16,
        heads=2,
        residual=True,
        token_norm="rms",
        standardise=False,
        dropout=0.25,
        schedule="cosine",
        warmup_epochs=0.5,
        weight_decay=0.01,
        clip_norm=1.0,
        class_weights=weights,
        graph="knn",
        k=3,
        epochs=2,
        buckets=1,
        eval_batch_size=16,
        select_on="holdout",
        layer=1,
        seed=7,
    )
    before = estimator.head_.folder().config
    assert estimator.classes_.tolist() == (["cat", "mat", "train"] if several else CLASSES)
    expected = estimator.predict_proba(TEXTS)
    assert expected.shape == (48, len(weights))
    estimator.fit(TEXTS, labels)
    after = estimator.head_.folder().config
    assert decided(after) == decided(before)
    assert after.objective.select_on == "holdout"
    assert estimator.head_.folder().model.layers == (1,)
    assert estimator.predict_proba(TEXTS).shape == expected.shape
    # The parameters travel with a saved head.
    estimator.save_pretrained(tmp_path / "saved")
    again = TextClassifier.from_pretrained(tmp_path / "saved", device="cpu")
    assert again.train_settings() == to_json(estimator.train_settings())
    assert again.get_params()["settings"] == to_json(estimator.get_params()["settings"])


def test_a_fit_on_states_that_are_made_otherwise_says_so(tmp_path):
    states = {"storage_dtype": "float32"}
    estimator, labels = trained_again(
        tmp_path, states=states, epochs=1, buckets=1, hidden_dim=8, layer=1
    )
    with pytest.warns(
        UserWarning, match="made otherwise than before: storage_dtype: 'float32' -> 'auto'"
    ):
        estimator.fit(TEXTS, labels)
    # From now on they are its own.
    estimator.fit(TEXTS, labels)


def test_balanced_weights_are_balanced_again_and_mixed_layers_are_refused(tmp_path):
    estimator, labels = trained_again(
        tmp_path, class_weight="balanced", mix_layers=(1, 2), epochs=1, buckets=1, hidden_dim=8
    )
    assert estimator.class_weight == "balanced"
    settings = dict(estimator.settings or {})
    assert "class_weights" not in settings
    assert estimator.select_on == "holdout"
    # An estimator has one layer; it trains no other head in silence.
    with pytest.raises(UsageError, match="layer"):
        estimator.fit(TEXTS, labels)
    del settings["mix_layers"]
    estimator.set_params(settings=settings).fit(TEXTS, labels)
    assert estimator.predict_proba(TEXTS[:2]).shape == (2, 2)


# --------------------------------------------------------------------------------------------------
# Bad input


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        ("one text", [0], r"must be a list of strings.*one string"),
        (["a", 3], [0, 1], r"a text must be a string; got 3 in row 1"),
        (["a", "\ud83d"], [0, 1], r"encodable as UTF-8; got half of a surrogate pair in row 1"),
        (["a", ("b", "c")], [0, 1], r"same number of texts.*2 in row 1, 1 in row 0"),
        (["a", "b"], [0], r"a label for every text.*2 texts and labels of the shape \(1,\)"),
        ([], [], "a label for every text, at least one"),
        (["a", "b"], [1, 1], r"two classes or more; got only one class: \[1\]"),
        (["a", "b"], None, "requires y to be passed, but the target y is None"),
    ],
)
def test_bad_rows_are_refused(tiny, texts, labels, message):
    with pytest.raises(UsageError, match=message):
        small(TextClassifier, tiny).fit(texts, labels)


def test_one_string_is_no_list_of_texts(classifier):
    for answer in (classifier.predict, classifier.predict_proba):
        with pytest.raises(UsageError, match="must be a list of strings.*got one string: 'a text'"):
            answer("a text")


def test_labels_of_two_types_are_refused(tiny):
    with pytest.raises(ValueError, match="type"):
        small(TextClassifier, tiny).fit(TEXTS[:4], np.array(["a", 1, "b", 2], object))
    with pytest.raises(ValueError, match="continuous"):
        small(TextClassifier, tiny).fit(TEXTS[:4], [0.5, 1.25, 3.1, 0.1])
    with pytest.raises(UsageError, match="scores must be numbers"):
        small(TextRegressor, tiny).fit(TEXTS[:4], list("abcd"))
    with pytest.raises(UsageError, match="scores that differ; got 2 in every row"):
        small(TextRegressor, tiny).fit(TEXTS[:4], [2] * 4)
    with pytest.raises(UsageError, match="scores must be finite"):
        small(TextRegressor, tiny).fit(TEXTS[:2], [1, np.nan])


@pytest.mark.parametrize("gap", [float("nan"), np.float32("nan"), None, "NA of pandas"])
def test_a_row_without_a_label_is_named(tiny, gap):
    pandas = pytest.importorskip("pandas")
    if isinstance(gap, str):
        gap = pandas.NA
    labels = ["a", "b", gap, "a"]
    for y in (labels, pandas.Series(labels), np.array(labels, object)):
        with pytest.raises(UsageError, match=r"every text must have a label; got .* in row 2"):
            small(TextClassifier, tiny).fit(TEXTS[:4], y)
    if gap is not pandas.NA and gap is not None:
        with pytest.raises(UsageError, match="must have a label; got nan in row 1"):
            small(TextClassifier, tiny).fit(TEXTS[:3], [1.0, gap, 2.0])
    # Whoever writes the word has a class of that name.
    words = small(TextClassifier, tiny, epochs=1, pooler="mean").fit(TEXTS[:4], ["nan", "b"] * 2)
    assert words.classes_.tolist() == ["b", "nan"]


def test_more_classes_than_training_rows_are_refused(tiny):
    classifier = small(TextClassifier, tiny, select_on="holdout")
    with pytest.raises(UsageError, match="got 10 classes and 9 rows beside the holdout"):
        classifier.fit(TEXTS[:10], list(range(10)))


def test_weights_name_classes_and_are_kept(tiny, tmp_path):
    weights = {3: 10.0, 7: 0.5}
    classifier = small(TextClassifier, tiny, epochs=1, class_weight=weights)
    labels = [3, 7] * 8
    classifier.fit(TEXTS[:16], labels)
    config = classifier.head_.config["config"]
    assert config["objective"]["class_weights"] == [10.0, 0.5]
    # As they were given, though the names of JSON objects are strings.
    classifier.save_pretrained(tmp_path / "saved")
    again = TextClassifier.from_pretrained(tmp_path / "saved")
    assert again.class_weight == weights
    with pytest.raises(UsageError, match=r"name classes of the labels; got '3'. They are \[3, 7\]"):
        small(TextClassifier, tiny, class_weight={"3": 2}).fit(TEXTS[:16], labels)


def test_a_setting_that_does_not_exist_is_refused_before_the_backbone_runs(tmp_path):
    with pytest.raises(UsageError, match=r"flags of train.py.*hiden_dim"):
        TextClassifier("no such folder", settings={"hiden_dim": 8}).fit(TEXTS, LABELS)
    config = train_config(tmp_path / "s", tmp_path / "r", {"token_norm": "rms", "seed": 3})
    assert config.pooler.token_norm == "rms"
    assert config.seed == 3


def test_rows_come_in_many_containers():
    pandas = pytest.importorskip("pandas")
    assert as_rows(pandas.Series(["a", "b"])) == [("a",), ("b",)]
    frame = pandas.DataFrame({"a": ["x", "y"], "b": ["z", "w"]})
    assert as_rows(frame) == [("x", "z"), ("y", "w")]
    assert as_rows(np.array([["a"], ["b"]])) == [("a",), ("b",)]
    assert as_rows(("a", "b")) == [("a",), ("b",)]


def test_importing_the_estimators_loads_no_torch():
    code = "import sys, glot_jax; glot_jax.TextClassifier; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
