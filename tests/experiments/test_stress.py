"""`glot stress` end to end at toy size, with a tiny random backbone.

Files, records, controls, and taking up again.
"""

from __future__ import annotations

import itertools
import json

import pytest
from support.tiny_backbones import make_backbone
from support.typed import present

from glot_jax import HiddenStore
from glot_jax.backbone_files.backbone_source import find_source
from glot_jax.backbones.tokenizer import kept_texts, load_tokenizer
from glot_jax.config.experiments import StressConfig
from glot_jax.errors import UsageError
from glot_jax.experiments.stress import GRAPH_CONTROLS, run_stress, settings_of
from glot_jax.reporting.stress_records import StressSetting, read_comparisons, read_records
from glot_jax.texts.stress_controls import controls
from glot_jax.texts.stress_texts import generate


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return make_backbone("bert", tmp_path_factory.mktemp("stress") / "backbone")


def test_stress_writes_scores_beside_their_controls(backbone, tmp_path, capsys):
    config = StressConfig(
        backbone=str(backbone),
        out=tmp_path / "out",
        protocol=("controlled", "released"),
        ratios=(0.5,),
        poolers=("glot",),
        seeds=(1,),
        rows=(16, 10),
        lrs=(1e-2,),
        epochs=1,
        hidden_dim=8,
    )
    records = run_stress(config)
    assert records == read_records(tmp_path / "out")
    assert (tmp_path / "out" / "stress.png").read_bytes().startswith(b"\x89PNG")
    controls = {}
    poolers = set()
    for record in records:
        if record.training is None:
            controls[record.setting.protocol, record.name] = record.accuracy
        else:
            poolers.add((record.setting.protocol, record.name, record.seed))
            assert record.training.lr in config.lrs
            assert 0 <= record.accuracy <= 1
    assert controls["controlled", "length"] == controls["controlled", "bag-of-words"] == 0.5
    assert controls["released", "length"] == 1.0
    # This model's 64 positions hold only half of a text: that nothing can be learned from the rest
    # is what `order` is for.
    assert controls["controlled", "order"] == 0.0
    assert ("released", "order") not in controls
    assert {record.setting.ratio for record in records} == {0.5}
    variants = ("glot", *GRAPH_CONTROLS)
    assert poolers == set(itertools.product(config.protocol, variants, config.seeds))
    shown = capsys.readouterr().out
    assert "control: order" in shown
    assert "glot-random" in shown
    assert "5 pairs of twins: too few" in shown
    assert "10 rows: too few" in shown
    compared = read_comparisons(tmp_path / "out")
    assert {(row.setting.protocol, row.pooler) for row in compared} == set(
        itertools.product(config.protocol, variants)
    )
    # The head that is compared is the one whose score is reported.
    accuracies = {(row.setting, row.pooler): row.accuracy for row in compared}
    for record in records:
        if record.training is not None:
            assert record.accuracy == accuracies[record.setting, record.name]
    assert all(row.rows == 10 and row.interval is None for row in compared)
    # A second call finds every store and run finished.
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}
    assert run_stress(config) == records
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npy")}


def test_misspellings_are_found_before_the_work(tmp_path):
    with pytest.raises(UsageError, match="unknown pooler"):
        run_stress(StressConfig(out=tmp_path / "out", poolers=("mena",)))
    with pytest.raises(UsageError, match="unknown protocol"):
        run_stress(StressConfig(out=tmp_path / "out", protocol=("release",)))
    assert not (tmp_path / "out").exists()


def test_axes_make_a_test_each_and_only_controlled_has_a_distance():
    config = StressConfig(
        protocol=("released", "controlled"), ratios=(0.5,), distances=(0, 4), positions=(0.0, 1.0)
    )
    assert settings_of(config) == [
        StressSetting("released", 0.5, 0, 0.0),
        StressSetting("released", 0.5, 0, 1.0),
        *(
            StressSetting("controlled", 0.5, distance, position)
            for position in (0.0, 1.0)
            for distance in (0, 4)
        ),
    ]
    assert len({setting.name for setting in settings_of(config)}) == 6
    with pytest.raises(UsageError, match="--distances is read by --protocol controlled alone"):
        StressConfig(protocol=("released",), distances=(3,))


