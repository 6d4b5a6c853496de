"""A saved head answers as before, and a folder from a stranger runs nothing."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.exceptions import NotFittedError
from support.tiny_backbones import make_backbone
from support.trained_runs import sentences

from glot_jax.errors import UsageError
from glot_jax.inference.estimators import TextClassifier, TextRegressor

pytestmark = pytest.mark.xdist_group("pretrained")  # what they share is made once

TEXTS = sentences(24, 3)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return str(make_backbone("bert", tmp_path_factory.mktemp("pretrained") / "tiny"))


@pytest.fixture(scope="module")
def classifier(tiny):
    labels = np.arange(24) % 3 - 1
    estimator = TextClassifier(
        tiny, hidden_dim=8, epochs=1, device="cpu", cache=False, settings={"buckets": 1}
    )
    return estimator.fit(TEXTS, labels)


@pytest.fixture
def saved(classifier, tmp_path):
    classifier.save_pretrained(tmp_path / "head")
    return tmp_path / "head"


def test_a_saved_classifier_answers_the_same(classifier, saved):
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]
    again = TextClassifier.from_pretrained(saved, device="cpu")
    np.testing.assert_array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert again.classes_.tolist() == [-1, 0, 1]
    assert again.classes_.dtype == classifier.classes_.dtype
    assert again.get_params() == classifier.get_params()
    # Saved over itself, pickled, and of another backbone's place.
    again.save_pretrained(saved)
    moved = pickle.loads(pickle.dumps(again))
    np.testing.assert_array_equal(moved.predict(TEXTS), classifier.predict(TEXTS))


def without(values, path):
    """JSON values without the one at a path."""
    *groups, name = path
    copy = json.loads(json.dumps(values))
    inner = copy
    for group in groups:
        inner = inner[group]
    del inner[name]
    return copy


def names_of_settings(config, prefix=("config",)):
    """Paths of all settings of a run but those that must be given."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from names_of_settings(value, (*prefix, name))
        if name not in ("store", "out"):
            yield (*prefix, name)


def test_a_head_of_an_earlier_version_has_the_defaults_of_what_it_did_not_write(saved):
    file = saved / "config.json"
    config = json.loads(file.read_text())
    defaults = TextClassifier().get_params()
    for name in config["estimator"]["parameters"]:
        file.write_text(json.dumps(without(config, ("estimator", "parameters", name))))
        again = TextClassifier.from_pretrained(saved)
        if name != "backbone":
            assert again.get_params()[name] == defaults[name]
        assert again.fitted_head().folder().config.epochs == 1
    # Settings that came later are read as what there was before them.
    paths = list(names_of_settings(config["config"]))
    assert len(paths) > 50
    for path in paths:
        file.write_text(json.dumps(without(config, path)))
        head = TextClassifier.from_pretrained(saved).fitted_head()
        assert head.folder().model.task.classes == ("-1", "0", "1"), path


def test_another_backbone_is_refused(saved, tmp_path):
    other = make_backbone("bert", tmp_path / "other", seed=1)
    moved = TextClassifier.from_pretrained(saved, backbone=str(other), device="cpu")
    with pytest.raises(UsageError, match=r"backbone that the run was trained on.*sha256"):
        moved.predict(TEXTS)


def test_paths_of_this_machine_stay_here(saved):
    config = json.loads((saved / "config.json").read_text())
    assert config["config"]["store"] == config["config"]["out"] == "unused"


def test_a_folder_that_is_not_one_is_refused(saved, tmp_path, tiny):
    with pytest.raises(UsageError, match=r"without config.json, model.safetensors"):
        TextClassifier.from_pretrained(tmp_path)
    with pytest.raises(UsageError, match="Use TextClassifier.from_pretrained"):
        TextRegressor.from_pretrained(saved)
    with pytest.raises(NotFittedError):
        TextClassifier(tiny).save_pretrained(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    weights = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(weights[:-8])
    with pytest.raises(UsageError, match="must be a whole safetensors file"):
        TextClassifier.from_pretrained(saved)
    (saved / "model.safetensors").write_bytes(weights)
    arrays = load_file(saved / "model.safetensors")
    name = next(iter(arrays))
    save_file({**arrays, name: arrays[name][..., :1]}, saved / "model.safetensors")
    with pytest.raises(UsageError, match="must have the shapes that their settings ask for"):
        TextClassifier.from_pretrained(saved, device="cpu").predict(TEXTS)
    del arrays[name]
    save_file(arrays, saved / "model.safetensors")
    with pytest.raises(UsageError, match="on one side only"):
        TextClassifier.from_pretrained(saved, device="cpu").predict(TEXTS)
    config = json.loads((saved / "config.json").read_text())
    del config["estimator"]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="must be one that save_pretrained wrote"):
        TextClassifier.from_pretrained(saved)


def test_a_plugin_that_a_folder_names_is_not_imported(saved, tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "plugins": ["evil"]}))
    with pytest.raises(UsageError, match="evil"):
        TextClassifier.from_pretrained(saved)
    assert not (tmp_path / "ran").exists()
