"""What presets, layers of the backbone and parts of the method are worth.

On real texts, with a small backbone.

    python benchmarks/method.py presets  --data DIR  # tuned against release: CoLA, STS-B, MRPC, RTE
    # every stored layer, the best one, and a learned mix of all
    python benchmarks/method.py layers   --data DIR
    python benchmarks/method.py ablation --data DIR  # GNN types, an MLP, and wrong graphs, on STS-B

DIR holds {cola,stsb,mrpc,rte}/{train,validation[,test]}.jsonl. Prints the scores of docs/results
and writes benchmarks/results/method-<part>.json. Finished stores and runs in --work are taken up
again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from benchmark import Benchmark, run

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.json import to_json
from glot_jax.config.train import TrainConfig
from glot_jax.extraction import dump
from glot_jax.files import read_json
from glot_jax.presets import PRESETS
from glot_jax.texts import TASKS
from glot_jax.training import train_seeds
from glot_jax.training.workspace import Workspace

Record = dict[str, Any]
"""What `train_variant` returns: settings, and mean and deviation of every reported split."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method(Benchmark):
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

    def smaller(self) -> Method:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, seeds=(1, 2), layers=(0, 6), tasks=("stsb",))


ABLATION: dict[str, dict[str, dict[str, Any]]] = {
    "gat": {"pooler": {"gnn": "gat"}},
    "gcn": {"pooler": {"gnn": "gcn"}},
    "gin": {"pooler": {"gnn": "gin"}},
    "gine": {"pooler": {"gnn": "gine"}},
    "sage": {"pooler": {"gnn": "sage"}},
    "mlp": {"pooler": {"pooler": "mlp"}},
    "gat, self-loops only": {"graph": {"graph": "self"}},
    "gat, random edges": {"graph": {"graph": "random"}},
}
"""Row of the ablation -> what it changes of the tuned preset."""


class Study:
    """Variants trained one after the other; states and compiled steps are shared between them."""

    def __init__(self, bench: Method):
        self.bench = bench
        self.workspace = Workspace()

    def train_variant(
        self,
        name: str,
        task: str,
        preset: str,
        *,
        seeds: Sequence[int] = (),
        changes: Mapping[str, Any] = MappingProxyType({}),
    ) -> Record:
        """Train a preset with some settings changed, once per seed.

        Args:
            name: folder of the runs.
            task: whose store is trained on.
            preset: name of glot_jax.presets.
            seeds: default: all of the benchmark.
            changes: fields of TrainConfig; a dict changes fields of a group.
        """
        folder = self.bench.work / "runs" / f"{task}-{name}"
        base = TrainConfig(store=self.bench.work / "stores" / task, out=folder)
        config = PRESETS[preset](base, TASKS[task].is_similarity)
        for field, values in changes.items():
            value = values
            if isinstance(values, dict):
                value = dataclasses.replace(getattr(config, field), **values)
            config = dataclasses.replace(config, **{field: value})
        chosen = list(seeds or self.bench.seeds)
        summary = train_seeds(config, chosen, quiet=True, workspace=self.workspace)
        singles = [read_json(config.out / run / "summary.json") for run in summary["runs"]]
        settings = to_json(config)
        for field in ("store", "out", "seed"):
            del settings[field]
        per_seed = []
        for single in singles:
            per_seed.append({split: single[split] for split in summary["mean"]})
        return {
            "task": task,
            "name": name,
            "mean": summary["mean"],
            "std": summary["std"],
            "settings": settings,
            "majority": singles[0]["majority"],
            "parameters": singles[0]["parameters"],
            "seconds": [single["seconds"] for single in singles],
            "per_seed": per_seed,
        }


def show(record: Record, checkpoints: Sequence[str] = ("best", "last")) -> None:
    """Print the task's first metric on every split."""
    metric = TASKS[record["task"]].metrics[0]
    scores = []
    for split, mean in record["mean"].items():
        for checkpoint in checkpoints:
            deviation = record["std"][split][checkpoint][metric]
            scores.append(f"{split} {checkpoint} {mean[checkpoint][metric]:.3f} ± {deviation:.3f}")
    print(f"{record['task']:5} {record['name']:24} {metric}  {'  '.join(scores)}", flush=True)


def presets(bench: Method) -> list[Record]:
    """`release` and tuned on every task."""
    records = []
    for task in bench.tasks:
        study = Study(bench)
        for preset in ("release", "tuned"):
            record = study.train_variant(preset, task, preset)
            show(record)
            records.append(record)
    return records


def layers(bench: Method) -> list[Record]:
    """Every layer, the best of them and a learned mix.

    The layer is chosen by the first seed's holdout; its scores and those of the mix are means over
    all seeds.
    """
    records = []
    for task in bench.tasks:
        metric = TASKS[task].metrics[0]
        study = Study(bench)  # one task's layers at a time in memory
        scan: dict[int, Record] = {}
        for layer in bench.layers:
            first = bench.seeds[:1]
            scan[layer] = study.train_variant(
                f"layer-{layer}", task, "tuned", seeds=first, changes={"layer": layer}
            )
            show(scan[layer], ("best",))
        scores = {
            layer: record["mean"]["holdout"]["best"][metric] for layer, record in scan.items()
        }
        best = max(scores, key=lambda layer: scores[layer])
        chosen = [
            study.train_variant(f"layer-{best}", task, "tuned", changes={"layer": best}),
            study.train_variant("mix", task, "tuned", changes={"mix_layers": ()}),
        ]
        for record in chosen:
            show(record, ("best",))
        records += [*scan.values(), *chosen]
    return records


def spearman_by_seed(record: Record) -> np.ndarray:
    """Best validation score of every seed, [seeds]."""
    return np.array([scores["validation"]["best"]["spearman"] for scores in record["per_seed"]])


def ablation(bench: Method) -> list[Record]:
    """The tuned preset with one part exchanged at a time, on STS-B."""
    study = Study(bench)
    records = []
    for name, changes in ABLATION.items():
        folder = name.replace(", ", "-").replace(" ", "-")
        record = study.train_variant(folder, "stsb", "tuned", changes=changes)
        record["label"] = name
        show(record)
        records.append(record)
    reference = spearman_by_seed(records[0])
    for record in records:
        differences = spearman_by_seed(record) - reference
        listed = ", ".join(f"{difference:+.4f}" for difference in differences)
        print(f"{record['label']:22} against gat, seed by seed: {listed}")
    return records


PARTS = {"presets": presets, "layers": layers, "ablation": ablation}


def main(bench: Method) -> None:
    """Extract what is missing, run one part, and write `method-PART.json`."""
    tasks = bench.tasks
    if bench.part == "ablation":
        tasks = ("stsb",)
    for task in tasks:
        config = ExtractConfig(
            backbone=bench.backbone,
            task=task,
            data=bench.data / task,
            layers=bench.layers,
            out=bench.work / "stores" / task,
        )
        dump(config)
    records = PARTS[bench.part](bench)
    settings = {"backbone": bench.backbone, "seeds": list(bench.seeds)}
    bench.write(f"method-{bench.part}", {"settings": settings, "rows": records})


if __name__ == "__main__":
    run(Method, main)
