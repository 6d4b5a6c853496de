"""From the shell to the result: seconds and memory of whole commands, with and without caches.

    python benchmarks/start.py --data DIR [--before CHECKOUT] [--repeats 5] [--jobs encode train]

DIR holds cola/{train,validation}.jsonl. Every command is a process of its own and is timed from its
start to its end, twice in a row: `cold` with an empty folder of caches (XDG_CACHE_HOME), `warm`
with what the first one left there. With --before the checkout of another commit takes turns with
this one, on stores and runs of its own. Peak memory is that of the largest process.

| job | command |
|---|---|
| jax, torch | imports alone, for comparison: jax, flax, optax and orbax; transformers' BERT |
| encode, predict | `glot encode` and `glot predict` of --short-rows rows |
| evaluate | `glot evaluate RUN` |
| mean | `train.py --pooler mean --epochs 1` |
| glot | `train.py --pooler glot --hidden-dim 256 --epochs 3` |
| seeds | the same with `--seeds 1 2 3 4 5` |
| commands | --rows rows of a CSV: extract, train, evaluate and predict, four commands |
| process | the same in one Python process |

Nothing else should run meanwhile. Writes benchmarks/results/start.json.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark import Benchmark, json_rows, run

from glot_jax.errors import UsageError

HERE = Path(__file__).parent.parent

JAX = "import jax, flax.nnx, optax; from orbax.checkpoint import v1"
TORCH = "from transformers import BertModel, AutoTokenizer"
PROCESS = """
import csv, sys
import glot_jax
data, out = sys.argv[1:]
columns = {"text_columns": ("sentence",), "label_column": "label"}
store = glot_jax.extract(backbone="minilm", data=data, out=f"{out}/store", **columns)
trained = glot_jax.train(store=store.path, out=f"{out}/run")
glot_jax.evaluate(trained.run)
with open(f"{data}/validation.csv", newline="") as file:
    texts = [row["sentence"] for row in csv.DictReader(file)]
answers = glot_jax.predict(trained.run, texts)
assert len(answers.values) == len(texts)
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start(Benchmark):
    """Seconds of whole commands."""

    data: Path
    before: Path | None = None
    """Checkout of another commit, which takes turns."""
    repeats: int = 5
    rows: int = 600
    short_rows: int = 180
    train_rows: int | None = None
    """Rows of CoLA that are trained on. Default: all."""
    hidden_dim: int = 256
    epochs: int = 3
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    jobs: tuple[str, ...] = (
        "jax",
        "torch",
        "encode",
        "predict",
        "evaluate",
        "mean",
        "glot",
        "seeds",
        "commands",
        "process",
    )

    def smaller(self) -> Start:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self,
            repeats=1,
            rows=40,
            short_rows=6,
            train_rows=40,
            hidden_dim=8,
            epochs=1,
            jobs=("encode", "process"),
        )


