"""One epoch of CoLA, from stored states to updated weights: ours against the release's way of feeding and pooling.

    python benchmarks/epoch.py --data DIR [--hidden-dim 128] [--repeats 2]

DIR holds CoLA's train and validation files. The release's way, written with PyTorch and PyTorch Geometric: one file of
padded float32 states per sentence ([128, dim], mask and label beside it), read again for every sample of every epoch by a
DataLoader; a graph per sentence; GATConv; Adam. Ours: `train.py`'s own loop on the store, evaluation left out. Both
start from their files (in the page cache for both), with the same sizes of head, rows and batch.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import torch
from machine import write_result
from torch.utils.data import DataLoader, Dataset
from torch_heads import PygHead

from glot_jax import HiddenStore
from glot_jax.config import ExtractConfig, GraphConfig, PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.training import train

TAU, LAYERS, LENGTH, BATCH = 0.6, 2, 128, 32


class PaddedFiles(Dataset):
    """A file per sentence, read whenever it is asked for."""

    def __init__(self, folder: Path, rows: int):
        self.folder, self.rows = folder, rows

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        item = torch.load(self.folder / f"{row}.pt", weights_only=True)
        return item["hidden"], item["mask"], item["label"]


def write_padded(store: HiddenStore, folder: Path) -> int:
    """The training split as padded float32 files; their bytes."""
    split = store["train"]
    for index in range(len(split)):
        row = split[index]
        hidden = torch.zeros(LENGTH, store.dim)
        hidden[: len(row.hidden)] = torch.tensor(np.asarray(row.hidden, np.float32))
        mask = torch.arange(LENGTH) < len(row.hidden)
        torch.save({"hidden": hidden, "mask": mask, "label": int(row.label)}, folder / f"{index}.pt")
    return sum(path.stat().st_size for path in folder.iterdir())


def their_epoch(folder: Path, rows: int, dim: int, hidden: int) -> dict[str, float]:
    """Seconds of one epoch."""
    torch.manual_seed(0)
    head = PygHead(dim, hidden, LAYERS, max(128, (dim + LAYERS * hidden) // 2), TAU, cosine="broadcast")
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-4)
    begin, reading = time.perf_counter(), 0.0
    batches = iter(DataLoader(PaddedFiles(folder, rows), batch_size=BATCH, shuffle=True))
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
    return {"seconds": time.perf_counter() - begin, "reading_seconds": reading, "last_loss": float(np.mean(losses[-20:]))}


def our_epoch(store: Path, out: Path, hidden: int, cache: str) -> dict[str, Any]:
    """Seconds of one epoch: of the loop alone, and from opening the store to the end, with compilation, evaluation and checkpoint."""
    config = TrainConfig(
        store=store, out=out, epochs=1, batch_size=BATCH, cache=cache, graph=GraphConfig(tau=TAU), pooler=PoolerConfig(hidden_dim=hidden, num_layers=LAYERS),  # type: ignore[arg-type]
    )
    begin = time.perf_counter()
    summary = train(config, quiet=True)
    return {
        "seconds": summary["seconds"]["train"], "evaluate_seconds": summary["seconds"]["evaluate"], "everything_seconds": time.perf_counter() - begin, "compile_seconds": summary["seconds"]["compile"],
        "input_wait_share": summary["input_wait_share"], "compilations": summary["compilations"], "steps": summary["steps"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--hidden-dim", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        store = dump(ExtractConfig(backbone="minilm", task="cola", data=arguments.data, out=work / "store"))
        (work / "padded").mkdir()
        size = write_padded(store, work / "padded")
        rows = len(store["train"])
        ours: dict[str, list[dict[str, Any]]] = {"device": [], "none": []}
        theirs = []
        for repeat in range(arguments.repeats):
            for cache, runs in ours.items():
                runs.append(our_epoch(work / "store", work / f"run-{cache}-{repeat}", arguments.hidden_dim, cache))
                print(cache, runs[-1], flush=True)
            theirs.append(their_epoch(work / "padded", rows, store.dim, arguments.hidden_dim))
            print("the release's way", theirs[-1], flush=True)
        # From store to updated weights: everything but the evaluation, which the other side does not run. Compilation is a
        # cost of the first epoch alone, so both are given.
        ratios, cold, loop = (
            {cache: float(np.median([b["seconds"] / seconds(a) for a, b in zip(runs, theirs, strict=True)])) for cache, runs in ours.items()}
            for seconds in (
                lambda run: run["everything_seconds"] - run["evaluate_seconds"] - run["compile_seconds"],
                lambda run: run["everything_seconds"] - run["evaluate_seconds"],
                lambda run: run["seconds"],
            )
        )
        print(f"times faster: from store to updated weights {ratios}, with compilation {cold}, the loop alone {loop}")
        write_result("epoch", {
            "rows": rows, "hidden_dim": arguments.hidden_dim, "ours": ours, "release": theirs, "times_faster": ratios, "times_faster_with_compilation": cold, "times_faster_loop_alone": loop,
            "bytes": {"store": sum(path.stat().st_size for path in (work / "store").rglob("*") if path.is_file()), "padded": size},
        })


if __name__ == "__main__":
    main()
