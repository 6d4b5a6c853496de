"""`glot stress` end to end at toy size, with a tiny random backbone: files, records, controls,
taking up again.
"""

from __future__ import annotations

import json

import pytest
from support.tiny_backbones import make_backbone

from glot_jax import HiddenStore
from glot_jax.config.experiments import StressConfig
from glot_jax.errors import UsageError
from glot_jax.experiments.stress import GRAPH_CONTROLS, Setting, run_stress, settings_of
from glot_jax.extraction.backbone_source import find_source
from glot_jax.extraction.tokenizer import kept_texts, load_tokenizer
from glot_jax.texts.stress_texts import controls, generate


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
    assert records == json.loads((tmp_path / "out" / "stress.json").read_text())
    assert (tmp_path / "out" / "stress.png").read_bytes().startswith(b"\x89PNG")
    scores = {(r["protocol"], r["control"]): r["accuracy"] for r in records if "control" in r}
    assert scores["controlled", "length"] == scores["controlled", "bag-of-words"] == 0.5
    assert scores["released", "length"] == 1.0
    # This model's 64 positions hold only half of a text: that nothing can be learned from the rest
    # is what `order` is for.
    assert scores["controlled", "order"] == 0.0
    assert ("released", "order") not in scores
    poolers = {(r["protocol"], r["pooler"], r["seed"]) for r in records if "pooler" in r}
    assert poolers == {
        (p, v, s) for p in config.protocol for v in ("glot", *GRAPH_CONTROLS) for s in config.seeds
    }
    assert all(
        r["lr"] in config.lrs and 0 <= r["accuracy"] <= 1 and r["ratio"] == 0.5
        for r in records
        if "pooler" in r
    )
    shown = capsys.readouterr().out
    assert "control: order" in shown
    assert "glot-random" in shown
    assert "5 pairs of twins: too few" in shown
    assert "10 rows: too few" in shown
    compared = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert {(row["protocol"], row["pooler"]) for row in compared} == {
        (p, v) for p in config.protocol for v in ("glot", *GRAPH_CONTROLS)
    }
    # The head that is compared is the one whose score is reported.
    assert all(
        row["accuracy"] == r["accuracy"]
        for row in compared
        for r in records
        if (r["protocol"], r.get("pooler")) == (row["protocol"], row["pooler"])
    )
    assert all(row["rows"] == 10 and row["interval"] is None for row in compared)
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
        Setting("released", 0.5, 0, 0.0),
        Setting("released", 0.5, 0, 1.0),
        *(
            Setting("controlled", 0.5, distance, position)
            for position in (0.0, 1.0)
            for distance in (0, 4)
        ),
    ]
    assert len({setting.name for setting in settings_of(config)}) == 6
    with pytest.raises(UsageError, match="--distances are those of the protocol controlled"):
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
    assert all((record["distance"], record["position"]) == (7, 0.0) for record in records)
    store = HiddenStore(next((tmp_path / "out" / "stores").iterdir()))
    assert (store.recipe["distance"], store.recipe["position"]) == (7, 0.0)
    # The rate that is reported is the one that the validation split chose.
    tried = {
        lr: json.loads(
            (
                tmp_path
                / "out"
                / "runs"
                / store.path.name
                / f"mean-lr{lr:g}-seed1"
                / "summary.json"
            ).read_text()
        )
        for lr in config.lrs
    }
    best = max(of["validation"]["best"]["accuracy"] for of in tried.values())
    assert (
        tried[records[-1]["lr"]]["validation"]["best"]["accuracy"]
        == best
        == records[-1]["validation"]
    )
    interval = json.loads((tmp_path / "out" / "comparison.json").read_text())[0]["interval"]
    assert interval[0] <= records[-1]["accuracy"] <= interval[1]


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
