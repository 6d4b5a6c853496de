r"""How many seeds never learn on a decoder's layers: with its sinks, without them, by default.

    # DIR/{stsb,cola}/{train,validation}.jsonl
    python benchmarks/stuck_seeds.py --data DIR --work build/stuck --backbone smollm2

Settings are chosen with other seeds, on a holdout of the training rows:

    python benchmarks/stuck_seeds.py --data DIR --work build/stuck --backbone smollm2 \
        --heads-on 15 25 30 --variants mean adapool glot-gat \
        --treatments drop drop-rms drop-standardise keep-rms keep-standardise \
        --seeds 101 102 103 --split holdout

A run is stuck if the training loss of its last epoch is above .9 of that of the best constant
answer. Everything else is the default of train.py. On a layer without sinks nothing is left out, so
that `drop` takes the runs of `keep`. Prints a table of stuck runs and scores, and
writes benchmarks/results/stuck_seeds.json, after each group of seeds, so that it may be stopped and
started: groups of that file, with the same settings, are not trained again, nor are finished stores
and runs of --work. `--part I/N` does every N-th group of runs alone; the parts share the file.
`--table` trains nothing and prints what there is in Markdown, the treatments one after the other.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
from benchmark import Benchmark, KeptRows, digest, part_of, run
from scipy.stats import beta

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import require_folder
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.extraction import dump
from glot_jax.store import HiddenStore
from glot_jax.store.norms import layer_norms
from glot_jax.training import Workspace, train_seeds

STUCK = 0.9
"""Share of the constant answer's loss."""

