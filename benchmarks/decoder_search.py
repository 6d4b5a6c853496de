r"""Is there a token graph that helps a decoder more than every wrong one? docs/decoder-search.md.

    # DIR/{cola,stsb}/train.jsonl
    python benchmarks/decoder_search.py --data DIR --work build/decoder [--part 0/2]
    python benchmarks/decoder_search.py --data DIR --work build/decoder --table

Every candidate and every wrong graph of it, at three rates with two seeds, on the training rows of
two tasks; scores are those of the holdout. Writes benchmarks/results/decoder_search.json after each
graph, so that it may be stopped and started; `--part I/N` does every N-th graph alone, and the
parts share the file. `--table` trains nothing and prints what there is.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from benchmark import Benchmark, KeptRows, alone, digest, part_of, run

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import require_folder
from glot_jax.config.train import GraphConfig, ObjectiveConfig, OptimizerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.training import Workspace
from glot_jax.training.joint import train_runs

CANDIDATES: dict[str, dict[str, Any]] = {
    **{f"tau-{tau}": {"tau": tau} for tau in (0.3, 0.6, 0.8)},
    **{f"density-{share}": {"tau_density": share} for share in (0.1, 0.3)},
    **{
        f"centred-{share}": {"tau_density": share, "graph_states": "centred"}
        for share in (0.1, 0.3)
    },
    "standardised-0.1": {"tau_density": 0.1, "graph_states": "standardised"},
    **{f"knn-{k}": {"graph": "knn", "k": k} for k in (4, 8)},
    **{f"window-{width}": {"graph": "window", "window": width} for width in (1, 2)},
}
"""Name -> settings of the graph, on each layer."""
CONTROLS = ("random", "rewired")
"""Of each candidate's own edges."""
WRONG: dict[str, dict[str, Any]] = {"self": {"graph": "self"}, "complete": {"graph": "complete"}}
"""Wrong graphs that know nothing of the candidate."""
METRIC = {"stsb": "spearman", "cola": "mcc"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderSearch(Benchmark):
    """Graphs of a decoder's tokens, right and wrong."""

    data: Path
    """Folder with one folder per task."""
    work: Path = Path("build/decoder")
    backbone: str = "smollm2"
    tasks: tuple[str, ...] = ("stsb", "cola")
    layers: tuple[int, ...] = (20, 30)
    candidates: tuple[str, ...] = tuple(CANDIDATES)
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    seeds: tuple[int, ...] = (101, 102)
    train_rows: int = 4000
    epochs: int = 3
    part: str = "0/1"
    """I/N: every N-th graph from number I on."""
    table: bool = False
    """Train nothing; print what there is."""

    def smaller(self) -> DecoderSearch:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self,
            backbone="minilm",
            layers=(6,),
            candidates=("tau-0.6",),
            rates=(1e-3,),
            train_rows=40,
            epochs=1,
        )


Graph = tuple[str, int, str, str]
"""Task, layer, candidate (or the name of a wrong graph) and its control."""


def graphs_of(bench: DecoderSearch) -> list[Graph]:
    """Every graph that is trained."""
    graphs: list[Graph] = []
    for task in bench.tasks:
        for layer in bench.layers:
            graphs += [(task, layer, name, "none") for name in WRONG]
            for name in bench.candidates:
                graphs += [(task, layer, name, control) for control in ("none", *CONTROLS)]
    return graphs


def name_of(graph: Graph) -> str:
    """Name of a graph in the file of results."""
    task, layer, name, control = graph
    text = f"{task} layer {layer} {name}"
    return text if control == "none" else f"{text} {control}"


def settings_of(bench: DecoderSearch) -> dict[str, Any]:
    """What must be equal for graphs to stand in one table."""
    return {
        "backbone": bench.backbone,
        "train_rows": bench.train_rows,
        "epochs": bench.epochs,
        "rates": bench.rates,
        "seeds": bench.seeds,
        "split": "holdout",
    }


