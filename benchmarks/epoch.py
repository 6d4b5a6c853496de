"""One epoch of CoLA, from stored states to updated weights.

Ours against the release's way of feeding and pooling.

    python benchmarks/epoch.py --data DIR [--hidden-dim 128] [--repeats 2]

DIR holds CoLA's train and validation files. The release's way, written with PyTorch and PyTorch
Geometric: files of padded float32 states, a batch of 32 texts each ([32, 128, dim], masks and
labels), and a DataLoader that shuffles samples and reads a whole file again for each; a graph per
sentence; GATConv; Adam. Beside it, kinder, the same with a file per sentence, so that a sample
reads itself alone. Ours: `train.py`'s own loop on the store, evaluation left out, in a process of
its own, where malloc is as it sets it (the first run there also pays for imports). Both start from
their files (in the page cache for both), with the same sizes of head, rows and batch.

Input wait, the share of the training loop that waits for a batch, is measured twice: on CoLA's
sentences, and on texts of 128 tokens, which are CoLA's sentences joined.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import torch
from benchmark import Benchmark, Mismatch, json_rows, run
from torch.utils.data import DataLoader, Dataset
from torch_heads import PygHead

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import GraphConfig, PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.store import HiddenStore, Row
from glot_jax.training import train

TAU = 0.6
LAYERS = 2
LENGTH = 128
BATCH = 32
Cache = Literal["device", "none"]
CACHES: tuple[Cache, ...] = ("device", "none")
FILES = {"release": BATCH, "a file per sentence": 1}
"""The release's way, and the kinder one -> rows of a file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epoch(Benchmark):
    """One epoch from files to weights, ours and the release's way."""

    data: Path
    """Folder of CoLA, with train.jsonl and validation.jsonl."""
    hidden_dim: int = 128
    repeats: int = 2
    long_rows: int = 640
    """Training rows of 128 tokens."""

    def smaller(self) -> Epoch:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, hidden_dim=8, repeats=1, long_rows=64)


class PaddedFiles(Dataset):
    """Padded states on disk, read whenever a row is asked for.

    Args:
        rows: file of every row, and its index in that file.
    """

    def __init__(self, rows: list[tuple[Path, int]]):
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        path, index = self.rows[row]
        file = torch.load(path, weights_only=True)
        return file["hidden"][index], file["mask"][index], file["label"][index]


def label_of(row: Row) -> float:
    """The label of a row; CoLA's all have one."""
    if row.label is None or isinstance(row.label, tuple):
        raise Mismatch("rows of the store must have a label each; got one without, or several.")
    return row.label


def write_padded(store: HiddenStore, folder: Path, rows_per_file: int) -> list[tuple[Path, int]]:
    """Write the training split as padded float32 files; file and index of every row."""
    split = store["train"]
    written: list[tuple[Path, int]] = []
    folder.mkdir()
    for first in range(0, len(split), rows_per_file):
        last = min(first + rows_per_file, len(split))
        rows = [split[index] for index in range(first, last)]
        hidden = torch.zeros(len(rows), LENGTH, store.dim)
        for index, row in enumerate(rows):
            hidden[index, : len(row.hidden)] = torch.tensor(np.asarray(row.hidden, np.float32))
        lengths = torch.tensor([len(row.hidden) for row in rows])
        mask = torch.arange(LENGTH) < lengths[:, None]
        labels = torch.tensor([int(label_of(row)) for row in rows])
        path = folder / f"{first}.pt"
        torch.save({"hidden": hidden, "mask": mask, "label": labels}, path)
        written += [(path, index) for index in range(len(rows))]
    return written


def their_epoch(rows: list[tuple[Path, int]], dim: int, hidden: int) -> dict[str, float]:
    """Seconds of one epoch of the release's way."""
    torch.manual_seed(0)
    scorer = max(128, (dim + LAYERS * hidden) // 2)
    head = PygHead(dim, hidden, LAYERS, scorer, TAU, cosine="broadcast")
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-4)
    begin = time.perf_counter()
    reading = 0.0
    batches = iter(DataLoader(PaddedFiles(rows), batch_size=BATCH, shuffle=True))
    losses = []
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        reading += time.perf_counter() - started
        if batch is None:
            break
        states, mask, labels = batch
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(head(states, mask), labels)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return {
        "seconds": time.perf_counter() - begin,
        "reading_seconds": reading,
        "last_loss": float(np.mean(losses[-20:])),
    }


def our_epoch(store: Path, out: Path, hidden: int, cache: Cache) -> dict[str, Any]:
    """Seconds of one epoch: of the loop alone, and from opening the store to the end.

    The latter with compilation, evaluation and checkpoint.
    """
    config = TrainConfig(
        store=store,
        out=out,
        epochs=1,
        batch_size=BATCH,
        cache=cache,
        graph=GraphConfig(tau=TAU),
        pooler=PoolerConfig(hidden_dim=hidden, num_layers=LAYERS),
    )
    begin = time.perf_counter()
    summary = train(config, quiet=True)
    return {
        "seconds": summary["seconds"]["train"],
        "evaluate_seconds": summary["seconds"]["evaluate"],
        "everything_seconds": time.perf_counter() - begin,
        "compile_seconds": summary["seconds"]["compile"],
        "input_wait_share": summary["input_wait_share"],
        "compilations": summary["compilations"],
        "steps": summary["steps"],
    }