VARIANTS: dict[str, dict[str, Any]] = {
    "mean": {"pooler": PoolerConfig(pooler="mean")},
    "adapool": {"pooler": PoolerConfig(pooler="adapool")},
    "mlp": {"pooler": PoolerConfig(pooler="mlp")},
    "glot-gat": {"pooler": PoolerConfig(pooler="glot")},
    "glot-gin": {"pooler": PoolerConfig(pooler="glot", gnn="gin")},
    "glot-self": {"pooler": PoolerConfig(pooler="glot"), "graph": GraphConfig(graph="self")},
    "pma": {"pooler": PoolerConfig(pooler="pma")},
    "latent-attention": {"pooler": PoolerConfig(pooler="latent-attention")},
    "glot-complete": {
        "pooler": PoolerConfig(pooler="glot"),
        "graph": GraphConfig(graph="complete"),
    },
    "glot-random": {"pooler": PoolerConfig(pooler="glot"), "graph": GraphConfig(graph="random")},
}
WRONG = ("glot-complete", "glot-random")
"""Variants of benchmarks/decomposition.py alone."""
TREATMENTS: dict[str, dict[str, Any]] = {
    # As in the paper.
    "keep": {"sinks": "keep", "standardise": False},
    # One thing is another: the sinks.
    "drop": {"sinks": "auto", "standardise": False},
    # What train.py does unless it is told otherwise.
    "default": {},
    # Cuts where there is a sink and where there is none.
    "skip-first": {"sinks": "keep", "skip_first": 1, "standardise": False},
    "keep-rms": {"sinks": "keep", "token_norm": "rms", "standardise": False},
    "drop-rms": {"sinks": "auto", "token_norm": "rms", "standardise": False},
    "keep-standardise": {"sinks": "keep", "standardise": True},
    "drop-standardise": {"sinks": "auto", "standardise": True},
    "keep-warmup": {
        "sinks": "keep",
        "standardise": False,
        "optimizer": OptimizerConfig(schedule="cosine", warmup_fraction=0.1, clip_norm=1.0),
    },
}
"""What is done about sinks: settings of a run, and of its pooler."""
METRIC = {
    "stsb": "spearman",
    "cola": "mcc",
    "mrpc": "f1",
    "rte": "accuracy",
    "imdb": "accuracy",
}
REPORTED = {"imdb": "test"}
"""Task -> the split that its rows with labels are in, unless it is called validation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StuckSeeds(Benchmark):
    """Seeds that never learn, with sinks and without."""

    data: Path
    """Folder with one folder per task."""
    work: Path = Path("build/stuck")
    backbone: str = "smollm2"
    tasks: tuple[str, ...] = ("stsb", "cola")
    layers: tuple[int, ...] = (10, 15, 20, 25, 30)
    """Those of the stores."""
    heads_on: tuple[int, ...] | None = None
    """Train on these layers of the stores alone. Default: on all."""
    variants: tuple[str, ...] = tuple(name for name in VARIANTS if name not in WRONG)
    treatments: tuple[str, ...] = ("keep", "drop", "default")
    seeds: tuple[int, ...] = tuple(range(1, 11))
    split: Literal["validation", "holdout"] = "validation"
    """Where scores are taken: holdout is a tenth of the training rows, which is not trained on.
    Of IMDB, which has no validation rows, validation is its test rows."""
    train_rows: int = 2000
    validation_rows: int = 300
    epochs: int = 4
    part: str = "0/1"
    """I/N: every N-th group of seeds from number I on."""
    table: bool = False
    """Print the tables of docs/results/decoder.md."""

    def smaller(self) -> StuckSeeds:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self,
            backbone="minilm",
            layers=(3, 6),
            variants=("mean", "glot-gat"),
            seeds=(1, 2),
            train_rows=32,
            epochs=1,
        )


def reported_split(bench: StuckSeeds, task: str) -> str:
    """Name of the split that scores are taken on."""
    return bench.split if bench.split == "holdout" else REPORTED.get(task, "validation")


def make_store(bench: StuckSeeds, task: str) -> Path:
    """The states of a task at all layers: seeded training rows, the first validation rows."""
    split = REPORTED.get(task, "validation")
    rows = bench.work / "data" / task
    rows.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bench.data / task / "train.jsonl", rows / "train.jsonl")
    # Not splitlines: it also ends a line at characters that JSON leaves as they are.
    lines = (bench.data / task / f"{split}.jsonl").read_bytes().rstrip(b"\n").split(b"\n")
    (rows / f"{split}.jsonl").write_bytes(b"\n".join(lines[: bench.validation_rows]) + b"\n")
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
    dump(config)
    return require_folder(config.out)


def layer_has_sinks(bench: StuckSeeds, task: str, layer: int) -> bool:
    """Whether training rows of a layer hold states that `--sinks auto` leaves out."""
    manifest = HiddenStore(bench.work / "stores" / task).manifest
    norms = layer_norms(manifest.splits["train"].shards, layer)
    # A store of this benchmark always counted them.
    assert norms is not None
    return bool(norms.sinks())


def constant_loss(store: Path) -> float:
    """Training loss of the best answer that is the same for every row."""
    reader = HiddenStore(store)["train"]
    labels = np.array([row.label for row in reader], np.float64)
    task = HiddenStore(store).task
    if task["label_kind"] == "classes":
        shares = np.bincount(labels.astype(int)) / len(labels)
        shares = shares[shares > 0]
        return float(-(shares * np.log(shares)).sum())
    low, high = task["label_range"]
    return float(np.var((labels - low) / (high - low)))


def folder_of(bench: StuckSeeds, group: tuple[str, str, int, str]) -> Path:
    """Where the runs of a group lie, each in the folder of its seed."""
    treatment, task, layer, variant = group
    # Named by the settings: no run of others is taken for one of these.
    runs = bench.work / f"runs-{digest(settings_of(bench))}"
    return runs / treatment / f"{task}-{layer}-{variant}"


def train_group(
    bench: StuckSeeds, group: tuple[str, str, int, str], workspace: Workspace
) -> list[dict[str, Any]]:
    """Training loss of the last epoch and the score after it, for each seed."""
    treatment, task, layer, variant = group
    out = folder_of(bench, group)
    config = TrainConfig(
        store=bench.work / "stores" / task,
        out=out,
        layer=layer,
        epochs=bench.epochs,
        # A line an epoch, whose loss is then the epoch's mean.
        log_every=1 << 20,
        checkpoint_minutes=0,
        objective=ObjectiveConfig(select_on="last" if bench.split == "validation" else "holdout"),
        trust_store=True,
        **VARIANTS[variant],
    )
    for name, value in TREATMENTS[treatment].items():
        if name in ("token_norm", "standardise"):
            pooler = dataclasses.replace(config.pooler, **{name: value})
            config = dataclasses.replace(config, pooler=pooler)
        else:
            config = dataclasses.replace(config, **{name: value})
    missing = []
    for seed in bench.seeds:
        if not (out / f"seed-{seed}" / "done.json").is_file():
            # Of a run that was stopped nothing is kept: it takes seconds.
            shutil.rmtree(out / f"seed-{seed}", ignore_errors=True)
            missing.append(seed)
    if missing:
        train_seeds(config, missing, quiet=True, workspace=workspace)
    results = []
    for seed in bench.seeds:
        run_folder = out / f"seed-{seed}"
        if seed in missing:
            sum_up_run(bench, task, run_folder)
        results.append(json.loads((run_folder / "done.json").read_text()))
    return results


def sum_up_run(bench: StuckSeeds, task: str, out: Path) -> None:
    """Write done.json and drop what nobody reads any more."""
    split = reported_split(bench, task)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["split"] == "train"]
    scores = [line[METRIC[task]] for line in lines if line["split"] == split]
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    values = {"loss": losses[-1], "score": scores[-1], "device": jax.devices()[0].device_kind}
    (out / "done.json").write_text(json.dumps(values))


def at_most(stuck: int, runs: int) -> float:
    """95 % upper bound of a share, Clopper and Pearson's; where none is stuck, about 3 of N."""
    return 1.0 if stuck == runs else float(beta.ppf(0.95, stuck + 1, runs - stuck))


