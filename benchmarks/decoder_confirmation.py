r"""Do the graphs that the search chose hold on rows that it never saw? docs/decoder-search.md.

    # DIR/{cola,stsb,mrpc,rte,imdb}/{train,validation or test}.jsonl
    python benchmarks/decoder_confirmation.py --data DIR --work build/decoder

Reads benchmarks/results/decoder_search.json: for each task one candidate, the best of its wrong
graphs, and the rate of each. Ten new seeds of both, trained on the rows of the search, are judged
once on the reported split of their task (confirmation), and then on three other tasks at the same
settings (replication). The difference of the means with its 95 % interval and p is of a bootstrap
that draws rows and seeds together; Holm over the two tasks of the confirmation. Welch's p over
seeds stands beside it and decides nothing. Writes benchmarks/results/decoder_confirmation.json;
finished stores and runs are taken up again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import decoder_search
import jax
import numpy as np
from benchmark import Benchmark, Mismatch, part_of, run
from decoder_search import CANDIDATES, WRONG, DecoderSearch, differences

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import require_folder
from glot_jax.config.train import GraphConfig, ObjectiveConfig, OptimizerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.objectives.metrics import METRICS
from glot_jax.reporting.statistics import holm_adjusted, p_text, welch
from glot_jax.run_folders.predictions import Predictions, read_predictions
from glot_jax.training import train_seeds

CONFIRMED = {"cola": ("validation", "mcc"), "stsb": ("test", "spearman")}
REPLICATED = {
    "mrpc": ("test", "f1"),
    "rte": ("validation", "accuracy"),
    "imdb": ("test", "accuracy"),
}
"""Task -> the split that is reported, and its metric."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfirmation(Benchmark):
    """The chosen graphs against the best of their wrong ones, on rows that chose nothing."""

    data: Path
    """Folder with one folder per task."""
    work: Path = Path("build/decoder")
    backbone: str = "smollm2"
    source: Path | None = None
    """Results of the search. Default: decoder_search.json in --results."""
    seeds: tuple[int, ...] = tuple(range(1, 11))
    train_rows: int = 4000
    epochs: int = 3
    resamples: int = 10_000
    part: str = "0/1"
    """I/N: train the runs of every N-th comparison from number I on, and judge nothing."""

    def smaller(self) -> DecoderConfirmation:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self, backbone="minilm", seeds=(1, 2), train_rows=40, epochs=1, resamples=50
        )


@dataclasses.dataclass(frozen=True)
class Side:
    """One graph at its rate."""

    graph: dict[str, Any]
    rate: float
    name: str


@dataclasses.dataclass(frozen=True)
class Chosen:
    """A candidate of the search, and the best of its wrong graphs."""

    task: str
    """Whose search it won."""
    layer: int
    own: Side
    wrong: Side


def chosen_graphs(bench: DecoderConfirmation) -> list[Chosen]:
    """The candidate of each task with the highest difference."""
    source = bench.source or bench.results / "decoder_search.json"
    rows = json.loads(source.read_text())["groups"]
    search = DecoderSearch(data=bench.data)
    layers = sorted({int(name.split()[2]) for name in rows})
    names = {name.split()[3] for name in rows} - set(WRONG)
    search = dataclasses.replace(
        search,
        layers=tuple(layers),
        candidates=tuple(name for name in CANDIDATES if name in names),
    )
    table = differences(search, rows)
    chosen = []
    for task in CONFIRMED:
        best = next((row for row in table if row["task"] == task), None)
        if best is None:
            raise Mismatch(f"{source} must hold a whole comparison of {task}.")
        layer = best["layer"]
        name = best["candidate"]
        own = Side(dict(CANDIDATES[name]), rows[f"{task} layer {layer} {name}"]["rate"], name)
        wrong_name = best["best_wrong"]
        _, _, other = wrong_name.partition(f"layer {layer} ")
        graph = (
            dict(WRONG[other])
            if other in WRONG
            else {**CANDIDATES[name], "control": other.split()[-1]}
        )
        wrong = Side(graph, rows[wrong_name]["rate"], other)
        chosen.append(Chosen(task, layer, own, wrong))
    return chosen


def make_store(bench: DecoderConfirmation, task: str, split: str, layers: tuple[int, ...]) -> Path:
    """The training rows of the search, and the reported split."""
    rows = bench.work / "confirmed" / "data" / task
    rows.mkdir(parents=True, exist_ok=True)
    for name in ("train", split):
        shutil.copyfile(bench.data / task / f"{name}.jsonl", rows / f"{name}.jsonl")
    config = ExtractConfig(
        backbone=bench.backbone,
        compute_dtype="float32",
        task=task,
        data=rows,
        out=bench.work / "confirmed" / "stores" / task,
        layers=layers,
        max_train_rows=bench.train_rows,
    )
    dump(config)
    return require_folder(config.out)


