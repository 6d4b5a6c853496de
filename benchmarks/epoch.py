"""One epoch of CoLA, from stored states to updated weights: ours against the release's way of
feeding and pooling.

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

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import torch
from machine import write_result
from torch.utils.data import DataLoader, Dataset
from torch_heads import PygHead

from glot_jax import HiddenStore
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import GraphConfig, PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.training import train

TAU, LAYERS, LENGTH, BATCH = 0.6, 2, 128, 32


class PaddedFiles(Dataset):
    """Padded states on disk, read whenever a row is asked for:

    `files[row]` and the row's place in that file.
    """

    def __init__(self, places: list[tuple[Path, int]]):
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        path, place = self.places[row]
        file = torch.load(path, weights_only=True)
        return file["hidden"][place], file["mask"][place], file["label"][place]


def write_padded(store: HiddenStore, folder: Path, rows_per_file: int) -> list[tuple[Path, int]]:
    """The training split as padded float32 files; where each row is."""
    split, places = store["train"], []
    folder.mkdir()
    for first in range(0, len(split), rows_per_file):
        rows = [split[index] for index in range(first, min(first + rows_per_file, len(split)))]
        hidden = torch.zeros(len(rows), LENGTH, store.dim)
        for place, row in enumerate(rows):
            hidden[place, : len(row.hidden)] = torch.tensor(np.asarray(row.hidden, np.float32))
        mask = torch.arange(LENGTH) < torch.tensor([len(row.hidden) for row in rows])[:, None]
        path = folder / f"{first}.pt"
        torch.save(
            {
                "hidden": hidden,
                "mask": mask,
                "label": torch.tensor([int(row.label) for row in rows]),
            },
            path,
        )
        places += [(path, place) for place in range(len(rows))]
    return places


def their_epoch(places: list[tuple[Path, int]], dim: int, hidden: int) -> dict[str, float]:
    """Seconds of one epoch."""
    torch.manual_seed(0)
    head = PygHead(
        dim, hidden, LAYERS, max(128, (dim + LAYERS * hidden) // 2), TAU, cosine="broadcast"
    )
    optimizer = torch.optim.Adam(head.parameters(), lr=2e-4)
    begin, reading = time.perf_counter(), 0.0
    batches = iter(DataLoader(PaddedFiles(places), batch_size=BATCH, shuffle=True))
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


def our_epoch(store: Path, out: Path, hidden: int, cache: str) -> dict[str, Any]:
    """Seconds of one epoch: of the loop alone, and from opening the store to the end, with
    compilation, evaluation and checkpoint.
    """
    config = TrainConfig(
        store=store,
        out=out,
        epochs=1,
        batch_size=BATCH,
        cache=cache,
        graph=GraphConfig(tau=TAU),
        pooler=PoolerConfig(hidden_dim=hidden, num_layers=LAYERS),  # type: ignore[arg-type]
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


def long_texts(data: Path, folder: Path, rows: int = 640) -> Path:
    """A folder of jsonl splits whose texts fill 128 tokens: sentences in a row, sixteen at a time,
    labels alternating.
    """
    sentences = [
        json.loads(line)["sentence"] for line in (data / "train.jsonl").read_text().splitlines()
    ]
    folder.mkdir()
    for name, count in (("train", rows), ("validation", 64)):
        texts = (
            " ".join(sentences[(16 * row + i) % len(sentences)] for i in range(16))
            for row in range(count)
        )
        (folder / f"{name}.jsonl").write_text(
            "".join(
                json.dumps({"text": text, "label": row % 2}) + "\n"
                for row, text in enumerate(texts)
            )
        )
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--hidden-dim", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with (
        tempfile.TemporaryDirectory() as name,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process,
    ):
        work = Path(name)
        store = dump(
            ExtractConfig(backbone="minilm", task="cola", data=arguments.data, out=work / "store")
        )
        places = {
            name: write_padded(store, work / name, rows)
            for name, rows in (("release", BATCH), ("a file per sentence", 1))
        }
        sizes = {
            name: sum(path.stat().st_size for path in (work / name).iterdir()) for name in places
        }
        ours: dict[str, list[dict[str, Any]]] = {"device": [], "none": []}
        theirs: dict[str, list[dict[str, float]]] = {name: [] for name in places}
        for repeat in range(arguments.repeats):
            for cache, runs in ours.items():
                runs.append(
                    process.submit(
                        our_epoch,
                        work / "store",
                        work / f"run-{cache}-{repeat}",
                        arguments.hidden_dim,
                        cache,
                    ).result()
                )
                print(cache, runs[-1], flush=True)
            for name, where in places.items():
                theirs[name].append(their_epoch(where, store.dim, arguments.hidden_dim))
                print(name, theirs[name][-1], flush=True)
        dump(
            ExtractConfig(
                backbone="minilm",
                task="custom",
                data=long_texts(arguments.data, work / "texts"),
                text_columns=("text",),
                label_column="label",
                max_length=LENGTH,
                out=work / "long",
            )
        )
        waits = {
            "cola": {
                cache: float(np.median([run["input_wait_share"] for run in runs]))
                for cache, runs in ours.items()
            },
            "128 tokens": {},
        }
        for cache in ours:
            runs = [
                process.submit(
                    our_epoch,
                    work / "long",
                    work / f"long-{cache}-{repeat}",
                    arguments.hidden_dim,
                    cache,
                ).result()
                for repeat in range(arguments.repeats)
            ]
            waits["128 tokens"][cache] = float(np.median([run["input_wait_share"] for run in runs]))
        print(f"share of the loop that waits for input: {waits}", flush=True)
        # From store to updated weights: everything but the evaluation, which the other side does
        # not run. Compilation is a cost of the first epoch alone, so both are given.
        seconds_of = {
            "from store to weights": lambda run: (
                run["everything_seconds"] - run["evaluate_seconds"] - run["compile_seconds"]
            ),
            "with compilation": lambda run: run["everything_seconds"] - run["evaluate_seconds"],
            "the loop alone": lambda run: run["seconds"],
        }
        ratios = {
            name: {
                f"{what}, states on {cache}": float(
                    np.median(
                        [b["seconds"] / seconds(a) for a, b in zip(runs, epochs, strict=True)]
                    )
                )
                for what, seconds in seconds_of.items()
                for cache, runs in ours.items()
            }
            for name, epochs in theirs.items()
        }
        for name, times in ratios.items():
            print(
                f"times faster than {name}: "
                + "; ".join(f"{what} {value:.1f}" for what, value in times.items())
            )
        write_result(
            "epoch",
            {
                "rows": len(store["train"]),
                "hidden_dim": arguments.hidden_dim,
                "input_wait_share": waits,
                "ours": ours,
                "theirs": theirs,
                "times_faster": ratios,
                "bytes": {
                    "store": sum(
                        path.stat().st_size
                        for path in (work / "store").rglob("*")
                        if path.is_file()
                    ),
                    **sizes,
                },
            },
        )


if __name__ == "__main__":
    main()