def summed_up(results: list[dict[str, Any]], constant: float) -> dict[str, Any]:
    """Stuck runs with a 95 % upper bound, and the scores."""
    stuck = sum(result["loss"] > STUCK * constant for result in results)
    runs = len(results)
    scores = np.array([result["score"] for result in results])
    return {
        "stuck": int(stuck),
        "runs": runs,
        "stuck_at_most": round(at_most(stuck, runs), 4),
        "constant_loss": constant,
        "devices": sorted({str(result.get("device", "cpu")) for result in results}),
        "losses": [result["loss"] for result in results],
        "scores": scores.tolist(),
        "mean": float(scores.mean()),
        "deviation": float(scores.std(ddof=1)) if runs > 1 else 0.0,
    }


def results_name(bench: StuckSeeds) -> str:
    """Name of the file of results."""
    return "stuck_seeds" if bench.split == "validation" else f"stuck_seeds_{bench.split}"


def settings_of(bench: StuckSeeds) -> dict[str, Any]:
    """What must be equal for groups to stand in one table."""
    return {
        "backbone": bench.backbone,
        "train_rows": bench.train_rows,
        "validation_rows": bench.validation_rows,
        "epochs": bench.epochs,
        "seeds": list(bench.seeds),
        "split": bench.split,
        "stuck": f"training loss of the last epoch above {STUCK} of the best constant answer's",
    }


def kept_groups(bench: StuckSeeds) -> KeptRows:
    """The groups of the file of results."""
    return KeptRows(bench, results_name(bench), settings_of(bench), bench.work / "results.lock")


def cell(row: dict[str, Any] | None) -> str:
    """Score with deviation, and in brackets how many seeds were stuck, if any."""
    if row is None:
        return "–"
    text = f"{row['mean']:.3f} ± {row['deviation']:.3f}".replace("0.", ".")
    return f"{text} ({row['stuck']})" if row["stuck"] else text


def print_tables(bench: StuckSeeds, groups: dict[str, Any]) -> None:
    """A table for each task and every four variants: a row for each layer."""
    for task in bench.tasks:
        for first in range(0, len(bench.variants), 4):
            variants = bench.variants[first : first + 4]
            print(f"\n{task}\n")
            print(f"| layer | {' | '.join(variants)} |")
            print("|---" * (len(variants) + 1) + "|")
            for layer in bench.heads_on or bench.layers:
                cells = [str(layer)]
                for variant in variants:
                    name = f"{task} layer {layer} {variant}"
                    pair = [cell(groups.get(f"{name} {way}")) for way in bench.treatments]
                    # Where there is no sink, both are the same runs.
                    cells.append(" → ".join(dict.fromkeys(pair)))
                print(f"| {' | '.join(cells)} |")


