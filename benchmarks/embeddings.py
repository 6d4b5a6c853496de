r"""Embeddings trained on TREC QA and STS-B pairs, with three seeds.

Zero-shot mean, mean with a linear map, adapool, glot.

    python benchmarks/embeddings.py --data DIR --work build/embeddings

DIR holds trecqa/{train,validation,test}.jsonl (query, pos, neg), stsb/train.jsonl and
sts12/test.jsonl (sentence1, sentence2, score). Training rows: TREC QA's questions, and as pairs
without negatives the STS-B rows of score 4 or more, less those of which a sentence stands in STS12.
Every pooler's learning rate and epoch are chosen by ndcg@10 on TREC QA's validation questions, from
the same rates. Scored: TREC QA's test questions that have a positive and a negative, and STS12 by
MTEB without a network. Prints the table of docs/results and writes
benchmarks/results/embeddings.json; finished stores, runs and results are taken up again.

Of a decoder, on a layer with attention sinks and on the last, and beside the plain mean of states
that without sinks, and that of standardised states without sinks:

    python benchmarks/embeddings.py --data DIR --work build/embeddings-smollm2 --backbone smollm2 \
        --stored 20 30 --layer 20 --untrained --name embeddings-smollm2-20
"""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from benchmark import Benchmark, Mismatch, json_rows, run
from flax import nnx

from glot_jax.batches.ranking_feed import TextFeed
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.extraction import Backbone, dump
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.mteb_eval import MtebOptions, run_mteb
from glot_jax.inference.stored_states import encode_through_store
from glot_jax.objectives.metrics import METRICS
from glot_jax.objectives.ranking import RANKING, query_scores
from glot_jax.reporting.statistics import (
    Difference,
    Interval,
    mean_deviation,
    paired_difference,
    score_interval,
)
from glot_jax.run_folders.predictions import read_predictions
from glot_jax.training import train
from glot_jax.training.evaluate import evaluate_split
from glot_jax.training.evaluation import open_run

GLOT = PoolerConfig(pooler="glot", hidden_dim=128, num_layers=2, jk="cat")
POOLERS: dict[str, tuple[PoolerConfig, Literal["none", "linear"]]] = {
    "mean + linear": (PoolerConfig(pooler="mean"), "linear"),
    "adapool": (PoolerConfig(pooler="adapool"), "none"),
    "glot": (GLOT, "none"),
    "glot + linear": (GLOT, "linear"),
}
"""Name -> pooler and head."""
ZERO_SHOT = "mean, zero-shot"
UNTRAINED: dict[str, dict[str, Any]] = {
    ZERO_SHOT: {"sinks": "keep", "standardise": False},
    "mean, sinks left out": {"sinks": "auto", "standardise": False},
    "mean, sinks left out, standardised": {"sinks": "auto", "standardise": True},
}
"""Means in which nothing is trained: what is done to the states."""
SENTENCES = ("sentence1", "sentence2")

Row = dict[str, Any]
Encode = Callable[[list[str]], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Embeddings(Benchmark):
    """What a trained head adds to embeddings."""

    data: Path
    work: Path = Path("build/embeddings")
    backbone: str = "minilm"
    seeds: tuple[int, ...] = (1, 2, 3)
    lrs: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    epochs: int = 5
    tau: float = 0.6
    layer: int | None = None
    """Whose states are pooled. Default: the last."""
    stored: tuple[int, ...] = ()
    """Layers of the store, so that several calls share it. Default: the one that is pooled."""
    untrained: bool = False
    """Means of states without sinks, and standardised, beside the plain one."""
    name: str = "embeddings"
    """Of the file of results."""

    def smaller(self) -> Embeddings:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, seeds=(1, 2), lrs=(1e-3,), epochs=1)


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of JSON lines."""
    return json_rows(path)


def similar_pairs(bench: Embeddings) -> tuple[list[Row], str]:
    """STS-B's rows of score 4 or more without a sentence of STS12, and what was dropped."""
    held_out = set()
    for row in read_rows(bench.data / "sts12" / "test.jsonl"):
        held_out.update(row[name] for name in SENTENCES)
    similar = 0
    kept = []
    for row in read_rows(bench.data / "stsb" / "train.jsonl"):
        score = row["label"] if "label" in row else row["score"]
        if float(score) < 4:
            continue
        similar += 1
        if not held_out.intersection(row[name] for name in SENTENCES):
            kept.append({"query": row["sentence1"], "pos": row["sentence2"]})
    note = (
        f"STS-B: {similar:,} pairs of score 4 or more, {similar - len(kept):,} dropped because a"
        f" sentence of theirs stands in STS12, {len(kept):,} kept"
    )
    return kept, note