def make_store(bench: DecoderSearch, task: str) -> Path:
    """The states of a task's training rows; no other split is extracted."""
    rows = bench.work / "data" / task
    rows.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bench.data / task / "train.jsonl", rows / "train.jsonl")
    config = ExtractConfig(
        backbone=bench.backbone,
        # On a GPU too: the same states on every machine, to rounding.
        compute_dtype="float32",
        task=task,
        data=rows,
        out=bench.work / "stores" / task,
        layers=bench.layers,
        max_train_rows=bench.train_rows,
    )
    # Two parts of the search begin with the same store.
    with alone(bench.work / "stores.lock"):
        dump(config)
    return require_folder(config.out)


def train_graph(
    bench: DecoderSearch, graph: Graph, store: Path, workspace: Workspace
) -> dict[str, Any]:
    """Scores on the holdout, rate by rate and seed by seed."""
    task, layer, name, control = graph
    options = WRONG[name] if name in WRONG else {**CANDIDATES[name], "control": control}
    runs = bench.work / f"runs-{digest(settings_of(bench))}"
    configs = []
    for rate in bench.rates:
        for seed in bench.seeds:
            out = runs / name_of(graph).replace(" ", "-") / f"{rate:g}-{seed}"
            if not (out / "summary.json").is_file():
                # Of a run that was stopped nothing is kept: it takes seconds.
                shutil.rmtree(out, ignore_errors=True)
            config = TrainConfig(
                store=store,
                out=out,
                layer=layer,
                epochs=bench.epochs,
                seed=seed,
                # A line an epoch.
                log_every=1 << 20,
                checkpoint_minutes=0,
                trust_store=True,
                graph=GraphConfig(**options),
                objective=ObjectiveConfig(select_on="holdout"),
                optimizer=OptimizerConfig(lr=rate),
            )
            configs.append(config)
    summaries = train_runs(configs, workspace=workspace, quiet=True)
    scores: dict[str, list[float]] = {}
    for config, summary in zip(configs, summaries, strict=True):
        # Where a store has no other split, its holdout is reported as validation.
        split = "holdout" if "holdout" in summary else "validation"
        score = summary[split]["best"][METRIC[task]]
        scores.setdefault(f"{config.optimizer.lr:g}", []).append(score)
        shutil.rmtree(config.out / "checkpoints", ignore_errors=True)
    best = max(scores, key=lambda rate: float(np.mean(scores[rate])))
    return {"scores": scores, "rate": float(best), "mean": float(np.mean(scores[best]))}


def differences(bench: DecoderSearch, rows: dict[str, Any]) -> list[dict[str, Any]]:
    """What each candidate has over the best of its wrong graphs, the largest first."""
    table = []
    for task, layer, name, control in graphs_of(bench):
        if name in WRONG or control != "none":
            continue
        wrong = [(task, layer, other, "none") for other in WRONG]
        wrong += [(task, layer, name, other) for other in CONTROLS]
        names = [name_of(graph) for graph in ((task, layer, name, "none"), *wrong)]
        if any(other not in rows for other in names):
            continue
        own, *means = (rows[other]["mean"] for other in names)
        best = int(np.argmax(means))
        table.append(
            {
                "task": task,
                "layer": layer,
                "candidate": name,
                "own": own,
                "best_wrong": names[best + 1],
                "wrong": means[best],
                "difference": own - means[best],
            }
        )
    return sorted(table, key=lambda row: (row["task"], -row["difference"]))


def main(bench: DecoderSearch) -> None:
    """Train whatever is missing, keep it, and print the table."""
    number, parts = part_of(bench.part)
    kept = KeptRows(bench, "decoder_search", settings_of(bench), bench.work / "results.lock")
    if not bench.table:
        # The same programs for all layers, and for the next start.
        jax.config.update("jax_compilation_cache_dir", str(bench.work / "compiled"))
        stores: dict[str, Path] = {}
        for graph in graphs_of(bench)[number::parts]:
            name = name_of(graph)
            row = kept.read().get(name)
            if row is None:
                task, *_ = graph
                if task not in stores:
                    stores[task] = make_store(bench, task)
                row = train_graph(bench, graph, stores[task], Workspace())
                kept.add(name, row)
            print(f"{name:44s} {row['mean']:.4f} at {row['rate']:g}", flush=True)
    for row in differences(bench, kept.read()):
        print(json.dumps(row))


if __name__ == "__main__":
    run(DecoderSearch, main)