def print_stuck(bench: StuckSeeds, groups: dict[str, Any]) -> None:
    """How many runs of a task were stuck, on the layers with sinks and on the others."""
    print(f"\n| task, layers | {' | '.join(bench.treatments)} |")
    print("|---" * (len(bench.treatments) + 1) + "|")
    for task in bench.tasks:
        # `drop` took the runs of `keep` on every layer without sinks.
        without = {
            layer
            for layer in bench.layers
            for variant in bench.variants
            if "same_runs_as" in groups.get(f"{task} layer {layer} {variant} drop", {})
        }
        for layers in (sorted(set(bench.layers) - without), sorted(without)):
            cells = [f"{task}, {', '.join(map(str, layers))}"]
            for way in bench.treatments:
                names = [
                    f"{task} layer {layer} {name} {way}" for layer in layers for name in VARIANTS
                ]
                rows = [groups[name] for name in names if name in groups]
                stuck = sum(row["stuck"] for row in rows)
                runs = sum(row["runs"] for row in rows)
                cells.append(f"{stuck} of {runs}, at most {at_most(stuck, runs):.3f}")
            print(f"| {' | '.join(cells)} |".replace("0.", "."))


def print_choices(bench: StuckSeeds, groups: dict[str, Any]) -> None:
    """A table for each task: a column for each treatment, and below the means of all rows."""
    for task in bench.tasks:
        print(f"\n{task}\n")
        print(f"| layer, pooler | {' | '.join(bench.treatments)} |")
        print("|---" * (len(bench.treatments) + 1) + "|")
        rows = []
        for variant in bench.variants:
            for layer in bench.heads_on or bench.layers:
                name = f"{task} layer {layer} {variant}"
                rows.append([groups[f"{name} {way}"] for way in bench.treatments])
                cells = [cell(row) for row in rows[-1]]
                print(f"| {layer}, {variant} | {' | '.join(cells)} |")
        cells = []
        for column in zip(*rows, strict=True):
            mean = float(np.mean([row["mean"] for row in column]))
            stuck = sum(row["stuck"] for row in column)
            runs = sum(row["runs"] for row in column)
            cells.append(f"{mean:.3f}, {stuck} of {runs}".replace("0.", ".", 1))
        print(f"| mean, stuck | {' | '.join(cells)} |")


def main(bench: StuckSeeds) -> None:
    """Train whatever is missing, keep it, and print the table."""
    number, parts = part_of(bench.part)
    kept = kept_groups(bench)
    if bench.table:
        # What was chosen among stands side by side.
        if bench.split == "validation":
            print_stuck(bench, kept.read())
            print_tables(bench, kept.read())
        else:
            print_choices(bench, kept.read())
        return
    # The same programs for all layers, and for the next start.
    jax.config.update("jax_compilation_cache_dir", str(bench.work / "compiled"))
    constants: dict[str, float] = {}
    groups = [
        (treatment, task, layer, variant)
        for task in bench.tasks
        for variant in bench.variants
        for layer in bench.heads_on or bench.layers
        for treatment in bench.treatments
    ]
    for group in groups[number::parts]:
        treatment, task, layer, variant = group
        name = f"{task} layer {layer} {variant} {treatment}"
        row = kept.read().get(name)
        if row is None:
            if task not in constants:
                constants[task] = constant_loss(make_store(bench, task))
            twin = kept.read().get(f"{task} layer {layer} {variant} keep")
            if treatment == "drop" and twin and not layer_has_sinks(bench, task, layer):
                # Nothing to leave out: seed by seed the run that kept its sinks.
                row = {**twin, "same_runs_as": "keep"}
            else:
                row = summed_up(train_group(bench, group, Workspace()), constants[task])
            kept.add(name, {**row, "treatment": str(TREATMENTS[treatment])})
        print(
            f"{name:46s} stuck {row['stuck']:2d} of {row['runs']:2d}   {METRIC[task]}"
            f" {row['mean']:.3f} ± {row['deviation']:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    run(StuckSeeds, main)