def prepare_rows(bench: Embeddings) -> str:
    """Write WORK/data; returns what became of STS-B's rows."""
    folder = bench.work / "data"
    folder.mkdir(parents=True, exist_ok=True)
    pairs, note = similar_pairs(bench)
    rows = read_rows(bench.data / "trecqa" / "train.jsonl") + pairs
    with (folder / "train.jsonl").open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")
    for split in ("validation", "test"):
        shutil.copyfile(bench.data / "trecqa" / f"{split}.jsonl", folder / f"{split}.jsonl")
    tasks = bench.work / "tasks" / "STS12"
    tasks.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bench.data / "sts12" / "test.jsonl", tasks / "test.jsonl")
    return note


def train_once(bench: Embeddings, name: str, lr: float, seed: int) -> tuple[Path, float]:
    """A run and its best ndcg@10 on validation; a finished one is taken up again."""
    pooler, head = POOLERS[name]
    out = runs_folder(bench) / f"{name.replace(' + ', '-')}-lr{lr:g}-seed{seed}"
    config = TrainConfig(
        store=bench.work / "store",
        out=out,
        layer=bench.layer,
        epochs=bench.epochs,
        seed=seed,
        graph=GraphConfig(tau=bench.tau),
        pooler=pooler,
        optimizer=OptimizerConfig(lr=lr),
        objective=ObjectiveConfig(embedding_head=head, select_on="validation"),
    )
    if (out / "summary.json").is_file():
        summary = json.loads((out / "summary.json").read_text())
    else:
        summary = train(config, resume=out.is_dir(), quiet=True)
    return out, summary["validation"]["best"]["ndcg@10"]


def runs_folder(bench: Embeddings) -> Path:
    """Folder of the runs, one for each layer."""
    return bench.work / ("runs" if bench.layer is None else f"runs-layer{bench.layer}")


def untrained_run(bench: Embeddings, name: str) -> Path:
    """A run of the mean, of which everything but the map on top is taken: `without_map`."""
    settings = UNTRAINED[name]
    out = runs_folder(bench) / name.replace(", ", "-").replace(" ", "-")
    config = TrainConfig(
        store=bench.work / "store",
        out=out,
        layer=bench.layer,
        sinks=settings["sinks"],
        pooler=PoolerConfig(pooler="mean", standardise=settings["standardise"]),
        epochs=1,
        # A run without a parameter is refused: nothing of it could be trained.
        objective=ObjectiveConfig(embedding_head="linear", select_on="validation"),
    )
    if not (out / "summary.json").is_file():
        train(config, resume=out.is_dir(), quiet=True)
    return out


