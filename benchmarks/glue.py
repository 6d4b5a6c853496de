"""CoLA, STS-B, MRPC and RTE with a small frozen backbone.

Mean, adapool and glot at the release's settings, with three seeds.

    # DIR/{cola,stsb,mrpc,rte}/{train,validation}.jsonl
    python benchmarks/glue.py --data DIR --work build/glue

Prints the table of docs/results and writes benchmarks/results/glue.json. Finished stores and runs
are taken up again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from benchmark import Benchmark, run

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import GraphConfig, OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.files import read_json
from glot_jax.texts import TASKS
from glot_jax.training import train_seeds

TAU = 0.6
SIZES: dict[str, Any] = {"hidden_dim": 256, "num_layers": 2}
LR = 2e-4
EPOCHS = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Glue(Benchmark):
    """Quality of the three poolers on four tasks."""

    data: Path
    """Folder with one folder per task."""
    work: Path = Path("build/glue")
    backbone: str = "minilm"
    tasks: tuple[str, ...] = ("cola", "stsb", "mrpc", "rte")
    poolers: tuple[str, ...] = ("mean", "adapool", "glot")
    seeds: tuple[int, ...] = (42, 43, 44)

    def smaller(self) -> Glue:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, seeds=(1, 2), poolers=("mean", "glot"))


def run_pooler(bench: Glue, task: str, pooler: str) -> dict[str, Any]:
    """Train one pooler with every seed; jk cat, Adam, batch 32."""
    config = TrainConfig(
        store=bench.work / "stores" / task,
        out=bench.work / "runs" / f"{task}-{pooler}",
        epochs=EPOCHS,
        batch_size=32,
        graph=GraphConfig(tau=TAU),
        pooler=PoolerConfig(pooler=pooler, jk="cat", **SIZES),
        optimizer=OptimizerConfig(lr=LR),
    )
    summary = train_seeds(config, list(bench.seeds), quiet=True)
    first = read_json(config.out / summary["runs"][0] / "summary.json")
    return {
        "task": task,
        "pooler": pooler,
        "majority": first["majority"],
        "mean": summary["mean"],
        "std": summary["std"],
    }


def cell(row: dict[str, Any], split: str, checkpoint: str) -> str:
    """`mcc .061 ± .004 / accuracy .690 ± .002`, and the mean epoch of the best."""
    mean = row["mean"][split][checkpoint]
    deviation = row["std"][split][checkpoint]
    scores = []
    for metric in TASKS[row["task"]].metrics:
        scores.append(f"{metric} {mean[metric]:.3f} ± {deviation[metric]:.3f}")
    return f"{' / '.join(scores)} (epoch {mean['epoch']:.1f})"


def main(bench: Glue) -> None:
    """Extract and train task by task, print a row a split, and write `glue.json`."""
    rows = []
    for task in bench.tasks:
        config = ExtractConfig(
            backbone=bench.backbone,
            task=task,
            data=bench.data / task,
            out=bench.work / "stores" / task,
        )
        dump(config)
        for pooler in bench.poolers:
            row = run_pooler(bench, task, pooler)
            rows.append(row)
            for split in row["mean"]:
                best = f"best {cell(row, split, 'best')}"
                last = f"last {cell(row, split, 'last')}"
                print(f"{task:5} {pooler:8} {split:10}", best, last, sep="  ")
    settings = {
        "backbone": bench.backbone,
        "seeds": list(bench.seeds),
        **SIZES,
        "tau": TAU,
        "lr": LR,
        "epochs": EPOCHS,
    }
    bench.write("glue", {"settings": settings, "rows": rows})


if __name__ == "__main__":
    run(Glue, main)
