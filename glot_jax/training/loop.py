"""The training loop, top-down: what a run is, its steps, its epochs, its summary."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from glot_jax.config import TrainConfig, UsageError, require
from glot_jax.config_json import read_json
from glot_jax.objectives import evaluate, majority
from glot_jax.training.checkpoint import Checkpoints
from glot_jax.training.feed import States
from glot_jax.training.run import Run, open_folder, prepare
from glot_jax.training.run_log import Display, RunLog, read_run_config, write_json
from glot_jax.training.steps import TrainState

_IN_FLIGHT = 8  # steps dispatched ahead of the device; more would only hold more batches in memory


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    unused: Mapping[str, Any] | None = None,
    quiet: bool = False,
    residents: dict[tuple, States] | None = None,
) -> dict[str, Any]:
    """Train one head on a store and return the run's summary, which also lies in `out/summary.json`.

    Args:
        config: everything that decides the numbers.
        resume: continue the run in `config.out` from its latest checkpoint (from the start if it has none). A finished
            run is left as it is.
        unused: options that were given but are not read by this pooler; recorded in config.json.
        quiet: print nothing.
        residents: token states already placed, by (content, layers, mixed, split, cache); runs that follow one another on the
            same store pass the same dict and load them once.

    Raises:
        UsageError: settings that do not fit the store, the folder or each other; a loss that is not finite; a sparse
            graph that outgrew its budget.
    """
    display = Display(quiet=quiet)
    if resume:
        saved = read_run_config(config.out)
        require("imported" not in saved, "a run that was begun is continued", f"{config.out}, imported without a task", f"Train one: train.py --config {config.out}/config.json --store STORE --out NEW.")
    run = prepare(config, display, residents if residents is not None else {})
    # Nothing is written before everything above has been checked.
    open_folder(config, run, resume, dict(unused or {}))
    try:
        return _run(config, run, display)
    except OSError as error:
        raise UsageError(
            "a run writes to its folder", f"{config.out}: {error}", f"Make room or grant access, then continue with --resume {config.out}."
        ) from error


def _run(config: TrainConfig, run: Run, display: Display) -> dict[str, Any]:
    with Checkpoints(config.out, writing=True) as checkpoints:
        state = run.state
        if checkpoints.latest_step == run.total_steps and (config.out / "summary.json").exists():
            display.line(f"{config.out}: finished already")
            return read_json(config.out / "summary.json")
        if checkpoints.latest_step is not None:
            state = checkpoints.load(checkpoints.latest_step, state)
            display.line(f"resuming after step {int(state['step'])} of {run.total_steps}")
        log = RunLog(config.out, int(state["step"]))
        first_epoch = int(state["step"]) // run.steps_per_epoch
        clock = _Clock.continued(log, first_epoch, run)
        try:
            display.start(f"{run.task.name} {config.pooler.pooler}", run.total_steps, int(state["step"]))
            for epoch in range(first_epoch, config.epochs):
                state = _train_epoch(run, state, epoch, log, clock, display)
                scores = _evaluate_all(run, state, epoch + 1, log, clock)
                clock.write(log, epoch + 1)
                log.sync()
                checkpoints.save(state, _selection(run, scores, epoch))
                display.line(f"epoch {epoch + 1}: " + "; ".join(f"{split} {_brief(values)}" for split, values in scores.items()))
        finally:
            display.stop()
            log.close()
    summary = _summarise(run, log, clock)
    write_json(config.out / "summary.json", summary)
    display.line(
        f"{config.out}: {summary['steps']:,} steps, {summary['examples_per_second']:,.0f} examples/s, "
        f"{summary['input_wait_share']:.1%} of the time waiting for input, {summary['compilations']} compilations"
    )
    return summary


def train_seeds(
    config: TrainConfig, seeds: list[int], *, residents: dict[tuple, States] | None = None, **options: Any
) -> dict[str, Any]:
    """`RUN/seed-<s>/` for each seed, and `RUN/summary.json` = {seeds, mean, std, runs}.

    Called again after a kill it keeps finished seeds and resumes the one that was stopped.

    mean and std (ddof 1; 0 for one seed) hold every number of the seeds' evaluation entries.
    """
    require(len(set(seeds)) == len(seeds) and len(seeds) > 0, "--seeds are different from one another", seeds, "Drop the repeats.")
    require(
        not (config.out / "config.json").exists(), "--out of several seeds holds a folder per seed",
        f"{config.out}, a run of its own", "Choose another --out.",
    )
    residents = {} if residents is None else residents
    singles = [dataclasses.replace(config, seed=seed, out=config.out / f"seed-{seed}") for seed in seeds]
    runs = [train(one, resume=(one.out / "config.json").exists(), residents=residents, **options) for one in singles]
    splits = [name for name, value in runs[0].items() if isinstance(value, dict) and "best" in value]
    mean, std = (
        {split: {which: _over_runs(runs, split, which, reduce) for which in ("best", "last")} for split in splits}
        for reduce in (np.mean, lambda values: np.std(values, ddof=1) if len(values) > 1 else 0.0)
    )
    summary = {"seeds": seeds, "mean": mean, "std": std, "runs": [f"seed-{seed}" for seed in seeds]}
    write_json(config.out / "summary.json", summary)
    return summary


# ---------------------------------------------------------------------------------------------------------------------
# Epochs


@dataclasses.dataclass
class _Clock:
    """Seconds of an epoch, added up over the epochs of a run, those of earlier processes included."""

    compiled_before: float
    """Compilation that earlier runs on the same resident states paid for."""
    epoch: dict[str, float] = dataclasses.field(default_factory=dict)
    total: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def continued(cls, log: RunLog, first_epoch: int, run: Run) -> _Clock:
        clock = cls(run.compile_seconds)
        for epoch in range(1, first_epoch + 1):
            clock.epoch = {name: value for name, value in log.epochs_timed.get(epoch, {}).items() if name not in ("time", "epoch")}
            clock._add()
        return clock

    def _add(self) -> None:
        self.total = {name: self.total.get(name, 0) + value for name, value in {**dict.fromkeys(self.total, 0), **self.epoch}.items()}
        self.epoch = {}

    def write(self, log: RunLog, epoch: int) -> None:
        log.timing(epoch=epoch, **{name: round(value, 4) for name, value in self.epoch.items()})
        self._add()


def _train_epoch(run: Run, state: TrainState, epoch: int, log: RunLog, clock: _Clock, display: Display) -> TrainState:
    feed, steps = run.feeds["train"], run.steps
    done, last = int(state["step"]), (epoch + 1) * run.steps_per_epoch
    begin, compiled, waited = time.perf_counter(), run.compile_seconds, feed.waited
    waiting: list[Any] = []
    in_flight: deque[Any] = deque()
    for step, batch in feed.batches(done, last):
        # No value is read from the device here: the host runs ahead, and stops only when it is _IN_FLIGHT steps ahead.
        state, logs = steps.train(state, batch)
        waiting.append(logs)
        in_flight.append(logs["loss"])
        if len(in_flight) > _IN_FLIGHT:
            in_flight.popleft().block_until_ready()
        if (step + 1) % run.config.log_every == 0 or step + 1 == last:
            loss = _read_logs(run, state, waiting, step)
            log.metrics(step=step + 1, epoch=epoch + 1, split="train", loss=loss)
            display.advance(step + 1, f"loss {loss:.4f}")
            waiting = []
    clock.epoch = {
        "train_seconds": time.perf_counter() - begin - (run.compile_seconds - compiled),
        "waited_for_input_seconds": feed.waited - waited, "rows": len(feed.plan.rows),
    }
    return state


def _read_logs(run: Run, state: TrainState, waiting: list[Any], step: int) -> float:
    """Mean loss of the steps since the last line; stops the run where numbers would be wrong."""
    logs, bad = jax.device_get((waiting, state["first_bad_step"]))
    _check_edges(run, [int(entry["dropped_edges"]) for entry in logs], range(step + 1 - len(logs), step + 1), "train")
    if bad >= 0:
        rows = [int(row) for row in run.feeds["train"].plan(int(bad)).rows if row >= 0]
        raise UsageError(
            "loss and gradient are finite at every step", f"one that is not at step {int(bad)}, training rows {rows}",
            "Lower --lr or look at these rows; the last checkpoint is kept.",
        )
    return float(np.mean([np.float64(entry["loss"]) for entry in logs]))


def _check_edges(run: Run, dropped: list[int], steps: range, split: str) -> None:
    for step, missing in zip(steps, dropped, strict=True):
        if missing:
            plan = run.feeds[split].plan
            budget = run.steps.edge_budgets[plan.batch_size * len(run.task.roles), plan(step).length]
            needed = 1 << (budget + missing - 1).bit_length()
            raise UsageError(
                f"a sparse batch holds at most {budget:,} edges", f"{budget + missing:,} in a batch of {split}, {missing:,} too many",
                f"Give --edge-budget {needed} or more, with --resume {run.config.out} if it was training.",
            )


def _evaluate_all(run: Run, state: TrainState, epoch: int, log: RunLog, clock: _Clock) -> dict[str, dict[str, float]]:
    begin, compiled = time.perf_counter(), run.compile_seconds
    scores = {}
    for split in run.feeds:
        if split != "train":
            scores[split] = evaluate_split(run, state, split)
            log.metrics(step=int(state["step"]), epoch=epoch, split=split, **scores[split])
    clock.epoch["evaluate_seconds"] = time.perf_counter() - begin - (run.compile_seconds - compiled)
    return scores


def evaluate_split(run: Run, state: TrainState, split: str) -> dict[str, float]:
    """The task's metrics and the mean loss over one split."""
    feed = run.feeds[split]
    steps = feed.plan.steps_per_epoch
    results: list[Any] = []
    for step, batch in feed.batches(0, steps):
        results.append(run.steps.evaluate(state, batch))
        if step >= _IN_FLIGHT:
            results[step - _IN_FLIGHT]["loss"].block_until_ready()
    results = jax.device_get(results)
    _check_edges(run, [int(result["dropped_edges"]) for result in results], range(steps), split)
    rows = np.concatenate([feed.plan(step).rows for step in range(steps)])
    real = rows >= 0
    outputs = np.concatenate([result["outputs"] for result in results])[real]
    losses = np.concatenate([result["loss"] for result in results])[real]
    broken = rows[real][~np.isfinite(outputs).all(axis=1)]
    require(
        len(broken) == 0, "every output of the model is finite", f"{len(broken)} that are not, the first in row {broken[:1]} of {split}",
        "Lower --lr; the last checkpoint is kept.",
    )
    return {**evaluate(outputs, feed.labels[rows[real]], run.task), "loss": float(np.mean(losses, dtype=np.float64))}


