r"""A GLOT head beside SetFit and logistic regression on mean vectors: the same frozen MiniLM.

    # DIR/imdb/{train,test}.jsonl, DIR/cola/{train,validation}.jsonl
    python benchmarks/classifiers.py --data DIR --work build/classifiers

16 and 64 texts a class, and all rows, drawn by each seed and the same for every method. Settings
are fixed beforehand and the last epoch is taken; of all rows the epoch is chosen on a holdout, and
the head trained again on all of them. SetFit has its own defaults, but trains for --cap seconds at
most: where its epoch takes longer it is given as many steps as fit, found by timing some of them
first, so that its rate falls to zero within them. No method sees a reported row before its score.
Every method runs in a process of its own, whose seconds count from its start, extraction included
and SetFit's timing of steps left out.

CoLA is scored by Matthews' correlation, IMDB by accuracy; differences to GLOT with the 95 %
interval of a bootstrap over rows and seeds. Writes benchmarks/results/classifiers.json, after each
process, with its predictions: a study that was stopped is started again and does the rest.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from benchmark import Benchmark, KeptRows, drawn_differences, json_rows, run
from sklearn.metrics import accuracy_score, matthews_corrcoef

REPORTED = {"imdb": "test", "cola": "validation"}
"""Task -> the split that scores are taken on."""
COLUMNS = {"imdb": "text", "cola": "sentence"}
MAX_LENGTH = 128
FEW = {"lr": 1e-3, "batch_size": 16}
"""Of a few rows: about 200 steps, whatever their number."""
STEPS = 200
ALL = {"lr": 1e-3, "batch_size": 32, "epochs": 8}
TIMED_STEPS = 12
"""Of SetFit, to know how many fit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Classifiers(Benchmark):
    """Scores, seconds, memory and trained parameters of classifiers on one frozen model."""

    data: Path
    """Folder with one folder per task."""
    work: Path = Path("build/classifiers")
    tasks: tuple[str, ...] = ("imdb", "cola")
    sizes: tuple[int, ...] = (16, 64, 0)
    """Texts a class; 0: all rows."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    methods: tuple[str, ...] = ("glot", "mean", "setfit", "setfit-head", "logistic")
    cap: int = 600
    """Seconds that SetFit may train."""
    worker: str | None = None
    """FOLDER of one method's inputs: what the processes are given."""

    def smaller(self) -> Classifiers:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self,
            tasks=("cola",),
            sizes=(4,),
            seeds=(1, 2),
            methods=("glot", "setfit", "logistic"),
            cap=1,
        )


def rows_of(path: Path, column: str) -> tuple[list[str], np.ndarray]:
    """Texts and labels of a .jsonl file."""
    texts = []
    labels = []
    for row in json_rows(path):
        texts.append(row[column])
        labels.append(row["label"])
    return texts, np.array(labels)


