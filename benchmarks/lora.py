r"""LoRA on a decoder beside heads on its frozen states: the same rows, scores, seconds, memory.

    # DIR/{cola,rte}/{train,validation}.jsonl
    python benchmarks/lora.py --data DIR --work build/lora

Every seed draws its own 1,000 training rows, the same for all methods, and no method sees a
reported row before its score. LoRA (r = 64, all attention projections) is trained for one epoch in
PyTorch; the state of a text's last token is classified, as transformers classifies with decoders,
and pairs are one text. Heads are those of train.py at its defaults, the mean and GLOT, with
extraction in their seconds; a pair's texts are two. Every method has the same three rates, of which
its own is the one with the highest mean over two selection seeds, on a tenth of their rows that was
not trained on. Every method runs in a process of its own: seconds count from its start, memory is
its highest resident set. Source of the comparison: the paper's Tables 5, 9 and 17. Writes
benchmarks/results/lora.json after each process; a study that was stopped does the rest.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import Benchmark, KeptRows, json_rows, peak_bytes, run
from sklearn.metrics import accuracy_score, matthews_corrcoef

COLUMNS = {"cola": ("sentence",), "rte": ("sentence1", "sentence2")}
RANK = 64
BATCH = 16
WARM_UP = 0.1
"""Share of the steps; the rate falls to zero after it, in a line."""
MAX_LENGTH = 128
"""That of the tasks in train.py."""
METHODS = ("lora", "mean", "glot")
HOLDOUT = 0.1
"""Share of a selection seed's rows that its rate is judged on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora(Benchmark):
    """Scores, seconds and memory of LoRA and of heads."""

    data: Path
    """Folder with one folder per task."""
    work: Path = Path("build/lora")
    backbone: str = "smollm2"
    tasks: tuple[str, ...] = ("cola", "rte")
    methods: tuple[str, ...] = METHODS
    rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3)
    selection_seeds: tuple[int, ...] = (101, 102)
    """Choose the rate, and are reported as trials alone."""
    seeds: tuple[int, ...] = (1, 2, 3)
    train_rows: int = 1000
    worker: str | None = None
    """TASK/METHOD/RATE/SEED: what the processes are given."""

    def smaller(self) -> Lora:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self,
            backbone="minilm",
            tasks=("cola",),
            methods=("lora", "glot"),
            rates=(1e-3,),
            selection_seeds=(101,),
            seeds=(1,),
            train_rows=32,
        )


@dataclasses.dataclass(frozen=True)
class Case:
    """One method at one rate on the rows of one seed."""

    task: str
    method: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """As it is given to a process; the folder in which it works; its name in the results."""
        return f"{self.task}/{self.method}/{self.rate:g}/{self.seed}"


def make_rows(bench: Lora, case: Case, folder: Path) -> None:
    """Write the seed's training rows, and those that it is judged on, as files of a task."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = json_rows(bench.data / case.task / "train.jsonl")
    order = np.random.default_rng(case.seed).permutation(len(rows))[: bench.train_rows]
    lines = [json.dumps(rows[number]) + "\n" for number in order]
    judged = (bench.data / case.task / "validation.jsonl").read_bytes()
    if case.seed in bench.selection_seeds:
        # No reported row is read where a rate is chosen.
        kept = len(lines) - max(1, round(HOLDOUT * len(lines)))
        judged = "".join(lines[kept:]).encode()
        lines = lines[:kept]
    (folder / "train.jsonl").write_text("".join(lines))
    (folder / "validation.jsonl").write_bytes(judged)


def score(task: str, labels: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews' correlation for CoLA, accuracy for RTE."""
    if task == "cola":
        return float(matthews_corrcoef(labels, predictions))
    return float(accuracy_score(labels, predictions))


# --------------------------------------------------------------------------------------------------
# In a process of its own