def train_side(
    bench: DecoderConfirmation, chosen: Chosen, side: Side, task: str, layers: tuple[int, ...]
) -> list[Path]:
    """A run of each seed."""
    split, _ = (CONFIRMED | REPLICATED)[task]
    out = (
        bench.work / "confirmed" / "runs" / f"{task}-of-{chosen.task}-{side.name.replace(' ', '-')}"
    )
    folders = [out / f"seed-{seed}" for seed in bench.seeds]
    missing = []
    for seed, folder in zip(bench.seeds, folders, strict=True):
        if not (folder / "summary.json").is_file():
            # Of a run that was stopped nothing is kept: it takes seconds.
            shutil.rmtree(folder, ignore_errors=True)
            missing.append(seed)
    if missing:
        config = TrainConfig(
            store=make_store(bench, task, split, layers),
            out=out,
            layer=chosen.layer,
            epochs=bench.epochs,
            log_every=1 << 20,
            checkpoint_minutes=0,
            trust_store=True,
            graph=GraphConfig(**side.graph),
            # As in the search: the epoch is chosen on a holdout of the training rows.
            objective=ObjectiveConfig(select_on="holdout"),
            optimizer=OptimizerConfig(lr=side.rate),
        )
        train_seeds(config, missing, quiet=True)
        for seed in missing:
            shutil.rmtree(out / f"seed-{seed}" / "checkpoints", ignore_errors=True)
    return folders


def bootstrap(
    metric: str, own: list[Predictions], wrong: list[Predictions], resamples: int
) -> dict[str, Any]:
    """Difference of the means, its 95 % interval and two-sided p, rows and seeds drawn together.

    Args:
        metric: name of METRICS.
        own: of each seed.
        wrong: of the same seeds, on the same rows.
        resamples: how often rows and seeds are drawn.
    """
    score = METRICS[metric]
    labels = own[0].labels
    ours = np.array([predictions.predictions for predictions in own])
    theirs = np.array([predictions.predictions for predictions in wrong])
    rng = np.random.default_rng(0)
    drawn = np.empty(resamples)
    for number in range(resamples):
        rows = rng.integers(0, len(labels), len(labels))
        seeds = rng.integers(0, len(ours), len(ours))
        differences = [
            score(ours[seed, rows], labels[rows]) - score(theirs[seed, rows], labels[rows])
            for seed in seeds
        ]
        drawn[number] = np.mean(differences)
    # The resample that is the data itself counts: no p is zero.
    below = (1 + int((drawn <= 0).sum())) / (resamples + 1)
    above = (1 + int((drawn >= 0).sum())) / (resamples + 1)
    scores = [float(score(predictions, labels)) for predictions in ours]
    others = [float(score(predictions, labels)) for predictions in theirs]
    return {
        "own": scores,
        "wrong": others,
        "difference": float(np.mean(scores) - np.mean(others)),
        "interval": [float(value) for value in np.quantile(drawn, (0.025, 0.975))],
        "p": min(1.0, 2 * min(below, above)),
        "p_seeds": welch(scores, others),
    }


def main(bench: DecoderConfirmation) -> None:
    """Train whatever is missing, judge once, print and write."""
    number, parts = part_of(bench.part)
    jax.config.update("jax_compilation_cache_dir", str(bench.work / "compiled"))
    if bench.smoke and bench.source is None:
        search = DecoderSearch(data=bench.data, work=bench.work, results=bench.results)
        decoder_search.main(search.smaller())
    graphs = chosen_graphs(bench)
    layers = tuple(sorted({chosen.layer for chosen in graphs}))
    comparisons = [(chosen, chosen.task) for chosen in graphs]
    for task in REPLICATED:
        if (bench.data / task).is_dir():
            comparisons += [(chosen, task) for chosen in graphs]
        else:
            print(f"{task}: no folder {bench.data / task}, not replicated")
    rows = []
    for index, (chosen, task) in enumerate(comparisons):
        if index % parts != number:
            continue
        own = train_side(bench, chosen, chosen.own, task, layers)
        wrong = train_side(bench, chosen, chosen.wrong, task, layers)
        if parts > 1:
            print(f"{task} at the settings of {chosen.task}: trained", flush=True)
            continue
        split, metric = (CONFIRMED | REPLICATED)[task]
        judged = bootstrap(
            metric,
            [read_predictions(folder)[split] for folder in own],
            [read_predictions(folder)[split] for folder in wrong],
            bench.resamples,
        )
        rows.append(
            {
                "task": task,
                "kind": "confirmation" if task == chosen.task else "replication",
                "settings": dataclasses.asdict(chosen),
                "split": split,
                "metric": metric,
                **judged,
            }
        )
    if parts > 1:
        return
    confirmed = [row for row in rows if row["kind"] == "confirmation"]
    for row, value in zip(confirmed, holm_adjusted([row["p"] for row in confirmed]), strict=True):
        row["p_holm"] = value
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['kind']:13s} {row['task']:5s} {row['metric']} {np.mean(row['own']):.3f} against"
            f" {np.mean(row['wrong']):.3f}: {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
            f"{p_text(row.get('p_holm', row['p']), row['p_seeds'])}"
            f"   {row['settings']['own']['name']} against {row['settings']['wrong']['name']},"
            f" layer {row['settings']['layer']}"
        )
    settings = {
        "backbone": bench.backbone,
        "seeds": list(bench.seeds),
        "train_rows": bench.train_rows,
        "epochs": bench.epochs,
        "resamples": bench.resamples,
    }
    bench.write("decoder_confirmation", {"settings": settings, "rows": rows})


if __name__ == "__main__":
    run(DecoderConfirmation, main)