def write_long_texts(data: Path, folder: Path, rows: int) -> None:
    """Write splits whose texts fill 128 tokens: sixteen sentences in a row, labels in turn."""
    sentences = [row["sentence"] for row in json_rows(data / "train.jsonl")]
    folder.mkdir()
    for name, count in (("train", rows), ("validation", 64)):
        with (folder / f"{name}.jsonl").open("w") as file:
            for row in range(count):
                picked = [sentences[(16 * row + i) % len(sentences)] for i in range(16)]
                line = {"text": " ".join(picked), "label": row % 2}
                file.write(json.dumps(line) + "\n")


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# From store to updated weights: everything but the evaluation, which the other side does not run.
# Compilation is a cost of the first epoch alone, so both are given.
SECONDS = {
    "from store to weights": ("everything_seconds", ("evaluate_seconds", "compile_seconds")),
    "with compilation": ("everything_seconds", ("evaluate_seconds",)),
    "the loop alone": ("seconds", ()),
}
"""What is compared -> field of our times, and the fields to take off it."""


def times_faster(ours: list[dict[str, Any]], theirs: list[dict[str, float]]) -> dict[str, float]:
    """Medians over the repeats of their time over ours, for every reading of SECONDS."""
    ratios = {}
    for what, (total, less) in SECONDS.items():
        by_repeat = []
        for our, their in zip(ours, theirs, strict=True):
            seconds = our[total] - sum(our[field] for field in less)
            by_repeat.append(their["seconds"] / seconds)
        ratios[what] = float(np.median(by_repeat))
    return ratios


def median_wait(runs: list[dict[str, Any]]) -> float:
    """Median share of the loop that waits for input."""
    return float(np.median([run["input_wait_share"] for run in runs]))


def measure(bench: Epoch, work: Path, process: Executor) -> dict[str, Any]:
    """Times of both sides, in turn."""
    store = dump(ExtractConfig(backbone="minilm", task="cola", data=bench.data, out=work / "store"))
    padded = {}
    sizes = {"store": folder_bytes(work / "store")}
    for name, rows_per_file in FILES.items():
        padded[name] = write_padded(store, work / name, rows_per_file)
        sizes[name] = folder_bytes(work / name)

    def ours_of(name: str, cache: Cache, repeat: int) -> dict[str, Any]:
        out = work / f"{name}-{cache}-{repeat}"
        arguments = (work / name, out, bench.hidden_dim, cache)
        return process.submit(our_epoch, *arguments).result()

    ours: dict[str, list[dict[str, Any]]] = {cache: [] for cache in CACHES}
    theirs: dict[str, list[dict[str, float]]] = {name: [] for name in FILES}
    for repeat in range(bench.repeats):
        for cache in CACHES:
            ours[cache].append(ours_of("store", cache, repeat))
            print(cache, ours[cache][-1], flush=True)
        for name, rows in padded.items():
            theirs[name].append(their_epoch(rows, store.dim, bench.hidden_dim))
            print(name, theirs[name][-1], flush=True)
    write_long_texts(bench.data, work / "texts", bench.long_rows)
    long = ExtractConfig(
        backbone="minilm",
        task="custom",
        data=work / "texts",
        text_columns=("text",),
        label_column="label",
        max_length=LENGTH,
        out=work / "long",
    )
    dump(long)
    waits: dict[str, dict[str, float]] = {"cola": {}, "128 tokens": {}}
    for cache in CACHES:
        runs = [ours_of("long", cache, repeat) for repeat in range(bench.repeats)]
        waits["cola"][cache] = median_wait(ours[cache])
        waits["128 tokens"][cache] = median_wait(runs)
    ratios: dict[str, dict[str, float]] = {}
    for name, epochs in theirs.items():
        ratios[name] = {}
        for cache, runs in ours.items():
            for what, ratio in times_faster(runs, epochs).items():
                ratios[name][f"{what}, states on {cache}"] = ratio
    return {
        "rows": len(store["train"]),
        "hidden_dim": bench.hidden_dim,
        "input_wait_share": waits,
        "ours": ours,
        "theirs": theirs,
        "times_faster": ratios,
        "bytes": sizes,
    }


def main(bench: Epoch) -> None:
    """Time both ways in turn, print their ratios, and write `epoch.json`."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as work, ProcessPoolExecutor(1, context) as process:
        result = measure(bench, Path(work), process)
    print(f"share of the loop that waits for input: {result['input_wait_share']}")
    for name, times in result["times_faster"].items():
        listed = "; ".join(f"{what} {value:.1f}" for what, value in times.items())
        print(f"times faster than {name}: {listed}")
    bench.write("epoch", result)


if __name__ == "__main__":
    run(Epoch, main)
