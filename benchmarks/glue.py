"""CoLA, STS-B, MRPC and RTE with a small frozen backbone: mean, adapool and glot at the release's
settings, three seeds.

    # DIR/{cola,stsb,mrpc,rte}/{train,validation}.jsonl
    python benchmarks/glue.py --data DIR --work build/glue

Prints the README's table and writes benchmarks/results/glue.json. Finished stores and runs are
taken up again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import tyro
from machine import write_result

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import GraphConfig, OptimizerConfig, PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.files import read_json
from glot_jax.texts import TASKS
from glot_jax.training import train_seeds


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Quality of the three poolers on four tasks."""

    data: Path
    """Folder with one folder per task."""
    work: Path = Path("build/glue")
    backbone: str = "minilm"
    tasks: tuple[str, ...] = ("cola", "stsb", "mrpc", "rte")
    poolers: tuple[str, ...] = ("mean", "adapool", "glot")
    seeds: tuple[int, ...] = (42, 43, 44)


def run_pooler(bench: Benchmark, task: str, pooler: str) -> dict[str, Any]:
    """Hidden 256, K 2, jk cat, tau 0.6, Adam at 2e-4, batch 32, 3 epochs."""
    config = TrainConfig(
        store=bench.work / "stores" / task,
        out=bench.work / "runs" / f"{task}-{pooler}",
        epochs=3,
        batch_size=32,
        graph=GraphConfig(tau=0.6),
        pooler=PoolerConfig(pooler=pooler, hidden_dim=256, num_layers=2, jk="cat"),
        optimizer=OptimizerConfig(lr=2e-4),
    )
    return train_seeds(config, list(bench.seeds), quiet=True)


def main(bench: Benchmark) -> None:
    rows = []
    for task in bench.tasks:
        dump(
            ExtractConfig(
                backbone=bench.backbone,
                task=task,
                data=bench.data / task,
                out=bench.work / "stores" / task,
            )
        )
        for pooler in bench.poolers:
            summary = run_pooler(bench, task, pooler)
            single = read_json(
                bench.work / "runs" / f"{task}-{pooler}" / summary["runs"][0] / "summary.json"
            )
            rows.append(
                {
                    "task": task,
                    "pooler": pooler,
                    "majority": single["majority"],
                    "mean": summary["mean"],
                    "std": summary["std"],
                }
            )
            for split in summary["mean"]:
                print(
                    f"{task:5} {pooler:8} {split:10}",
                    *(f"{which} " + cell(rows[-1], split, which) for which in ("best", "last")),
                    sep="  ",
                )
    settings = {
        "backbone": bench.backbone,
        "seeds": list(bench.seeds),
        "hidden_dim": 256,
        "num_layers": 2,
        "tau": 0.6,
        "lr": 2e-4,
        "epochs": 3,
    }
    print(f"wrote {write_result('glue', {'settings': settings, 'rows': rows})}")


def cell(row: dict[str, Any], split: str, which: str) -> str:
    """`mcc .061 ± .004 / accuracy .690 ± .002`, and the mean epoch of the best."""
    mean, std = row["mean"][split][which], row["std"][split][which]
    scores = " / ".join(
        f"{name} {mean[name]:.3f} ± {std[name]:.3f}" for name in TASKS[row["task"]].metrics
    )
    return f"{scores} (epoch {mean['epoch']:.1f})"


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