def _selection(run: Run, scores: Mapping[str, Mapping[str, float]], epoch: int) -> float:
    if run.selected_on == "last":
        return float(epoch)
    return scores[run.selecting_split][run.metric]


# ---------------------------------------------------------------------------------------------------------------------
# Summary


def _summarise(run: Run, log: RunLog, clock: _Clock) -> dict[str, Any]:
    splits = [split for split in run.feeds if split != "train"]
    history = {split: [line for line in log.history if line["split"] == split] for split in splits}
    epochs = range(len(next(iter(history.values()))))
    if run.selected_on == "last":
        best = epochs[-1]
    else:
        best = max(epochs, key=lambda epoch: history[run.selecting_split][epoch][run.metric])
    feed = run.feeds["train"]
    reported = run.feeds[run.reported_split]
    seconds = clock.total
    train_seconds = max(seconds.get("train_seconds", 0), 1e-9)
    return {
        "task": run.task.name, "pooler": run.config.pooler.pooler, "seed": run.config.seed, "store": run.content,
        "selected_on": run.selected_on,
        **{split: {"best": _entry(history[split][best]), "last": _entry(history[split][-1])} for split in splits},
        "majority": majority(feed.labels[feed.plan.rows], reported.labels[reported.plan.rows], run.task),
        "parameters": run.parameters,
        "seconds": {
            "compile": round(run.compile_seconds - clock.compiled_before, 3), "train": round(train_seconds, 3),
            "evaluate": round(seconds.get("evaluate_seconds", 0), 3),
        },
        "examples_per_second": round(seconds.get("rows", 0) / train_seconds, 1),
        "steps": run.total_steps, "compilations": len(run.steps.executables),
        "input_wait_share": round(seconds.get("waited_for_input_seconds", 0) / train_seconds, 4),
    }


def _entry(line: Mapping[str, Any]) -> dict[str, float]:
    return {**{name: value for name, value in line.items() if name not in ("step", "epoch", "split")}, "epoch": line["epoch"]}


def _over_runs(runs: list[dict[str, Any]], split: str, which: str, reduce: Any) -> dict[str, float]:
    names = runs[0][split][which]
    return {name: float(reduce([run[split][which][name] for run in runs])) for name in names}


def _brief(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in values.items())