def train_lora(bench: Lora, case: Case, folder: Path) -> dict[str, Any]:
    """One epoch of LoRA and a linear layer on the last token's state."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    from glot_jax.backbone_files.backbone_source import find_source
    from glot_jax.backbones.loading import load_model
    from glot_jax.backbones.tokenizer import load_tokenizer

    torch.manual_seed(case.seed)
    source = find_source(bench.backbone, None)
    tokenizer = load_tokenizer(source)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    frozen, _ = load_model(source, torch.float32, torch.device("cpu"))
    # Names of Llama's layers, and of BERT's.
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "query", "key", "value"]
    settings = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=layers)
    model: Any = get_peft_model(frozen, settings)  # pyright: ignore[reportArgumentType]
    width = int(model.config.hidden_size)
    classifier = torch.nn.Linear(width, 2)
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    trained += list(classifier.parameters())

    def logits(rows: list[dict[str, Any]]) -> torch.Tensor:
        columns = [[row[column] for row in rows] for column in COLUMNS[case.task]]
        encoded = tokenizer(
            *columns, truncation=True, max_length=MAX_LENGTH, padding=True, return_tensors="pt"
        )
        mask = encoded["attention_mask"]
        states = model(input_ids=encoded["input_ids"], attention_mask=mask).last_hidden_state
        last = mask.sum(1) - 1
        return classifier(states[torch.arange(len(rows)), last])

    train = json_rows(folder / "train.jsonl")
    reported = json_rows(folder / "validation.jsonl")
    steps = -(-len(train) // BATCH)
    optimizer = torch.optim.AdamW(trained, lr=case.rate)
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, round(WARM_UP * steps), steps
    )
    model.train()
    began = time.perf_counter()
    # Rows are in a drawn order already.
    for first in range(0, len(train), BATCH):
        rows = train[first : first + BATCH]
        labels = torch.tensor([row["label"] for row in rows])
        loss = torch.nn.functional.cross_entropy(logits(rows), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.perf_counter() - began
    model.eval()
    predictions = []
    with torch.inference_mode():
        for first in range(0, len(reported), BATCH):
            predictions += logits(reported[first : first + BATCH]).argmax(1).tolist()
    return {
        "score": score(case.task, labels_of(reported), np.array(predictions)),
        "train_seconds": seconds,
        "trained": sum(weights.numel() for weights in trained),
    }


def labels_of(rows: list[dict[str, Any]]) -> np.ndarray:
    """Labels [rows]."""
    return np.array([row["label"] for row in rows])


def train_head(bench: Lora, case: Case, folder: Path) -> dict[str, Any]:
    """A head of train.py, at its defaults but for the rate, on states that are extracted here."""
    import glot_jax

    store = glot_jax.extract(
        backbone=bench.backbone,
        task=case.task,
        data=folder,
        max_length=MAX_LENGTH,
        out=folder / "store",
    )
    trained = glot_jax.train(
        store=store,
        out=folder / "run",
        pooler=case.method,
        seed=case.seed,
        lr=case.rate,
        select_on="last",
        quiet=True,
    )
    metric = "mcc" if case.task == "cola" else "accuracy"
    return {
        "score": trained["validation"]["best"][metric],
        "train_seconds": trained["seconds"]["train"],
        "trained": int(sum(trained["parameters"].values())),
    }


def work(bench: Lora, name: str) -> None:
    """Run one method, and write what it gives into its folder."""
    task, method, rate, seed = name.split("/")
    case = Case(task, method, float(rate), int(seed))
    folder = bench.work / name
    make_rows(bench, case, folder)
    values = (train_lora if method == "lora" else train_head)(bench, case, folder)
    peak = peak_bytes() / 2**20
    (folder / "answers.json").write_text(json.dumps({**values, "peak_mib": peak}))


# --------------------------------------------------------------------------------------------------
# All of them


def answers_of(bench: Lora, case: Case, kept: KeptRows) -> dict[str, Any]:
    """What a method gives, computed unless it is there."""
    row = kept.read().get(case.name)
    if row is not None:
        return row
    folder = bench.work / case.name
    # Of a process that was stopped nothing is kept.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, __file__, "--data", str(bench.data), "--work", str(bench.work)]
    command += ["--backbone", bench.backbone, "--train-rows", str(bench.train_rows)]
    began = time.perf_counter()
    subprocess.run([*command, "--worker", case.name], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    row = {**json.loads((folder / "answers.json").read_text()), "seconds": seconds}
    shutil.rmtree(folder)
    kept.add(case.name, row)
    return row


def chosen_rate(bench: Lora, task: str, method: str, kept: KeptRows) -> float:
    """The rate with the highest mean over the selection seeds; of equal ones the lowest."""
    means = []
    for rate in bench.rates:
        cases = [Case(task, method, rate, seed) for seed in bench.selection_seeds]
        scores = [answers_of(bench, case, kept)["score"] for case in cases]
        means.append(float(np.mean(scores)))
    return bench.rates[int(np.argmax(means))]


def summed_up(rate: float, answers: list[dict[str, Any]]) -> dict[str, Any]:
    """Scores of the seeds, medians of their seconds, the highest memory."""
    return {
        "rate": rate,
        "scores": [answer["score"] for answer in answers],
        "trained": answers[0]["trained"],
        "seconds": float(np.median([answer["seconds"] for answer in answers])),
        "train_seconds": float(np.median([answer["train_seconds"] for answer in answers])),
        "peak_mib": max(answer["peak_mib"] for answer in answers),
    }


def main(bench: Lora) -> None:
    """Run what is missing, print a line for each task and method, and write them."""
    if bench.worker is not None:
        work(bench, bench.worker)
        return
    settings = {
        "backbone": bench.backbone,
        "train_rows": bench.train_rows,
        "rates": list(bench.rates),
        "selection_seeds": list(bench.selection_seeds),
        "seeds": list(bench.seeds),
        "lora": {"rank": RANK, "batch": BATCH, "warm_up": WARM_UP, "epochs": 1},
    }
    kept = KeptRows(bench, "lora", settings, bench.work / "results.lock")
    table: dict[str, dict[str, Any]] = {}
    for task in bench.tasks:
        for method in bench.methods:
            rate = chosen_rate(bench, task, method, kept)
            cases = [Case(task, method, rate, seed) for seed in bench.seeds]
            row = summed_up(rate, [answers_of(bench, case, kept) for case in cases])
            table[f"{task} {method}"] = row
            scores = row["scores"]
            print(
                f"{task} {method:5s} {np.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})"
                f" at {rate:g}   {row['seconds']:5.0f} s, {row['train_seconds']:5.0f} of them"
                f" training   {row['peak_mib']:5.0f} MiB   {row['trained']:,} trained",
                flush=True,
            )
    bench.write("lora", {"settings": settings, "groups": kept.read(), "table": table})


if __name__ == "__main__":
    run(Lora, main)
