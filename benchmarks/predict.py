"""`glot predict` beside `glot encode`: texts a second, and memory over many rows.

    python benchmarks/predict.py --data DIR [--texts 5000] [--repeats 3] [--rows 100000]

DIR holds cola/{train,validation}.jsonl, on which a head is trained for one epoch first. Both
commands' functions write the same file's rows with the same backbone and head; they take turns.
Memory is the high-water mark of a process that loads the run and predicts one file, of a tenth of
--rows and of all: what grows with the rows would show. Writes benchmarks/results/predict.json.
"""

from __future__ import annotations

import csv
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from benchmark import Benchmark, peak_bytes, run

from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import TrainConfig
from glot_jax.extraction import dump
from glot_jax.inference.encode_file import check_files, encode_file, text_file
from glot_jax.inference.predict_file import check_rows, predict_file
from glot_jax.inference.predictor import Predictor
from glot_jax.inference.row_files import RowFile
from glot_jax.training import train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predict(Benchmark):
    """Throughput and memory of prediction."""

    data: Path
    texts: int = 5000
    rows: int = 100_000
    repeats: int = 3
    backbone: str = "minilm"
    worker: tuple[Path, Path] | None = None
    """Run and file of a process whose memory is measured: what the processes are given."""

    def smaller(self) -> Predict:
        """See Benchmark.smaller."""
        return dataclasses.replace(self, texts=20, rows=40, repeats=1)


def trained_run(bench: Predict, folder: Path) -> Path:
    """A head on CoLA, trained for one epoch."""
    store = folder / "store"
    data = bench.data / "cola"
    dump(
        ExtractConfig(
            backbone=bench.backbone, task="cola", data=data, out=store, max_train_rows=2000
        )
    )
    train(TrainConfig(store=store, out=folder / "run", epochs=1), quiet=True)
    return folder / "run"


def write_texts(path: Path, count: int) -> Path:
    """A .csv of texts of 4 to 40 words, none twice."""
    rng = np.random.default_rng(0)
    words = ("the", "a", "cat", "dog", "house", "river", "sees", "builds", "under", "quickly")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "sentence"))
        for number in range(count):
            length = int(rng.integers(3, 40))
            writer.writerow((number, f"{number} {' '.join(rng.choice(words, length))}"))
    return path


def predicted(predictor: Predictor, file: Path, out: Path) -> Callable[[], None]:
    """What `glot predict` does once everything is loaded."""

    def action() -> None:
        task = predictor.task
        rows = RowFile.of_task(file, task.name, task.text_columns, None)
        predict_file(predictor, rows, out, check_rows(rows, out, task))

    return action


def encoded(predictor: Predictor, file: Path, out: Path) -> Callable[[], None]:
    """What `glot encode` does once everything is loaded."""
    (encoder,) = predictor.members

    def action() -> None:
        source = text_file(file, "sentence", None)
        encode_file(encoder, source, out, check_files(source, out))

    return action


def seconds_of(action: Callable[[], None]) -> float:
    """Wall time of one call."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def memory_of(bench: Predict, run_folder: Path, file: Path) -> float:
    """High-water mark of a process that predicts a file, and does nothing else."""
    command = [sys.executable, __file__, "--data", str(bench.data)]
    command += ["--worker", str(run_folder), str(file)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main(bench: Predict) -> None:
    """Time both, predict many rows, and write `predict.json`."""
    if bench.worker is not None:
        run_folder, file = bench.worker
        predictor = Predictor.load([run_folder])
        predicted(predictor, file, file.with_name(f"{file.stem}-answers.csv"))()
        print(peak_bytes() / 2**20)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run_folder = trained_run(bench, folder)
        predictor = Predictor.load([run_folder])
        file = write_texts(folder / "texts.csv", bench.texts)
        predict = predicted(predictor, file, folder / "answers.csv")
        encode = encoded(predictor, file, folder / "vectors.parquet")
        # Every shape is compiled before anything is timed.
        seconds_of(predict)
        seconds_of(encode)
        seconds: dict[str, list[float]] = {"predict": [], "encode": []}
        for _ in range(bench.repeats):
            seconds["predict"].append(seconds_of(predict))
            seconds["encode"].append(seconds_of(encode))
        pairs = zip(seconds["encode"], seconds["predict"], strict=True)
        ratio = statistics.median(encoding / predicting for encoding, predicting in pairs)
        rate = bench.texts / statistics.median(seconds["predict"])
        print(f"predict {rate:,.0f} texts/s, {ratio:.2f} of encode's rate")
        memory = {}
        for count in (bench.rows // 10, bench.rows):
            many = write_texts(folder / f"{count}.csv", count)
            memory[str(count)] = memory_of(bench, run_folder, many)
            print(f"after {count:,} rows: {memory[str(count)]:,.0f} MiB", flush=True)
    values = {
        "settings": {"texts": bench.texts, "repeats": bench.repeats, "backbone": bench.backbone},
        "seconds": seconds,
        "predict_of_encode": ratio,
        "texts_per_second": rate,
        "peak_mib_after_rows": memory,
    }
    bench.write("predict", values)


if __name__ == "__main__":
    run(Predict, main)