@dataclasses.dataclass(frozen=True)
class Side:
    """One commit, and what its commands read."""

    name: str
    checkout: Path
    folder: Path

    @property
    def store(self) -> Path:
        """CoLA's states."""
        return self.folder / "store"

    @property
    def run(self) -> Path:
        """A head of Glot on them."""
        return self.folder / "run"

    def environment(self, caches: Path) -> dict[str, str]:
        """Variables of its processes."""
        values = dict(os.environ)
        # Backbones stay where they are: what is timed is no download.
        home = Path(values.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        values.setdefault("HF_HOME", str(home / "huggingface"))
        values.pop("JAX_COMPILATION_CACHE_DIR", None)
        values["XDG_CACHE_HOME"] = str(caches)
        values["PYTHONPATH"] = str(self.checkout)
        return values


@dataclasses.dataclass
class Measured:
    """What some processes took together."""

    seconds: float = 0
    cpu_seconds: float = 0
    peak_mib: float = 0


def time_commands(side: Side, commands: Sequence[Sequence[str]], caches: Path) -> Measured:
    """Run commands one after the other.

    Raises:
        UsageError: one fails.
    """
    total = Measured()
    for words in commands:
        begin = time.perf_counter()
        with tempfile.TemporaryFile() as messages:
            process = subprocess.Popen(
                [sys.executable, *words],
                cwd=side.folder,
                env=side.environment(caches),
                stdout=subprocess.DEVNULL,
                stderr=messages,
            )
            # The usage of this one process: getrusage would give the largest of all so far.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            total.seconds += time.perf_counter() - begin
            if process.returncode != 0:
                messages.seek(0)
                text = messages.read().decode(errors="replace")
                raise UsageError(
                    rule="a command must succeed to be timed",
                    got=f"{side.name}: {' '.join(words[:4])} ... ended with {process.returncode}:"
                    f" {text[-2000:]}",
                    fix="Run it by hand.",
                )
        total.cpu_seconds += usage.ru_utime + usage.ru_stime
        total.peak_mib = max(total.peak_mib, usage.ru_maxrss / 1024)
    return total


def commands_of(bench: Start, side: Side, job: str, out: Path) -> list[list[str]]:
    """The words of a job's commands, behind the interpreter's name."""
    glot = ["-m", "glot_jax"]
    texts = str(side.folder / "texts.csv")
    data = str(side.folder / "csv")
    run = str(side.run)
    trained = [*glot, "train", "--store", str(side.store)]
    large = [*trained, "--pooler", "glot", "--hidden-dim", str(bench.hidden_dim)]
    large += ["--epochs", str(bench.epochs), "--out", str(out / "run")]
    extracted = [*glot, "extract", "--backbone", "minilm", "--task", "custom", "--data", data]
    extracted += ["--text-columns", "sentence", "--label-column", "label"]
    encoded = [*glot, "encode", texts, "--column", "sentence", "--run", run]
    chain_store = str(out / "store")
    chain_run = str(out / "run")
    answers = str(out / "answers.csv")
    jobs = {
        "jax": [["-c", JAX]],
        "torch": [["-c", TORCH]],
        "encode": [[*encoded, "--out", str(out / "vectors.npy")]],
        "predict": [[*glot, "predict", texts, "--run", run, "--out", answers]],
        "evaluate": [[*glot, "evaluate", run]],
        "mean": [[*trained, "--pooler", "mean", "--epochs", "1", "--out", str(out / "run")]],
        "glot": [large],
        "seeds": [[*large, "--seeds", *map(str, bench.seeds)]],
        "commands": [
            [*extracted, "--out", chain_store],
            [*glot, "train", "--store", chain_store, "--out", chain_run],
            [*glot, "evaluate", chain_run],
            [*glot, "predict", f"{data}/validation.csv", "--run", chain_run, "--out", answers],
        ],
        "process": [["-c", PROCESS, data, str(out)]],
    }
    if job not in jobs:
        raise UsageError(rule="unknown job (--jobs)", got=job, fix=f"Known: {', '.join(jobs)}.")
    return jobs[job]


def write_csv(path: Path, rows: Sequence[dict]) -> None:
    """A .csv of rows with a sentence and a label."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["sentence", "label"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def prepare(bench: Start, side: Side, caches: Path) -> None:
    """Write what a side's commands read: files of texts, CoLA's states and a run on them."""
    (side.folder / "csv").mkdir(parents=True)
    train_rows = json_rows(bench.data / "cola" / "train.jsonl")
    validation = json_rows(bench.data / "cola" / "validation.jsonl")
    write_csv(side.folder / "texts.csv", validation[: bench.short_rows])
    # A sixth of the rows is predicted.
    judged = bench.rows // 6
    write_csv(side.folder / "csv" / "train.csv", train_rows[: bench.rows - judged])
    write_csv(side.folder / "csv" / "validation.csv", validation[:judged])
    extracted = ["-m", "glot_jax", "extract", "--backbone", "minilm", "--task", "cola"]
    extracted += ["--data", str((bench.data / "cola").absolute()), "--out", str(side.store)]
    if bench.train_rows is not None:
        extracted += ["--max-train-rows", str(bench.train_rows)]
    trained = ["-m", "glot_jax", "train", "--store", str(side.store), "--epochs", "1"]
    trained += ["--hidden-dim", str(bench.hidden_dim), "--out", str(side.run)]
    time_commands(side, [extracted, trained], caches)


def main(bench: Start) -> None:
    """Time every job on both sides in turns, and write `start.json`."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sides = [Side("now", HERE, folder / "now")]
        if bench.before is not None:
            sides.append(Side("before", bench.before.absolute(), folder / "before"))
        for job in bench.jobs:
            # A name that does not exist is told before anything is computed.
            commands_of(bench, sides[0], job, folder)
        for side in sides:
            prepare(bench, side, folder / f"caches-{side.name}")
        measured: dict[tuple[str, str, str], list[Measured]] = {}
        for turn in range(bench.repeats):
            for job in bench.jobs:
                for side in sides:
                    caches = folder / f"caches-{turn}-{job}-{side.name}"
                    for cache in ("cold", "warm"):
                        out = folder / f"out-{turn}-{job}-{side.name}-{cache}"
                        out.mkdir()
                        commands = commands_of(bench, side, job, out)
                        result = time_commands(side, commands, caches)
                        measured.setdefault((job, side.name, cache), []).append(result)
    rows = []
    for (job, name, cache), results in measured.items():
        seconds = [result.seconds for result in results]
        row = {
            "job": job,
            "side": name,
            "cache": cache,
            "seconds": seconds,
            "median_seconds": statistics.median(seconds),
            "median_cpu_seconds": statistics.median(result.cpu_seconds for result in results),
            "peak_mib": max(result.peak_mib for result in results),
        }
        rows.append(row)
        print(
            f"{job:9} {name:7} {cache}: {row['median_seconds']:6.1f} s,"
            f" {row['median_cpu_seconds']:6.1f} s of CPU, {row['peak_mib']:6.0f} MiB"
        )
    settings = {
        "repeats": bench.repeats,
        "rows": bench.rows,
        "short_rows": bench.short_rows,
        "train_rows": bench.train_rows,
        "hidden_dim": bench.hidden_dim,
        "epochs": bench.epochs,
        "seeds": list(bench.seeds),
    }
    bench.write("start", {"settings": settings, "rows": rows})


if __name__ == "__main__":
    run(Start, main)
