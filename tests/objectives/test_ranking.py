"""Task embedding: pairs and batches, and what is ranked for whom.

And whole runs from texts to summary.json.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from support.dispatches import dying_at
from support.ranking_stores import PAIRS, make_ranking_store, topic_groups
from support.runs import assert_same_run, config, resume
from support.tiny_backbones import make_backbone
from support.typed import present

from glot_jax import HiddenStore
from glot_jax.batches.ranking_feed import TextFeed
from glot_jax.cli import main
from glot_jax.config.train import ObjectiveConfig, OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.objectives.query_metrics import RANKING
from glot_jax.presets import PRESETS
from glot_jax.run_folders.predictions import read_predictions
from glot_jax.run_folders.run_log import Display
from glot_jax.training import train
from glot_jax.training.evaluation import evaluate_run, open_run
from glot_jax.training.forward import run_over
from glot_jax.training.prepare import prepare

LINEAR = ObjectiveConfig(embedding_head="linear")
MEAN = PoolerConfig(pooler="mean")
SMALL = PoolerConfig(hidden_dim=8, scorer_dim=8)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return make_ranking_store(
        tmp_path_factory.mktemp("ranking") / "store",
        {"train": topic_groups(30, 1), "validation": topic_groups(14, 2)},
    )


@pytest.fixture(scope="module")
def pairs_store(tmp_path_factory) -> Path:
    groups = {
        name: topic_groups(rows, seed, positives=1, negatives=0)
        for name, rows, seed in [("train", 40, 3), ("validation", 12, 4)]
    }
    return make_ranking_store(tmp_path_factory.mktemp("ranking") / "pairs", groups, PAIRS)


def made(store: Path, out: Path, **changes):
    return prepare(config(store, out, objective=LINEAR, **changes), Display(quiet=True))


# --------------------------------------------------------------------------------------------------
# Batches


# --------------------------------------------------------------------------------------------------
# Rankings


def test_scores_are_those_of_the_vectors(store, tmp_path):
    train(config(store, tmp_path / "run", epochs=1, objective=LINEAR), quiet=True)
    run, state = open_run(tmp_path / "run", quiet=True)
    feed = run.feeds["validation"]
    assert isinstance(feed, TextFeed)
    vectors = run_over(run, state, "validation", "vectors").by_row()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    # The mean pooler and one linear map, by hand.
    head = {
        name: np.asarray(value) for name, value in state["params"]["head"]["projection"].items()
    }
    for text in (0, 7, len(vectors) - 1):
        by_hand = (
            feed.reader.states(int(feed.texts[text, 0])).astype(np.float32).mean(axis=0)
            @ head["kernel"]
            + head["bias"]
        )
        np.testing.assert_allclose(
            vectors[text], by_hand / np.linalg.norm(by_hand), rtol=1e-3, atol=1e-4
        )


# --------------------------------------------------------------------------------------------------
# Runs


def test_summary_predictions_and_evaluation_agree(store, tmp_path):
    summary = train(config(store, tmp_path / "run", objective=LINEAR), quiet=True)
    assert summary == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["task"] == "embedding"
    assert set(summary["validation"]["best"]) == {*RANKING, "loss", "epoch"}
    assert set(summary["majority"]) == set(summary["length"]) == set(RANKING)
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    scores = [line["ndcg@10"] for line in lines if line["split"] == "validation"]
    assert summary["validation"]["best"]["ndcg@10"] == max(scores)
    saved = read_predictions(tmp_path / "run")["validation"]
    assert saved.predictions.shape == (14, 3)
    assert saved.rows.tolist() == list(range(14))
    assert saved.labels.tolist() == [3 if row % 5 == 0 else 2 for row in range(14)]
    best = [summary["validation"]["best"][name] for name in RANKING]
    np.testing.assert_allclose(saved.predictions.mean(axis=0), best, rtol=1e-12)
    again = evaluate_run(tmp_path / "run", quiet=True)["validation"]
    assert [again[name] for name in RANKING] == pytest.approx(best)


@pytest.mark.parametrize(
    ("pooler", "objective"),
    [
        (MEAN, LINEAR),
        (SMALL, dataclasses.replace(LINEAR, embedding_vectors="raw", hard_negatives=0)),
    ],
)
def test_a_head_learns_to_rank_what_it_has_not_seen(store, tmp_path, pooler, objective):
    settings = {
        "epochs": 12,
        "pooler": pooler,
        "objective": objective,
        "optimizer": OptimizerConfig(lr=1e-2),
    }
    summary = train(config(store, tmp_path / "run", **settings), quiet=True)
    reached = summary["validation"]["best"]["map"]
    assert summary["majority"]["map"] < 0.65
    assert reached > summary["majority"]["map"] + 0.15


def test_pairs_learn_too(pairs_store, tmp_path):
    summary = train(
        config(
            pairs_store,
            tmp_path / "run",
            epochs=12,
            objective=LINEAR,
            optimizer=OptimizerConfig(lr=1e-2),
        ),
        quiet=True,
    )
    assert summary["validation"]["best"]["mrr"] > summary["majority"]["mrr"] + 0.1
    assert read_predictions(tmp_path / "run")["validation"].labels.tolist() == [
        2 if row % 5 == 0 else 1 for row in range(12)
    ]


@pytest.mark.parametrize("stop_at", [1, 9, 13])
def test_resuming_equals_never_having_stopped(store, tmp_path, monkeypatch, stop_at):
    settings = {"objective": LINEAR, "epochs": 2, "pooler": SMALL}
    train(config(store, tmp_path / "whole", **settings), quiet=True)
    dying_at(monkeypatch, stop_at)
    with pytest.raises(KeyboardInterrupt):
        train(config(store, tmp_path / "stopped", **settings), quiet=True)
    monkeypatch.undo()
    resume(tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")
    one, other = (read_predictions(tmp_path / name)["validation"] for name in ("whole", "stopped"))
    np.testing.assert_array_equal(one.predictions, other.predictions)


@pytest.mark.parametrize("cache", ["host", "none"])
def test_a_run_is_the_same_wherever_its_states_wait(store, tmp_path, cache):
    for place in ("device", cache):
        train(config(store, tmp_path / place, objective=LINEAR, epochs=1, cache=place), quiet=True)
    assert (tmp_path / "device" / "metrics.jsonl").read_bytes() == (
        tmp_path / cache / "metrics.jsonl"
    ).read_bytes()


def test_nothing_to_train_is_refused(store, tmp_path):
    with pytest.raises(
        UsageError,
        match=(
            "something to train; got --pooler mean --embedding-head none.*--embedding-head linear"
        ),
    ):
        train(config(store, tmp_path / "run"), quiet=True)
    with pytest.raises(UsageError, match="judged by: ndcg@10, map, mrr; got --metric accuracy"):
        train(
            config(
                store, tmp_path / "run", objective=dataclasses.replace(LINEAR, metric="accuracy")
            ),
            quiet=True,
        )
    assert not (tmp_path / "run").exists()


def test_the_sparse_backend_and_its_budget(store, tmp_path):
    # At a small rate: rounding, which differs between backends, is not blown up by Adam's first
    # steps.
    settings = {
        "pooler": SMALL,
        "epochs": 1,
        "objective": ObjectiveConfig(),
        "optimizer": OptimizerConfig(lr=1e-4),
    }
    base = config(store, tmp_path / "dense", **settings)
    dense = train(base, quiet=True)
    sparse = train(
        dataclasses.replace(
            base, out=tmp_path / "sparse", graph=dataclasses.replace(base.graph, backend="sparse")
        ),
        quiet=True,
    )
    assert sparse["validation"]["best"]["loss"] == pytest.approx(
        dense["validation"]["best"]["loss"], rel=1e-3
    )
    little = dataclasses.replace(
        base,
        out=tmp_path / "little",
        graph=dataclasses.replace(base.graph, backend="sparse", edge_budget=16),
    )
    with pytest.raises(UsageError, match="at most 16 edges"):
        train(little, quiet=True)


def test_the_preset_of_ms_marco(store, tmp_path):
    made = PRESETS["msmarco"](TrainConfig(store=store, out=tmp_path / "run"), False)
    assert (made.pooler.num_layers, made.graph.tau, made.optimizer.lr, made.batch_size) == (
        4,
        0.3,
        2e-5,
        32,
    )
    assert made.pooler.projection_dim is None
    assert made.objective.loss_temperature == 0.07
    summary = train(
        dataclasses.replace(
            made, epochs=1, pooler=dataclasses.replace(made.pooler, hidden_dim=8, scorer_dim=8)
        ),
        quiet=True,
    )
    assert summary["selected_on"] == "holdout"
    assert set(summary["holdout"]["best"]) == {*RANKING, "loss", "epoch"}
    assert PRESETS["release"](made, False).objective.embedding_vectors == "raw"


def exit_code(*arguments: object) -> int:
    with pytest.raises(SystemExit) as raised:
        main([str(argument) for argument in arguments])
    return raised.value.code  # type: ignore[return-value]


@pytest.mark.parametrize("deduplicate", [False, True])
def test_from_texts_to_a_summary(tmp_path, capsys, deduplicate):
    data, animals, places = (
        tmp_path / "data",
        ("cat", "dog", "bird"),
        ("mat", "park", "station"),
    )  # words of the tiny vocabulary
    data.mkdir()
    rng = np.random.default_rng(0)
    for split, count in [("train", 20), ("validation", 6)]:
        lines = []
        for row in range(count):
            mine, others = (animals, places) if row % 2 else (places, animals)
            sentence = lambda words: f"the {rng.choice(words)} in the {rng.choice(words)}"  # noqa: E731
            lines.append(
                {
                    "query": sentence(mine),
                    "pos": [sentence(mine) for _ in range(1 + row % 2)],
                    "neg": [sentence(others) for _ in range(1 + row % 3)],
                }
            )
        (data / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    store, out = tmp_path / "store", tmp_path / "run"
    extract = [
        "extract",
        "--backbone",
        make_backbone("bert", tmp_path / "backbone"),
        "--task",
        "embedding",
        "--data",
        data,
        "--out",
        store,
        "--shard-tokens",
        60,
    ]
    extract += ["--deduplicate"] if deduplicate else []
    assert exit_code(*extract) == 0
    assert exit_code(*extract) == 0  # complete already
    assert "nothing to do" in capsys.readouterr().err
    reader = HiddenStore(store)["train"]
    assert present(reader.labels).tolist() == [1 + row % 2 for row in range(20)]
    assert [len(reader[row].texts) for row in range(20)] == [
        1 + (1 + row % 2) + (1 + row % 3) for row in range(20)
    ]
    options = [
        # Random states lean to one side; divided by little they magnify what float16 rounds.
        "--no-standardise",
        "--epochs",
        2,
        "--batch-size",
        8,
        "--hidden-dim",
        8,
        "--scorer-dim",
        8,
        "--loss-temperature",
        0.1,
    ]
    options += ["--embedding-head", "linear", "--embedding-vectors", "raw"] if deduplicate else []
    assert exit_code("train", "--store", store, "--out", out, "--json", *options) == 0
    summary = json.loads(capsys.readouterr().out)
    assert 0 < summary["validation"]["best"]["ndcg@10"] <= 1
    # What is encoded is what was compared.
    run, state = open_run(out, quiet=True)
    feed = run.feeds["validation"]
    assert isinstance(feed, TextFeed)
    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    slots = [text for row in rows for text in (row["query"], *row["pos"], *row["neg"])]
    text_of = dict(zip(feed.reader.row_texts.tolist(), slots, strict=True))
    encoded = SentenceEncoder.load(out, backbone=str(extract[2])).encode(
        [text_of[text] for text in feed.texts[:, 0].tolist()]
    )
    np.testing.assert_allclose(
        encoded,
        run_over(run, state, "validation", "vectors").by_row(),
        atol=1e-3 * np.abs(encoded).max(),
    )
    more = tmp_path / "more"
    more.mkdir()
    (more / "train.jsonl").write_text(json.dumps({"query": "the cat", "pos": "the dog"}) + "\n")
    append = [more if argument is data else argument for argument in extract]
    assert exit_code(*append, "--append") == 0
    assert len(HiddenStore(store)["train"]) == 21
    assert exit_code(*append, "--append") == 0  # held already
    assert len(HiddenStore(store)["train"]) == 21