def test_distance_and_position_reach_the_texts(backbone, tmp_path):
    config = StressConfig(
        backbone=str(backbone),
        out=tmp_path / "out",
        protocol=("controlled",),
        ratios=(0.5,),
        distances=(7,),
        positions=(0.0,),
        poolers=("mean",),
        seeds=(1,),
        rows=(10, 40),
        lrs=(1e-3, 1e-1),
        epochs=1,
    )
    records = run_stress(config)
    for record in records:
        assert (record.setting.distance, record.setting.position) == (7, 0.0)
    store = HiddenStore(next((tmp_path / "out" / "stores").iterdir()))
    assert (store.recipe.distance, store.recipe.position) == (7, 0.0)
    # The rate that is reported is the one that the validation split chose.
    tried = {}
    for lr in config.lrs:
        run = tmp_path / "out" / "runs" / store.path.name / f"mean-lr{lr:g}-seed1"
        summary = json.loads((run / "summary.json").read_text())
        tried[lr] = summary["validation"]["best"]["accuracy"]
    trained = records[-1]
    training = present(trained.training)
    assert tried[training.lr] == max(tried.values()) == training.validation
    low, high = present(read_comparisons(tmp_path / "out")[0].interval)
    assert low <= trained.accuracy <= high


def test_treatments_of_sinks_share_a_store_and_are_told_apart(backbone, tmp_path, capsys):
    config = StressConfig(
        backbone=str(backbone),
        out=tmp_path / "out",
        protocol=("controlled",),
        ratios=(0.5,),
        layer=1,
        sinks=("keep", "auto"),
        poolers=("mean",),
        seeds=(1,),
        rows=(10, 10),
        lrs=(1e-3,),
        epochs=1,
    )
    records = run_stress(config)
    trained = [record.setting for record in records if record.training is not None]
    assert [(setting.layer, setting.sinks) for setting in trained] == [(1, "keep"), (1, "auto")]
    store = HiddenStore(next((tmp_path / "out" / "stores").iterdir()))
    assert store.recipe.layers == (1,)
    runs = tmp_path / "out" / "runs" / store.path.name
    for sinks in config.sinks:
        settings = json.loads((runs / f"mean-lr0.001-seed1-sinks-{sinks}/config.json").read_text())
        assert settings["config"]["sinks"] == sinks
    assert "layer 1, sinks left out" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UsageError, match="--sinks must be keep or auto"):
        StressConfig(sinks=("drop",))


@pytest.mark.parametrize("ratio", [0.5, 0.9])
def test_order_can_be_read_from_what_minilm_keeps(ratio):
    splits = generate("controlled", ratio=ratio, rows=(20, 2, 200), seed=1)
    kept = kept_texts(
        load_tokenizer(find_source("minilm", None)), [row.text for row in splits["test"]], 128
    )
    assert controls("controlled", splits, 1, kept) == {
        "length": 0.5,
        "bag-of-words": 0.5,
        "order": 1.0,
    }


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_what_is_kept_is_what_the_model_sees(model_type, tmp_path):
    tokenizer = load_tokenizer(
        find_source(str(make_backbone(model_type, tmp_path / model_type)), None)
    )
    texts = ["the cat sat on the mat " * 9, "a dog", ""]
    kept = kept_texts(tokenizer, texts, 12)
    assert kept[1:] == ["a dog", ""]
    assert texts[0].startswith(kept[0])
    assert len(kept[0]) < len(texts[0])
    assert (
        tokenizer(kept[0])["input_ids"]
        == tokenizer(texts[0], truncation=True, max_length=12)["input_ids"]
    )
