"""Embeddings trained on TREC QA and STS-B pairs: zero-shot mean, mean with a linear map, adapool,
glot; three seeds.

    python benchmarks/embeddings.py --data DIR --work build/embeddings

DIR holds trecqa/{train,validation,test}.jsonl (query, pos, neg), stsb/train.jsonl and
sts12/test.jsonl (sentence1, sentence2, score). Training rows: TREC QA's questions, and as pairs
without negatives the STS-B rows of score 4 or more, less those of which a sentence stands in STS12.
Every pooler's learning rate and epoch are chosen by ndcg@10 on TREC QA's validation questions, from
the same rates. Scored: TREC QA's test questions that have a positive and a negative, and STS12 by
MTEB without a network. Prints README's table and writes benchmarks/results/embeddings.json;
finished stores, runs and results are taken up again.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from machine import write_result

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import ObjectiveConfig, OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.mteb_eval import encode_through_store, run_mteb
from glot_jax.objectives.metrics import METRICS
from glot_jax.objectives.ranking import RANKING, query_scores
from glot_jax.reporting.statistics import (
    Difference,
    Interval,
    mean_deviation,
    paired_difference,
    score_interval,
)
from glot_jax.training import train
from glot_jax.training.evaluation import open_run
from glot_jax.training.predictions import read_predictions
from glot_jax.training.ranking import TextFeed

POOLERS: dict[str, tuple[PoolerConfig, str]] = {
    "mean + linear": (PoolerConfig(pooler="mean"), "linear"),
    "adapool": (PoolerConfig(pooler="adapool"), "none"),
    "glot": (PoolerConfig(pooler="glot", hidden_dim=128, num_layers=2, jk="cat"), "none"),
    "glot + linear": (
        PoolerConfig(pooler="glot", hidden_dim=128, num_layers=2, jk="cat"),
        "linear",
    ),
}
ZERO_SHOT = "mean, zero-shot"


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """What a trained head adds to embeddings."""

    data: Path
    work: Path = Path("build/embeddings")
    backbone: str = "minilm"
    seeds: tuple[int, ...] = (1, 2, 3)
    lrs: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    epochs: int = 5
    tau: float = 0.6


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prepare_rows(bench: Benchmark) -> str:
    """Write WORK/data; returns what became of STS-B's rows."""
    folder = bench.work / "data"
    folder.mkdir(parents=True, exist_ok=True)
    held_out = {
        row[name]
        for row in read_rows(bench.data / "sts12" / "test.jsonl")
        for name in ("sentence1", "sentence2")
    }
    pairs = [
        row
        for row in read_rows(bench.data / "stsb" / "train.jsonl")
        if float(row["label"] if "label" in row else row["score"]) >= 4
    ]
    kept = [
        row
        for row in pairs
        if row["sentence1"] not in held_out and row["sentence2"] not in held_out
    ]
    rows = read_rows(bench.data / "trecqa" / "train.jsonl") + [
        {"query": row["sentence1"], "pos": row["sentence2"]} for row in kept
    ]
    (folder / "train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    for split in ("validation", "test"):
        shutil.copyfile(bench.data / "trecqa" / f"{split}.jsonl", folder / f"{split}.jsonl")
    tasks = bench.work / "tasks" / "STS12"
    tasks.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bench.data / "sts12" / "test.jsonl", tasks / "test.jsonl")
    return (
        f"STS-B: {len(pairs):,} pairs of score 4 or more, {len(pairs) - len(kept):,} dropped"
        f" because a sentence of theirs stands in STS12, {len(kept):,} kept"
    )


def train_all(bench: Benchmark, name: str) -> tuple[float, list[Path]]:
    """The rate with the highest mean ndcg@10 on validation, and its runs by seed."""
    pooler, head = POOLERS[name]
    found = {}
    for lr in bench.lrs:
        runs, scores = [], []
        for seed in bench.seeds:
            out = bench.work / "runs" / f"{name.replace(' + ', '-')}-lr{lr:g}-seed{seed}"
            config = TrainConfig(
                store=bench.work / "store",
                out=out,
                epochs=bench.epochs,
                seed=seed,
                pooler=pooler,
                optimizer=OptimizerConfig(lr=lr),
                objective=ObjectiveConfig(embedding_head=head, select_on="validation"),
            )
            config = dataclasses.replace(
                config, graph=dataclasses.replace(config.graph, tau=bench.tau)
            )
            summary = (
                json.loads((out / "summary.json").read_text())
                if (out / "summary.json").is_file()
                else train(config, resume=out.is_dir(), quiet=True)
            )
            runs.append(out)
            scores.append(summary["validation"]["best"]["ndcg@10"])
        print(f"{name}, lr {lr:g}: validation ndcg@10 {np.mean(scores):.4f}")
        found[lr] = float(np.mean(scores)), runs
    best = max(found, key=lambda lr: found[lr][0])
    return best, found[best][1]


