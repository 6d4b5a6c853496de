r"""What states cost and lose as float16, int8 and int4.

    # DIR/{stsb,cola,mrpc}/{train,validation}.jsonl
    python benchmarks/storage_dtypes.py --data DIR --work build/dtypes [--backbones minilm smollm2]

Each task is extracted in each storage dtype (the last layer; --train-rows seeded training rows),
and GLOT and the mean are trained on it at the defaults of train.py, three seeds. A row of the
result has the bytes of the store, the mean and largest 1 - cos between a state and what is stored
of it, the scores on validation after the last epoch, and the seconds of an epoch from the device's
memory: of runs without evaluation in which the dtypes take turns, the median of --repeats.

Writes benchmarks/results/storage_dtypes.json, row by row: a study that is stopped goes on.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import statistics
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from benchmark import Benchmark, KeptRows, run

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.store import HiddenStore
from glot_jax.store.info import describe
from glot_jax.training import Workspace, train, train_seeds

Dtype = Literal["float16", "int8", "int4"]
DTYPES: tuple[Dtype, ...] = ("float16", "int8", "int4")
METRICS = {"stsb": "spearman", "cola": "accuracy", "mrpc": "accuracy"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class StorageDtypes(Benchmark):
    """Bytes, errors, scores and seconds of each storage dtype."""

    data: Path
    """Folder with one folder per task."""
    work: Path = Path("build/dtypes")
    backbones: tuple[str, ...] = ("minilm", "smollm2")
    tasks: tuple[str, ...] = ("stsb", "cola", "mrpc")
    poolers: tuple[str, ...] = ("mean", "glot")
    seeds: tuple[int, ...] = (1, 2, 3)
    train_rows: int = 2000
    epochs: int = 4
    repeats: int = 5

    def smaller(self) -> StorageDtypes:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self,
            backbones=("minilm",),
            tasks=("cola",),
            poolers=("mean",),
            seeds=(1, 2),
            train_rows=32,
            epochs=1,
            repeats=1,
        )


def make_store(bench: StorageDtypes, backbone: str, task: str, dtype: Dtype) -> HiddenStore:
    """The states of a task in a storage dtype, extracted or found."""
    config = ExtractConfig(
        backbone=backbone,
        compute_dtype="float32",
        task=task,
        data=bench.data / task,
        out=bench.work / "stores" / f"{backbone}-{task}-{dtype}",
        storage_dtype=dtype,
        max_train_rows=bench.train_rows,
    )
    return dump(config)


def settings_of_run(bench: StorageDtypes, store: HiddenStore, pooler: str) -> TrainConfig:
    """One run from the device's memory, without a folder yet."""
    return TrainConfig(
        store=store.path,
        out=bench.work / "runs",
        cache="device",
        epochs=bench.epochs,
        pooler=PoolerConfig(pooler=pooler),
        objective=ObjectiveConfig(select_on="last"),
        checkpoint_minutes=0,
        log_every=1 << 20,
        trust_store=True,
    )


def scores_of(
    bench: StorageDtypes, store: HiddenStore, pooler: str, metric: str, name: str
) -> list[float]:
    """Scores on validation after the last epoch, a seed each."""
    out = bench.work / "runs" / name
    shutil.rmtree(out, ignore_errors=True)
    config = dataclasses.replace(settings_of_run(bench, store, pooler), out=out)
    train_seeds(config, list(bench.seeds), quiet=True, workspace=Workspace())
    scores = []
    for seed in bench.seeds:
        lines = (out / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()
        values = [json.loads(line) for line in lines]
        judged = [line[metric] for line in values if line["split"] == "validation"]
        scores.append(judged[-1])
    return scores


def seconds_of_epochs(
    bench: StorageDtypes, stores: dict[Dtype, HiddenStore], pooler: str
) -> dict[Dtype, float]:
    """Median seconds of an epoch of the training loop for each dtype, which take turns."""
    measured: dict[Dtype, list[float]] = {dtype: [] for dtype in stores}
    workspaces = {dtype: Workspace() for dtype in stores}
    # The first turn compiles, and is not counted.
    for turn in range(bench.repeats + 1):
        for dtype, store in stores.items():
            out = bench.work / "runs" / "timed"
            shutil.rmtree(out, ignore_errors=True)
            config = dataclasses.replace(settings_of_run(bench, store, pooler), out=out)
            summary = train(config, quiet=True, workspace=workspaces[dtype])
            if turn:
                measured[dtype].append(summary["seconds"]["train"] / bench.epochs)
    medians: dict[Dtype, float] = {}
    for dtype, seconds in measured.items():
        medians[dtype] = statistics.median(seconds)
    return medians


def error_of(store: HiddenStore) -> dict[str, float] | None:
    """1 - cos between training states and what is stored of them; None of float16."""
    return describe(store.path)["splits"]["train"].get("cosine_error")


def bytes_of(store: HiddenStore) -> int:
    """Bytes of the arrays of all splits."""
    return sum(split["bytes"] for split in describe(store.path)["splits"].values())


def rows_of(bench: StorageDtypes, backbone: str, task: str) -> dict[str, dict[str, Any]]:
    """Name -> a row for each dtype and pooler."""
    stores: dict[Dtype, HiddenStore] = {}
    for dtype in DTYPES:
        stores[dtype] = make_store(bench, backbone, task, dtype)
    metric = METRICS[task]
    rows = {}
    for pooler in bench.poolers:
        seconds = seconds_of_epochs(bench, stores, pooler)
        for dtype, store in stores.items():
            name = f"{backbone} {task} {pooler} {dtype}"
            scores = scores_of(bench, store, pooler, metric, name.replace(" ", "-"))
            rows[name] = {
                "bytes": bytes_of(store),
                "of_float16": bytes_of(store) / bytes_of(stores["float16"]),
                "cosine_error": error_of(store),
                "metric": metric,
                "scores": scores,
                "mean": float(np.mean(scores)),
                "seconds_an_epoch": seconds[dtype],
                "seconds_of_float16": seconds[dtype] / seconds["float16"],
            }
    return rows


def main(bench: StorageDtypes) -> None:
    """Measure whatever is missing, keep it, and print the table."""
    settings = {
        "train_rows": bench.train_rows,
        "epochs": bench.epochs,
        "seeds": list(bench.seeds),
        "repeats": bench.repeats,
    }
    kept = KeptRows(bench, "storage_dtypes", settings, bench.work / "results.lock")
    for backbone in bench.backbones:
        for task in bench.tasks:
            names = [f"{backbone} {task} {p} {d}" for p in bench.poolers for d in DTYPES]
            if not kept.read().keys() >= set(names):
                for name, row in rows_of(bench, backbone, task).items():
                    kept.add(name, row)
            rows = kept.read()
            for name in names:
                row = rows[name]
                print(
                    f"{name:32s} {row['of_float16']:.2f} of float16   {row['metric']}"
                    f" {row['mean']:.4f}   epoch {row['seconds_of_float16']:.2f} times",
                    flush=True,
                )


if __name__ == "__main__":
    run(StorageDtypes, main)
