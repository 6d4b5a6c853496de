"""Does taking out what an explanation names change the answer more than taking out other tokens?

    # DIR/{train,test}.jsonl
    python benchmarks/explanations.py --data DIR --task imdb --work build/explanations

Trains each head once. Of every text the five tokens of the largest effect are then taken out
together, the five of the highest readout weight, and five at random (the mean of several draws).
Prints by how much the probability of the predicted class falls, with a bootstrap interval over the
texts, and writes benchmarks/results/explanations.json.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import Benchmark, json_rows, run

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import require_folder
from glot_jax.config.train import ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.explaining.explainer import Explainer
from glot_jax.explaining.explanation import Explanation
from glot_jax.extraction import dump
from glot_jax.store import HiddenStore
from glot_jax.training import train

HEADS = {
    "mean": PoolerConfig(pooler="mean"),
    "adapool": PoolerConfig(pooler="adapool"),
    "mlp": PoolerConfig(pooler="mlp"),
    "glot-gat": PoolerConfig(pooler="glot"),
    "glot-gin": PoolerConfig(pooler="glot", gnn="gin"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explanations(Benchmark):
    """What the tokens are worth that an explanation names."""

    data: Path
    """Folder of the task's files."""
    task: str = "imdb"
    work: Path = Path("build/explanations")
    backbone: str = "minilm"
    max_length: int = 128
    epochs: int = 4
    heads: tuple[str, ...] = tuple(HEADS)
    rows: int = 200
    seed: int = 0
    """Draws the rows, and the random tokens."""
    tokens: int = 5
    """Tokens that are taken out."""
    draws: int = 10
    """Of random tokens."""

    def smaller(self) -> Explanations:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, heads=("mean",), epochs=1, rows=3, draws=2)


def drops(
    explainer: Explainer,
    text: str,
    explanation: Explanation,
    bench: Explanations,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Fall of the predicted class's probability for each way to choose the tokens."""
    (explained,) = explanation.texts
    candidates = np.flatnonzero(explained.takes_part)
    by_weight = candidates[np.argsort(-explained.weights[candidates], kind="stable")]
    count = min(bench.tokens, len(candidates))
    sets = [[], explained.strongest(count), by_weight[:count].tolist()]
    for _ in range(bench.draws):
        sets.append(rng.choice(candidates, count, replace=False).tolist())
    answers = explainer.answers_without(text, sets)
    target = explainer.predictor.classes.index(str(explanation.explained))
    shares = answers.probabilities[:, target]
    fall = shares[0] - shares[1:]
    return {
        "effect": float(fall[0]),
        "weight": float(fall[1]),
        "random": float(fall[2:].mean()),
    }


def interval(values: np.ndarray, rng: np.random.Generator) -> list[float]:
    """Mean and the 95 % interval of the bootstrap over texts."""
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return [float(values.mean()), float(low), float(high)]


def trained(bench: Explanations, head: str, store: Path) -> Path:
    """The run of a head, trained unless it is there."""
    out = bench.work / "runs" / head
    if not (out / "summary.json").is_file():
        train(
            TrainConfig(
                store=store,
                out=out,
                epochs=bench.epochs,
                pooler=HEADS[head],
                objective=ObjectiveConfig(select_on="last"),
            ),
            quiet=True,
        )
    return out


def test_texts(store: Path, data: Path, bench: Explanations) -> list[str]:
    """Some of the texts of the test file, drawn by the seed."""
    (column,) = HiddenStore(store).task["text_columns"]
    rows = json_rows(data / "test.jsonl")
    chosen = np.random.default_rng(bench.seed).permutation(len(rows))[: bench.rows]
    return [rows[row][column] for row in chosen]


def main(bench: Explanations) -> None:
    """Explain the texts, take the tokens out, and write what it changed."""
    config = ExtractConfig(
        backbone=bench.backbone,
        task=bench.task,
        data=bench.data,
        out=bench.work / "store",
        max_length=bench.max_length,
    )
    dump(config)
    store = require_folder(config.out)
    texts = test_texts(store, bench.data, bench)
    table: dict[str, Any] = {}
    for head in bench.heads:
        # Each head is judged with the same random tokens.
        rng = np.random.default_rng(bench.seed)
        explainer = Explainer.load(trained(bench, head, store))
        fallen: dict[str, list[float]] = {"effect": [], "weight": [], "random": []}
        started = time.perf_counter()
        for text, explanation in zip(texts, explainer.explanations(texts), strict=True):
            for name, fall in drops(explainer, text, explanation, bench, rng).items():
                fallen[name].append(fall)
        seconds = time.perf_counter() - started
        table[head] = {"seconds": seconds}
        for name, values in fallen.items():
            table[head][name] = interval(np.array(values), rng)
            mean, low, high = table[head][name]
            print(f"{head:8s} {name:8s} probability falls by {mean:.3f} ({low:.3f} to {high:.3f})")
    settings = {
        "backbone": bench.backbone,
        "task": bench.task,
        "max_length": bench.max_length,
        "epochs": bench.epochs,
        "rows": len(texts),
        "seed": bench.seed,
        "tokens": bench.tokens,
        "draws": bench.draws,
        "values": "mean over the texts, and the 95 % interval of a bootstrap over them",
    }
    bench.write("explanations", {"settings": settings, "falls": table})


if __name__ == "__main__":
    run(Explanations, main)