def drawn(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Indices of the training rows of a seed: `size` of each class, or all in another order."""
    order = np.random.default_rng(seed).permutation(len(labels))
    if size == 0:
        return order
    chosen = [order[labels[order] == label][:size] for label in np.unique(labels)]
    return np.random.default_rng(seed).permutation(np.concatenate(chosen))


# --------------------------------------------------------------------------------------------------
# One method, in a process of its own


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What a method is given: rows to learn from, and texts to answer."""

    folder: Path
    method: str
    texts: Sequence[str]
    labels: np.ndarray
    reported: Sequence[str]
    is_all: bool
    seed: int
    cap: int


@dataclasses.dataclass(frozen=True)
class Answered:
    """What a method gives."""

    predictions: np.ndarray
    trained_parameters: int
    notes: dict[str, Any]


def glot(inputs: Inputs) -> Answered:
    """A head of this package; of all rows its epoch is chosen on a holdout first."""
    import glot_jax

    rows = inputs.folder / "rows"
    rows.mkdir(exist_ok=True)
    lines = []
    for text, label in zip(inputs.texts, inputs.labels.tolist(), strict=True):
        lines.append(json.dumps({"text": text, "label": label}) + "\n")
    (rows / "train.jsonl").write_text("".join(lines))
    # A run reports on something: on rows that it was trained on.
    (rows / "validation.jsonl").write_text("".join(lines[:8]))
    store = glot_jax.extract(
        backbone="minilm",
        task="custom",
        data=rows,
        text_columns=["text"],
        label_column="label",
        max_length=MAX_LENGTH,
        out=inputs.folder / "store",
    )
    settings: dict[str, Any] = {"store": store, "pooler": inputs.method, "seed": inputs.seed}
    if inputs.is_all:
        chosen = glot_jax.train(
            **settings, **ALL, select_on="holdout", out=inputs.folder / "chosen", quiet=True
        )
        settings |= ALL | {"epochs": chosen["holdout"]["best"]["epoch"]}
    else:
        steps = -(-len(inputs.texts) // FEW["batch_size"])
        settings |= FEW | {"epochs": -(-STEPS // steps)}
    trained = glot_jax.train(**settings, select_on="last", out=inputs.folder / "run", quiet=True)
    answers = glot_jax.predict(trained, inputs.reported)
    names = glot_jax.Predictor.load([trained]).classes
    predictions = np.array([int(names[index]) for index in answers.values])
    parameters = int(sum(trained["parameters"].values()))
    return Answered(predictions, parameters, {"epochs": settings["epochs"]})


def logistic(inputs: Inputs) -> Answered:
    """Logistic regression on mean vectors, C by cross-validation on the training rows."""
    from sentence_transformers import SentenceTransformer
    from sklearn.linear_model import LogisticRegressionCV

    from glot_jax.backbone_files.backbone_source import find_source

    model = SentenceTransformer(find_source("minilm", None).location, device="cpu")
    model.max_seq_length = MAX_LENGTH
    vectors = model.encode(list(inputs.texts), show_progress_bar=False)
    folds = min(5, int(np.bincount(inputs.labels).min()))
    strengths: Any = np.logspace(-3, 3, 13)
    classifier: Any = LogisticRegressionCV(Cs=strengths, cv=folds, max_iter=5000)
    classifier.fit(vectors, inputs.labels)
    reported = model.encode(list(inputs.reported), show_progress_bar=False)
    parameters = classifier.coef_.size + classifier.intercept_.size
    notes = {"C": float(np.ravel(classifier.C_)[0])}
    return Answered(classifier.predict(reported), int(parameters), notes)


def epoch_steps(labels: np.ndarray) -> int:
    """Steps of SetFit's one epoch by default: pairs are oversampled, 16 a step."""
    counts = np.bincount(labels)
    alike = int(sum(count * (count + 1) // 2 for count in counts))
    different = int((len(labels) ** 2 - (counts**2).sum()) // 2)
    return -(-2 * max(alike, different) // 16)


def fitting_steps(train: Callable[[int], object], cap: int) -> int:
    """Steps that fit into `cap` seconds, from the difference between a short and a longer training.

    What is done once, loading and the classifier, is in both.
    """
    seconds = []
    for count in (2, 2 + TIMED_STEPS):
        began = time.perf_counter()
        train(count)
        seconds.append(time.perf_counter() - began)
    a_step = (seconds[1] - seconds[0]) / TIMED_STEPS
    return max(1, int(cap / max(a_step, 1e-3)))


def setfit(inputs: Inputs) -> Answered:
    """SetFit with its defaults; `setfit-head` leaves the body as it is."""
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    from glot_jax.backbone_files.backbone_source import find_source

    source = str(find_source("minilm", None).location)
    rows = Dataset.from_dict({"text": list(inputs.texts), "label": inputs.labels.tolist()})

    def trainer_of(max_steps: int) -> tuple[Any, Any]:
        # Its head is of scikit-learn, which its types do not say.
        model: Any = SetFitModel.from_pretrained(source, device="cpu")
        model.model_body.max_seq_length = MAX_LENGTH
        arguments = TrainingArguments(
            seed=inputs.seed,
            output_dir=str(inputs.folder / "checkpoints"),
            save_strategy="no",
            max_length=MAX_LENGTH,
            max_steps=max_steps,
            report_to="none",
        )
        return model, Trainer(model=model, args=arguments, train_dataset=rows)

    steps = epoch_steps(inputs.labels)
    notes: dict[str, Any] = {"epoch_steps": steps, "steps": steps, "timing_seconds": 0.0}
    if inputs.method == "setfit-head":
        model, trainer = trainer_of(-1)
        trainer.train_classifier(list(inputs.texts), inputs.labels.tolist())
        parameters = 0
    else:
        fitting = steps
        if steps > TIMED_STEPS:
            began = time.perf_counter()
            fitting = fitting_steps(lambda count: trainer_of(count)[1].train(), inputs.cap)
            notes["timing_seconds"] = time.perf_counter() - began
        notes["steps"] = min(steps, fitting)
        model, trainer = trainer_of(-1 if steps <= fitting else fitting)
        trainer.train()
        parameters = sum(weights.numel() for weights in model.model_body.parameters())
    parameters += model.model_head.coef_.size + model.model_head.intercept_.size
    predictions = np.asarray(model.predict(list(inputs.reported)))
    return Answered(predictions, int(parameters), notes)


METHODS: dict[str, Callable[[Inputs], Answered]] = {
    "glot": glot,
    "mean": glot,
    "setfit": setfit,
    "setfit-head": setfit,
    "logistic": logistic,
}


def work(folder: Path) -> None:
    """Run one method on the inputs of its folder, and write what it gives there."""
    given = json.loads((folder / "inputs.json").read_text())
    labels = np.array(given.pop("labels"))
    inputs = Inputs(folder=folder, labels=labels, **given)
    answered = METHODS[inputs.method](inputs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = {
        "predictions": answered.predictions.tolist(),
        "trained_parameters": answered.trained_parameters,
        "peak_mib": peak / 1024,
        **answered.notes,
    }
    (folder / "answers.json").write_text(json.dumps(values))


# --------------------------------------------------------------------------------------------------
# All of them


@dataclasses.dataclass(frozen=True)
class Case:
    """One method on the rows of one seed."""

    task: str
    size: int
    seed: int
    method: str

    @property
    def folder(self) -> str:
        """Where it works, and its name in the file of results."""
        return f"{self.task}-{self.size or 'all'}/{self.method}/seed-{self.seed}"


def answers_of(bench: Classifiers, case: Case, kept: KeptRows) -> dict[str, Any]:
    """What a method gives, computed unless it is there."""
    row = kept.read().get(case.folder)
    if row is not None:
        return row
    folder = bench.work / case.folder
    # Of a process that was stopped nothing is kept.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    column = COLUMNS[case.task]
    texts, labels = rows_of(bench.data / case.task / "train.jsonl", column)
    # Texts alone: the labels of the reported rows are not in the process.
    reported, _ = rows_of(bench.data / case.task / f"{REPORTED[case.task]}.jsonl", column)
    chosen = drawn(labels, case.size, case.seed)
    inputs = {
        "method": case.method,
        "texts": [texts[row] for row in chosen],
        "labels": labels[chosen].tolist(),
        "reported": reported,
        "is_all": case.size == 0,
        "seed": case.seed,
        "cap": bench.cap,
    }
    (folder / "inputs.json").write_text(json.dumps(inputs))
    # Its own cache: states of another case would save this one the extraction.
    environment = {**os.environ, "GLOT_JAX_CACHE": str(folder / "cache")}
    command = [sys.executable, __file__, "--data", str(bench.data), "--worker", str(folder)]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    answers = json.loads((folder / "answers.json").read_text())
    # Stores and checkpoints of a hundred processes are gigabytes.
    shutil.rmtree(folder)
    predictions = "".join(map(str, answers.pop("predictions")))
    seconds -= answers.get("timing_seconds", 0.0)
    row = {**answers, "seconds": seconds, "predictions": predictions}
    kept.add(case.folder, row)
    return row


def score(task: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews' correlation for CoLA, accuracy for the others."""
    if task == "cola":
        return float(matthews_corrcoef(labels, predictions))
    return float(accuracy_score(labels, predictions))


def compared(bench: Classifiers, task: str, size: int, kept: KeptRows) -> dict[str, Any]:
    """A table of all methods on one size of one task."""
    _, labels = rows_of(bench.data / task / f"{REPORTED[task]}.jsonl", COLUMNS[task])
    predictions: dict[str, np.ndarray] = {}
    table: dict[str, Any] = {}
    for method in bench.methods:
        # Of few rows SetFit is what trains its body: the head alone is a matter of all rows.
        if method == "setfit-head" and size != 0:
            continue
        results = [answers_of(bench, Case(task, size, seed, method), kept) for seed in bench.seeds]
        answers = [[int(digit) for digit in result["predictions"]] for result in results]
        predictions[method] = np.array(answers)
        scores = [score(task, of_seed, labels) for of_seed in predictions[method]]
        table[method] = {
            "scores": scores,
            "mean": float(np.mean(scores)),
            "seconds": [result["seconds"] for result in results],
            "peak_mib": max(result["peak_mib"] for result in results),
            "trained_parameters": results[0]["trained_parameters"],
            "setfit_steps": [result.get("steps") for result in results],
            "setfit_epoch_steps": results[0].get("epoch_steps"),
        }
    for method, row in table.items():
        difference = ""
        if method != "glot" and "glot" in table:
            differences = drawn_differences(
                partial(score, task),
                predictions["glot"],
                predictions[method],
                labels,
                resamples=1000,
            )
            low, high = map(float, np.quantile(differences, (0.025, 0.975)))
            row["glot_minus_this"] = [table["glot"]["mean"] - row["mean"], low, high]
            difference = f"   glot is {row['glot_minus_this'][0]:+.3f} ({low:+.3f} to {high:+.3f})"
        seconds = np.median(row["seconds"])
        print(
            f"{task} {size or 'all':>4} {method:12s} {row['mean']:.3f}   {seconds:4.0f} s"
            f"   {row['peak_mib']:5.0f} MiB   {row['trained_parameters']:,} parameters{difference}",
            flush=True,
        )
    return table


def main(bench: Classifiers) -> None:
    """Run what is missing, and write the tables."""
    if bench.worker is not None:
        work(Path(bench.worker))
        return
    print(f"SetFit may train for {bench.cap} s a seed", flush=True)
    settings = {
        "seeds": list(bench.seeds),
        "max_length": MAX_LENGTH,
        "few": {**FEW, "steps": STEPS},
        "all": ALL,
        "setfit_cap_seconds": bench.cap,
    }
    kept = KeptRows(bench, "classifiers", settings, bench.work / "results.lock")
    tables = {}
    for task in bench.tasks:
        for size in bench.sizes:
            tables[f"{task} {size or 'all'}"] = compared(bench, task, size, kept)
    bench.write("classifiers", {"settings": settings, "groups": kept.read(), "tables": tables})


if __name__ == "__main__":
    run(Classifiers, main)