def zero_shot_ranking(run: Path) -> np.ndarray:
    """[queries, 3] of plain means of states, on the same questions as the runs' predictions."""
    prepared, _ = open_run(run, quiet=True)
    feed = prepared.feeds["test"]
    assert isinstance(feed, TextFeed)
    means = np.stack(
        [feed.reader.states(int(text)).astype(np.float64).mean(axis=0) for text in feed.texts[:, 0]]
    )
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return np.stack(
        [query_scores(scores, relevant) for scores, relevant, _ in feed.rankings(means)]
    )


def cosines(encode: Any, rows: Sequence[dict[str, Any]]) -> np.ndarray:
    first, second = (
        np.asarray(encode([row[name] for row in rows]), np.float64)
        for name in ("sentence1", "sentence2")
    )
    return (first * second).sum(1) / (
        np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    )


def main(bench: Benchmark) -> None:
    print(note := prepare_rows(bench))
    dump(
        ExtractConfig(
            backbone=bench.backbone,
            task="embedding",
            data=bench.work / "data",
            out=bench.work / "store",
            max_length=128,
        )
    )
    chosen = {name: train_all(bench, name) for name in POOLERS}
    ranked = {
        name: [read_predictions(run)["test"].predictions for run in runs]
        for name, (_, runs) in chosen.items()
    }
    first = chosen["mean + linear"][1][0]
    ranked = {ZERO_SHOT: [zero_shot_ranking(first)], **ranked}
    relevant = read_predictions(first)["test"].labels
    rows = read_rows(bench.data / "sts12" / "test.jsonl")
    gold = np.array([float(row["score"]) for row in rows])
    similar: dict[str, list[np.ndarray]] = {}
    mteb: dict[str, list[float | None]] = {}
    for name, (_, runs) in chosen.items():
        for run in runs:
            beside = ("minilm",) if bench.backbone == "minilm" and not mteb else ()
            states = bench.work / "states"  # the backbone runs once for all heads
            scores = run_mteb(
                run, ("STS12",), data=bench.work / "tasks", beside=beside, states=states
            )
            if beside:
                mteb[ZERO_SHOT] = [scores["minilm"]["STS12"]]
            mteb.setdefault(name, []).append(scores[run.name]["STS12"])
            encoder = SentenceEncoder.load(run)
            similar.setdefault(name, []).append(
                cosines(functools.partial(encode_through_store, encoder, folder=states), rows)
            )
    assert encoder.backbone is not None
    frozen = encoder.backbone

    def mean_states(texts: Sequence[str]) -> np.ndarray:
        vectors = []
        for text in range(0, len(texts), 32):
            ids = frozen.tokenize(texts[text : text + 32]).ids
            flat = frozen.states(ids).layers[frozen.num_layers]
            vectors += [
                of.mean(axis=0) for of in np.split(flat, np.cumsum([len(one) for one in ids])[:-1])
            ]
        return np.stack(vectors)

    similar = {ZERO_SHOT: [cosines(mean_states, rows)], **similar}
    columns = [
        *((f"trecqa {metric}", ranked, METRICS[metric], relevant) for metric in RANKING[:2]),
        ("sts12 spearman", similar, METRICS["spearman"], gold),
    ]
    table = []
    for name in ranked:
        line: dict[str, Any] = {
            "variant": name,
            "lr": chosen[name][0] if name in chosen else None,
            "mteb_sts12": mteb.get(name),
        }
        for column, found, metric, labels in columns:
            values = [metric(of, labels) for of in found[name]]
            mean, deviation = mean_deviation(values)
            of_rows = score_interval(metric, found[name], labels)
            against = (
                None
                if name == ZERO_SHOT
                else paired_difference(metric, found[name], found[ZERO_SHOT], labels)
            )
            line[column] = {
                "seeds": values,
                "mean": mean,
                "deviation": deviation,
                "interval": of_rows,
                "minus_zero_shot": None if against is None else against._asdict(),
            }
            print(
                f"| {name} | {column} | {cell(mean, deviation, of_rows)} | {difference(against)} |"
            )
        table.append(line)
    settings = {
        "rows": note,
        "test_questions": len(relevant),
        "sts12_rows": len(gold),
        **{
            k: str(v) if isinstance(v, Path) else v
            for k, v in dataclasses.asdict(bench).items()
            if k not in ("data", "work")
        },
    }
    print(f"wrote {write_result('embeddings', {'settings': settings, 'rows': table})}")


def cell(mean: float, deviation: float | None, interval: Interval | None) -> str:
    return (
        f"{mean:.3f}"
        + (f" ± {deviation:.3f}" if deviation is not None else "")
        + f" {interval or ''}"
    )


def difference(of: Difference | None) -> str:
    return "" if of is None or of.p is None else f"{of.value:+.3f} {of.interval}, p {of.p:.3f}"


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
