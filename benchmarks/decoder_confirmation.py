r"""Do the graphs that the search chose hold on rows that it never saw? docs/decoder-search.md.

    # DIR/{cola,stsb,mrpc,rte,imdb}/{train,validation or test}.jsonl
    python benchmarks/decoder_confirmation.py --data DIR --work build/decoder

Reads benchmarks/results/decoder_search.json, which must be whole: for each task one candidate, its
four wrong graphs, and the rate of each. Ten new seeds, trained on the rows of the search, are
judged once on the reported split of their task (confirmation; the best wrong graph of the search is
the one that decides, the other three are shown), and then the candidate and the best wrong graph on
three other tasks at the same settings (replication). The difference of the means with its 95 %
interval and p is of a bootstrap that draws rows and seeds together; Holm over the two tasks of the
confirmation. Welch's p over seeds stands beside it and decides nothing. Writes
benchmarks/results/decoder_confirmation.json; finished stores and runs are taken up again, and
`--part I/N` trains the runs of every N-th task alone.
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
from benchmark import Benchmark, Mismatch, alone, digest, drawn_differences, part_of, run
from decoder_search import (
    CANDIDATES,
    CONTROLS,
    WRONG,
    DecoderSearch,
    Graph,
    differences,
    graphs_of,
    name_of,
)

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
    seeds: tuple[int, ...] = tuple(range(11, 21))
    train_rows: int = 4000
    epochs: int = 3
    resamples: int = 10_000
    part: str = "0/1"
    """I/N: train the runs of every N-th task from number I on, and judge nothing."""

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
    """A candidate of the search, and its wrong graphs."""

    task: str
    """Whose search it won."""
    layer: int
    own: Side
    wrong: tuple[Side, ...]
    """The best of the search first."""


def search_of(bench: DecoderConfirmation) -> DecoderSearch:
    """Settings of the search whose results are read."""
    search = DecoderSearch(data=bench.data, work=bench.work, results=bench.results)
    return search.smaller() if bench.smoke else search


def side_of(rows: dict[str, Any], graph: Graph) -> Side:
    """A graph of the search at its rate."""
    _, _, name, control = graph
    if name in WRONG:
        settings = dict(WRONG[name])
    else:
        settings = {**CANDIDATES[name], "control": control}
    label = name if control == "none" else f"{name} {control}"
    return Side(settings, rows[name_of(graph)]["rate"], label)


def chosen_graphs(bench: DecoderConfirmation) -> list[Chosen]:
    """The candidate of each task with the highest difference.

    Raises:
        Mismatch: the search is not finished: its best would be the best of what there is.
    """
    source = bench.source or bench.results / "decoder_search.json"
    rows = json.loads(source.read_text())["groups"]
    search = search_of(bench)
    missing = [name_of(graph) for graph in graphs_of(search) if name_of(graph) not in rows]
    if missing:
        raise Mismatch(
            f"A search must be finished before its best is confirmed; {source} lacks"
            f" {len(missing)} graphs, {missing[0]!r} the first. Go on with decoder_search.py."
        )
    chosen = []
    for task in CONFIRMED:
        best = next(row for row in differences(search, rows) if row["task"] == task)
        layer = best["layer"]
        name = best["candidate"]
        wrong: list[Graph] = [(task, layer, other, "none") for other in WRONG]
        wrong += [(task, layer, name, control) for control in CONTROLS]
        # Stable: of equal means the one that `differences` named stays first.
        wrong.sort(key=lambda graph: -rows[name_of(graph)]["mean"])
        own = side_of(rows, (task, layer, name, "none"))
        sides = tuple(side_of(rows, graph) for graph in wrong)
        assert name_of(wrong[0]) == best["best_wrong"]
        chosen.append(Chosen(task, layer, own, sides))
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
    # Two parts may begin with the same store.
    with alone(bench.work / "confirmed" / "stores.lock"):
        dump(config)
    return require_folder(config.out)


def train_side(
    bench: DecoderConfirmation, chosen: Chosen, side: Side, task: str, layers: tuple[int, ...]
) -> list[Path]:
    """A run of each seed."""
    split, _ = (CONFIRMED | REPLICATED)[task]
    # Named by everything that a run depends on: none of another search is taken for one of this.
    settings = {**dataclasses.asdict(side), "layer": chosen.layer, "backbone": bench.backbone}
    settings |= {"train_rows": bench.train_rows, "epochs": bench.epochs}
    name = f"{task}-{side.name.replace(' ', '-')}-{digest(settings)}"
    out = bench.work / "confirmed" / "runs" / name
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
    drawn = drawn_differences(score, ours, theirs, labels, resamples=resamples)
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


def compared_on(graphs: list[Chosen], task: str) -> list[tuple[Chosen, tuple[Side, ...]]]:
    """Which graphs meet on a task, each with the wrong ones that it meets there."""
    if task in CONFIRMED:
        return [(chosen, chosen.wrong) for chosen in graphs if chosen.task == task]
    return [(chosen, chosen.wrong[:1]) for chosen in graphs]


def judge(
    bench: DecoderConfirmation,
    chosen: Chosen,
    sides: tuple[Side, ...],
    task: str,
    layers: tuple[int, ...],
) -> list[dict[str, Any]]:
    """A row for each wrong graph; of a confirmation the first one decides."""
    split, metric = (CONFIRMED | REPLICATED)[task]
    own = train_side(bench, chosen, chosen.own, task, layers)
    rows = []
    for rank, side in enumerate(sides):
        wrong = train_side(bench, chosen, side, task, layers)
        kind = "replication"
        if task == chosen.task:
            kind = "confirmation" if rank == 0 else "beside it"
        judged = bootstrap(
            metric,
            [read_predictions(folder)[split] for folder in own],
            [read_predictions(folder)[split] for folder in wrong],
            bench.resamples,
        )
        row = {
            "task": task,
            "kind": kind,
            "chosen_on": chosen.task,
            "layer": chosen.layer,
            "own_graph": dataclasses.asdict(chosen.own),
            "wrong_graph": dataclasses.asdict(side),
            "split": split,
            "metric": metric,
            **judged,
        }
        rows.append(row)
    return rows


def main(bench: DecoderConfirmation) -> None:
    """Train whatever is missing, judge once, print and write."""
    number, parts = part_of(bench.part)
    jax.config.update("jax_compilation_cache_dir", str(bench.work / "compiled"))
    if bench.smoke and bench.source is None:
        decoder_search.main(search_of(bench))
    graphs = chosen_graphs(bench)
    layers = tuple(sorted({chosen.layer for chosen in graphs}))
    tasks = list(CONFIRMED)
    for task in REPLICATED:
        if (bench.data / task).is_dir():
            tasks.append(task)
        else:
            print(f"{task}: no folder {bench.data / task}, not replicated")
    # A task is one part's alone: its store is made once, and no two train the same run.
    own_tasks = tasks[number::parts]
    if parts > 1:
        for task in own_tasks:
            for chosen, sides in compared_on(graphs, task):
                for side in (chosen.own, *sides):
                    train_side(bench, chosen, side, task, layers)
            print(f"{task}: trained", flush=True)
        return
    rows = []
    for task in own_tasks:
        for chosen, sides in compared_on(graphs, task):
            rows += judge(bench, chosen, sides, task, layers)
    decisive = [row for row in rows if row["kind"] == "confirmation"]
    for row, value in zip(decisive, holm_adjusted([row["p"] for row in decisive]), strict=True):
        row["p_holm"] = value
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['kind']:13s} {row['task']:5s} {row['metric']} {np.mean(row['own']):.3f} against"
            f" {np.mean(row['wrong']):.3f}: {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
            f"{p_text(row.get('p_holm', row['p']), row['p_seeds'])}"
            f"   {row['own_graph']['name']} against {row['wrong_graph']['name']},"
            f" layer {row['layer']}"
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