def without_map(values: Any) -> Any:  # noqa: ANN401 - a tree of arrays
    """Parameters whose map on top of the pooled vectors changes nothing."""

    def leaf(path: tuple[Any, ...], value: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        if "projection" not in name:
            return value
        return jnp.eye(len(value)) if value.ndim == 2 else jnp.zeros_like(value)

    return jax.tree_util.tree_map_with_path(leaf, values)


def untrained_ranking(run_folder: Path) -> np.ndarray:
    """[queries, 3] of a run of `untrained_run`, on the test questions."""
    prepared, state = open_run(run_folder, quiet=True)
    _, predictions = evaluate_split(
        prepared, {**state, "params": without_map(state["params"])}, "test"
    )
    return predictions.predictions


def untrained_encoder(run_folder: Path) -> SentenceEncoder:
    """The encoder of a run of `untrained_run`."""
    encoder = SentenceEncoder.load(run_folder)
    graphdef, values = nnx.split(encoder.model)
    model = nnx.merge(graphdef, without_map(values))
    # Its vectors are other ones, and are kept under another name.
    fingerprint = {**encoder.fingerprint, "weights": "none"}
    return SentenceEncoder(model, encoder.backbone, encoder.layers, fingerprint, encoder.recipe)


def train_all(bench: Embeddings, name: str) -> tuple[float, list[Path]]:
    """The rate with the highest mean ndcg@10 on validation, and its runs by seed."""
    runs: dict[float, list[Path]] = {}
    scores: dict[float, float] = {}
    for lr in bench.lrs:
        trained = [train_once(bench, name, lr, seed) for seed in bench.seeds]
        runs[lr] = [out for out, _ in trained]
        scores[lr] = float(np.mean([score for _, score in trained]))
        print(f"{name}, lr {lr:g}: validation ndcg@10 {scores[lr]:.4f}")
    best = max(scores, key=lambda lr: scores[lr])
    return best, runs[best]


def zero_shot_ranking(run_folder: Path) -> np.ndarray:
    """[queries, 3] of plain means of states, on the same questions as the runs' predictions."""
    prepared, _ = open_run(run_folder, quiet=True)
    feed = prepared.feeds["test"]
    if not isinstance(feed, TextFeed):
        raise Mismatch(f"the test split must be a ranking; got a {type(feed).__name__}.")
    means = []
    for text in feed.texts[:, 0]:
        means.append(feed.reader.states(int(text)).astype(np.float64).mean(axis=0))
    vectors = np.stack(means)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.stack([query_scores(scores, relevant) for scores, relevant in feed.rankings(vectors)])


def cosines(encode: Encode, rows: Sequence[Row]) -> np.ndarray:
    """[rows] cosine of both sentences' vectors."""
    first = np.asarray(encode([row["sentence1"] for row in rows]), np.float64)
    second = np.asarray(encode([row["sentence2"] for row in rows]), np.float64)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(1) / norms


def mean_states(backbone: Backbone, texts: Sequence[str]) -> np.ndarray:
    """[texts, dim] plain means of the last layer's states."""
    vectors = []
    for first in range(0, len(texts), 32):
        ids = backbone.tokenize(texts[first : first + 32]).ids
        states = backbone.states(ids).layers[backbone.num_layers]
        ends = np.cumsum([len(text) for text in ids])[:-1]
        vectors += [tokens.mean(axis=0) for tokens in np.split(states, ends)]
    return np.stack(vectors)


@dataclasses.dataclass
class Similarity:
    """STS12 by variant: cosines of every seed's vectors, and MTEB's own scores."""

    cosines: dict[str, list[np.ndarray]]
    mteb: dict[str, list[float | None]]


def score_sts12(bench: Embeddings, runs: dict[str, list[Path]], rows: list[Row]) -> Similarity:
    """Vectors of STS12's sentences by every run, and by the plain mean unless a run has it."""
    result = Similarity({} if ZERO_SHOT in runs else {ZERO_SHOT: []}, {})
    states = bench.work / "states"  # the backbone runs once for all heads
    backbone = None
    for name, folders in runs.items():
        result.cosines[name] = []
        if name in UNTRAINED:
            encode = functools.partial(
                encode_through_store, untrained_encoder(folders[0]), folder=states
            )
            result.cosines[name].append(cosines(encode, rows))
            continue
        for folder in folders:
            beside: tuple[str, ...] = ()
            if bench.backbone == "minilm" and not result.mteb:
                beside = ("minilm",)
            tasks = bench.work / "tasks"
            scores = run_mteb(
                folder, ("STS12",), MtebOptions(data=tasks, beside=beside, states=states)
            )
            if beside:
                result.mteb[ZERO_SHOT] = [scores["minilm"]["STS12"]]
            result.mteb.setdefault(name, []).append(scores[folder.name]["STS12"])
            encoder = SentenceEncoder.load(folder)
            backbone = encoder.backbone
            encode = functools.partial(encode_through_store, encoder, folder=states)
            result.cosines[name].append(cosines(encode, rows))
    if backbone is not None and ZERO_SHOT not in runs:
        encode = functools.partial(mean_states, backbone)
        result.cosines[ZERO_SHOT].append(cosines(encode, rows))
    return result


def compared(
    metric: Callable[..., float],
    by_variant: dict[str, list[np.ndarray]],
    name: str,
    labels: np.ndarray,
) -> dict[str, Any]:
    """A cell of the table: the seeds' scores, their interval, and the difference to zero-shot."""
    values = [metric(predictions, labels) for predictions in by_variant[name]]
    mean, deviation = mean_deviation(values)
    interval = score_interval(metric, by_variant[name], labels)
    difference = None
    if name != ZERO_SHOT:
        difference = paired_difference(metric, by_variant[name], by_variant[ZERO_SHOT], labels)
    print(f"{cell(mean, deviation, interval)} | {difference_text(difference)} |")
    return {
        "seeds": values,
        "mean": mean,
        "deviation": deviation,
        "interval": interval,
        "minus_zero_shot": None if difference is None else difference._asdict(),
    }


def main(bench: Embeddings) -> None:
    """Train every head with every rate and seed, score the best, and write `embeddings.json`."""
    note = prepare_rows(bench)
    print(note)
    config = ExtractConfig(
        backbone=bench.backbone,
        task="embedding",
        data=bench.work / "data",
        out=bench.work / "store",
        max_length=128,
    )
    stored = bench.stored or (() if bench.layer is None else (bench.layer,))
    if stored:
        config = dataclasses.replace(config, layers=stored)
    dump(config)
    rates: dict[str, float] = {}
    runs: dict[str, list[Path]] = {}
    if bench.untrained:
        runs = {name: [untrained_run(bench, name)] for name in UNTRAINED}
    for name in POOLERS:
        rates[name], runs[name] = train_all(bench, name)
    first = runs["mean + linear"][0]
    ranked = {} if bench.untrained else {ZERO_SHOT: [zero_shot_ranking(first)]}
    for name, folders in runs.items():
        if name in UNTRAINED:
            ranked[name] = [untrained_ranking(folders[0])]
            continue
        ranked[name] = [read_predictions(folder)["test"].predictions for folder in folders]
    relevant = read_predictions(first)["test"].labels
    rows = read_rows(bench.data / "sts12" / "test.jsonl")
    gold = np.array([float(row["score"]) for row in rows])
    similar = score_sts12(bench, runs, rows)
    table = []
    for name in ranked:
        line: dict[str, Any] = {
            "variant": name,
            "lr": rates.get(name),
            "mteb_sts12": similar.mteb.get(name),
        }
        for metric in RANKING[:2]:
            column = f"trecqa {metric}"
            print(f"| {name} | {column} | ", end="")
            line[column] = compared(METRICS[metric], ranked, name, relevant)
        print(f"| {name} | sts12 spearman | ", end="")
        line["sts12 spearman"] = compared(METRICS["spearman"], similar.cosines, name, gold)
        table.append(line)
    settings: dict[str, Any] = {
        "rows": note,
        "test_questions": len(relevant),
        "sts12_rows": len(gold),
        "backbone": bench.backbone,
        "seeds": bench.seeds,
        "lrs": bench.lrs,
        "epochs": bench.epochs,
        "tau": bench.tau,
        "layer": bench.layer,
    }
    bench.write(bench.name, {"settings": settings, "rows": table})


def cell(mean: float, deviation: float | None, interval: Interval | None) -> str:
    """`0.712 ± 0.003 [0.690, 0.734]`, as much of it as there is."""
    text = f"{mean:.3f}"
    if deviation is not None:
        text += f" ± {deviation:.3f}"
    return f"{text} {interval or ''}"


def difference_text(difference: Difference | None) -> str:
    """`+0.012 [0.003, 0.021], p 0.010`; nothing without a test."""
    if difference is None or difference.p is None:
        return ""
    return f"{difference.value:+.3f} {difference.interval}, p {difference.p:.3f}"


if __name__ == "__main__":
    run(Embeddings, main)
