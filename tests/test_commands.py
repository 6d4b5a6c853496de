"""`glot_jax.extract` and `glot_jax.train`: keywords as flags, and typed results."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from support.tiny_backbones import make_backbone
from support.trained_runs import sentences, write_lines

import glot_jax
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.flat import flat_names, from_flat
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.store import HiddenStore

pytestmark = pytest.mark.xdist_group("commands")  # what they share is made once

SMALL = {"epochs": 1, "buckets": 1, "hidden_dim": 8, "num_layers": 1, "quiet": True}


@pytest.fixture(scope="module")
def reviews(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    make_backbone("bert", folder / "tiny", dim=16, num_layers=1)
    texts = sentences(20, 1)
    rows = [{"body": text, "stars": "ab"[number % 2]} for number, text in enumerate(texts)]
    write_lines(folder / "reviews.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def extracted(reviews):
    return glot_jax.extract(
        backbone=reviews / "tiny",
        data=str(reviews / "reviews.jsonl"),
        text_columns=["body"],
        label_column="stars",
        out=reviews / "store",
        device="cpu",
    )


def test_a_store_is_described_and_stands_for_its_folder(extracted, reviews):
    store = HiddenStore(reviews / "store")
    assert os.fspath(extracted) == str(extracted.path) == str(reviews / "store")
    assert extracted.content == store.content
    assert extracted.rows == {"train": 20}
    assert extracted.tokens == sum(store["train"].text_lengths)
    # What was read of the store that extract returned before is read still.
    assert list(extracted) == ["train"]
    assert "train" in extracted
    np.testing.assert_array_equal(extracted["train"][3].hidden, store["train"][3].hidden)


def test_keywords_and_a_config_say_the_same(extracted, reviews):
    config = ExtractConfig(
        backbone=str(reviews / "tiny"),
        task="custom",
        data=reviews / "reviews.jsonl",
        text_columns=("body",),
        label_column="stars",
        out=reviews / "again",
        device="cpu",
    )
    assert glot_jax.extract(config).content == extracted.content
    with pytest.raises(UsageError, match="from both; got config and out"):
        glot_jax.extract(config, out="elsewhere")


def test_a_run_has_a_score_and_stands_for_its_folder(extracted, reviews):
    run = glot_jax.train(store=extracted, out=reviews / "run", pooler="glot", **SMALL)
    summary = json.loads((reviews / "run" / "summary.json").read_text())
    # As a mapping it is the summary, which is what train returned before.
    assert run == summary
    assert run["validation"]["best"][run.metric] == run.score
    assert os.fspath(run) == str(run.run) == str(reviews / "run")
    tiny = str(reviews / "tiny")
    answers = glot_jax.predict(run, ["the cat", "a dog"], backbone=tiny, device="cpu")
    assert answers.probabilities.shape == (2, 2)
    again = glot_jax.train(resume=run, quiet=True)
    assert again == summary
    # Settings of a run's file, changed by keywords.
    other = glot_jax.train(reviews / "run" / "config.json", out=reviews / "b", seed=3, quiet=True)
    assert other["seed"] == 3
    config = json.loads((reviews / "b" / "config.json").read_text())["config"]
    assert config["pooler"]["hidden_dim"] == 8


def test_a_run_is_extended_and_followed(extracted, reviews):
    small = {name: value for name, value in SMALL.items() if name != "epochs"}
    run = glot_jax.train(store=extracted, out=reviews / "short", epochs=1, **small)
    longer = glot_jax.train(resume=run, epochs=2, quiet=True, track=["tensorboard"])
    whole = glot_jax.train(store=extracted, out=reviews / "long", epochs=2, **small)
    assert longer["validation"] == whole["validation"]
    assert list((reviews / "short" / "tracking" / "tensorboard").glob("events*"))
    frame = glot_jax.read_runs([run, whole])
    assert list(frame["epochs"]) == [2, 2]
    assert list(frame["best.validation.loss"]) == [longer["validation"]["best"]["loss"]] * 2


def test_seeds_have_a_run_each(extracted, reviews):
    runs = glot_jax.train(store=extracted, out=reviews / "seeds", seeds=[1, 2], **SMALL)
    assert [os.path.basename(run) for run in runs.seeds] == ["seed-1", "seed-2"]
    assert runs.score == pytest.approx(np.mean([run.score for run in runs.seeds]))
    assert runs.score == pytest.approx(runs["mean"]["validation"]["best"][runs.metric])


def test_what_is_no_flag_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"flags of train.py.*hiden_dim. Did you mean hidden_dim"):
        glot_jax.train(store=tmp_path, out=tmp_path / "run", hiden_dim=8)
    with pytest.raises(UsageError, match="out must be given"):
        glot_jax.extract(backbone="minilm", task="cola")
    with pytest.raises(UsageError, match="epochs must be of type int; got 'three'"):
        glot_jax.train(store=tmp_path, out=tmp_path / "run", epochs="three")
    with pytest.raises(UsageError, match="come from one place"):
        glot_jax.train(preset="tuned", resume=tmp_path)
    with pytest.raises(UsageError, match="one run at a time"):
        glot_jax.train(store=tmp_path, out=tmp_path / "run", resume=True, seeds=[1])
    with pytest.raises(UsageError, match=r"unknown preset .*tuned"):
        glot_jax.train(store=tmp_path, out=tmp_path / "run", preset="none such")


def test_flat_names_reach_every_group_and_keep_the_base(tmp_path):
    base = TrainConfig(store=tmp_path, out=tmp_path / "run", epochs=7)
    changed = from_flat(TrainConfig, {"tau": np.float32(0.5), "lr": 1, "seed": 3}, "train.py", base)
    expected = replace(
        base,
        seed=3,
        graph=replace(base.graph, tau=0.5),
        optimizer=replace(base.optimizer, lr=1),
    )
    assert changed == expected
    names = flat_names(TrainConfig)
    # No two groups share a name, or a keyword would be ambiguous.
    assert len(names) == len(set(names))
    assert "own" not in names
