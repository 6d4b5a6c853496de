"""What the presets, the backbone's layers and the parts of the method are worth, on real texts with
a small backbone.

    python benchmarks/method.py presets  --data DIR  # tuned against release: CoLA, STS-B, MRPC, RTE
    # every stored layer, the best one, and a learned mix of all
    python benchmarks/method.py layers   --data DIR
    python benchmarks/method.py ablation --data DIR  # GNN types, an MLP, and wrong graphs, on STS-B

DIR holds {cola,stsb,mrpc,rte}/{train,validation[,test]}.jsonl. Prints the scores of README's tables
and writes benchmarks/results/method-<part>.json. Finished stores and runs in --work are taken up
again.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from machine import write_result

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.json import to_json
from glot_jax.config.train import TrainConfig
from glot_jax.extraction import dump
from glot_jax.files import read_json
from glot_jax.presets import PRESETS
from glot_jax.texts import TASKS
from glot_jax.training import train_seeds


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Three studies of the pooling head; a part at a time."""

    part: Annotated[Literal["presets", "layers", "ablation"], tyro.conf.Positional]
    data: Path
    """Folder with one folder per task."""
    work: Path = Path("build/method")
    backbone: str = "minilm"
    layers: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    """Stored layers of the backbone."""
    tasks: tuple[str, ...] = ("cola", "stsb", "mrpc", "rte")
    seeds: tuple[int, ...] = (42, 43, 44)
    residents: dict[tuple, Any] = dataclasses.field(default_factory=dict, init=False)


ABLATION: dict[str, dict[str, dict[str, Any]]] = {
    **{gnn: {"pooler": {"gnn": gnn}} for gnn in ("gat", "gcn", "gin", "gine", "sage")},
    "mlp": {"pooler": {"pooler": "mlp"}},
    "gat, self-loops only": {"graph": {"graph": "self"}},
    "gat, random edges": {"graph": {"graph": "random"}},
}
"""Row of the ablation -> what it changes of the tuned preset."""


def run(
    bench: Benchmark,
    name: str,
    task: str,
    preset: str,
    *,
    seeds: tuple[int, ...] = (),
    **changes: Any,
) -> dict[str, Any]:
    """`name`'s record: the settings, and mean and deviation over the seeds of every reported
    split.
    """
    base = TrainConfig(
        store=bench.work / "stores" / task, out=bench.work / "runs" / f"{task}-{name}"
    )
    config = PRESETS[preset](base, TASKS[task].is_similarity)
    for group, values in changes.items():
        of = getattr(config, group)
        config = dataclasses.replace(
            config,
            **{
                group: dataclasses.replace(of, **values) if dataclasses.is_dataclass(of) else values
            },
        )
    summary = train_seeds(config, list(seeds or bench.seeds), quiet=True, residents=bench.residents)
    singles = [read_json(config.out / folder / "summary.json") for folder in summary["runs"]]
    settings = {
        key: value for key, value in to_json(config).items() if key not in ("store", "out", "seed")
    }
    return {
        "task": task,
        "name": name,
        "mean": summary["mean"],
        "std": summary["std"],
        "settings": settings,
        "majority": singles[0]["majority"],
        "parameters": singles[0]["parameters"],
        "seconds": [single["seconds"] for single in singles],
        "per_seed": [{split: single[split] for split in summary["mean"]} for single in singles],
    }


def show(record: dict[str, Any], *, which: tuple[str, ...] = ("best", "last")) -> None:
    metric = TASKS[record["task"]].metrics[0]
    scores = "  ".join(
        f"{split} {one} {record['mean'][split][one][metric]:.3f} ±"
        f" {record['std'][split][one][metric]:.3f}"
        for split in record["mean"]
        for one in which
    )
    print(f"{record['task']:5} {record['name']:24} {metric}  {scores}", flush=True)


def presets(bench: Benchmark) -> list[dict[str, Any]]:
    """release and tuned on every task."""
    records = []
    for task in bench.tasks:
        bench.residents.clear()
        for preset in ("release", "tuned"):
            records.append(run(bench, preset, task, preset))
            show(records[-1])
    return records


def layers(bench: Benchmark) -> list[dict[str, Any]]:
    """The layer is chosen by the first seed's holdout; its scores and those of the mix are means
    over all seeds.
    """
    records = []
    for task in bench.tasks:
        metric = TASKS[task].metrics[0]
        bench.residents.clear()  # one task's layers at a time in memory
        scan = {
            layer: run(bench, f"layer-{layer}", task, "tuned", seeds=bench.seeds[:1], layer=layer)
            for layer in bench.layers
        }
        for record in scan.values():
            show(record, which=("best",))
        best = max(scan, key=lambda layer: scan[layer]["mean"]["holdout"]["best"][metric])
        chosen = [
            run(bench, f"layer-{best}", task, "tuned", layer=best),
            run(bench, "mix", task, "tuned", mix_layers=()),
        ]
        for record in chosen:
            show(record, which=("best",))
        records += [*scan.values(), *chosen]
    return records


def ablation(bench: Benchmark) -> list[dict[str, Any]]:
    """The tuned preset with one part exchanged at a time, on STS-B."""
    records = []
    for name, changes in ABLATION.items():
        records.append(
            run(bench, name.replace(", ", "-").replace(" ", "-"), "stsb", "tuned", **changes)
        )
        records[-1]["label"] = name
        show(records[-1])
    reference = np.array([one["validation"]["best"]["spearman"] for one in records[0]["per_seed"]])
    for record in records:
        difference = (
            np.array([one["validation"]["best"]["spearman"] for one in record["per_seed"]])
            - reference
        )
        print(
            f"{record['label']:22} against gat, seed by seed:"
            f" {', '.join(f'{d:+.4f}' for d in difference)}"
        )
    return records


def main(bench: Benchmark) -> None:
    tasks = ("stsb",) if bench.part == "ablation" else bench.tasks
    for task in tasks:
        dump(
            ExtractConfig(
                backbone=bench.backbone,
                task=task,
                data=bench.data / task,
                layers=bench.layers,
                out=bench.work / "stores" / task,
            )
        )
    records = {"presets": presets, "layers": layers, "ablation": ablation}[bench.part](bench)
    settings = {"backbone": bench.backbone, "seeds": list(bench.seeds)}
    print(f"wrote {write_result(f'method-{bench.part}', {'settings': settings, 'rows': records})}")


if __name__ == "__main__":
    main(tyro.cli(Benchmark))
