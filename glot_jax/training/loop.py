"""The training loop, top-down: what a run is, its steps, its epochs, its summary."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

from glot_jax.batches.feed import Feed, tokens_per_text
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError, require
from glot_jax.files import read_json, write_json
from glot_jax.objectives import OBJECTIVES, evaluate, length_baseline, majority, objective_kind
from glot_jax.training import ranking
from glot_jax.training.checkpoint import Checkpoints
from glot_jax.training.edge_budgets import check_edges
from glot_jax.training.memory import keep_memory
from glot_jax.training.predictions import FILE as PREDICTIONS
from glot_jax.training.predictions import Predictions, write_predictions
from glot_jax.training.prepare import Run, open_folder, prepare, require_store
from glot_jax.training.run_folder import RunFolder, Summary
from glot_jax.training.run_log import Clock, Display, RunLog, only_writer, resume_hint
from glot_jax.training.session import Session
from glot_jax.training.steps import TrainState
from glot_jax.training.stopping import StopSignals

_IN_FLIGHT = 8  # steps dispatched ahead of the device; more would only hold more batches in memory


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    unused: Mapping[str, Any] | None = None,
    given: Collection[str] | None = None,
    quiet: bool = False,
    residents: dict[tuple, Any] | None = None,
    after_epoch: Callable[[int, float], None] | None = None,
) -> dict[str, Any]:
    """Train one head on a store and return the run's summary, which also lies in
    `out/summary.json`.

    On a CPU the whole process keeps a step's memory from then on (`memory.keep_memory`, which says
    how to decide otherwise).

    Args:
        config: everything that decides the numbers.
        resume: continue the run in `config.out` from its latest checkpoint (from the start if it
            has none). A finished run is left as it is.
        unused: options that were given but are not read by this pooler; said in a line, and
            recorded in config.json.
        given: fields that the user named, where others come from a preset or a file: only of these
            it is said that the task does not read them. Default: all whose value is not the
            default.
        quiet: print nothing.
        residents: what runs that follow one another can share: token states already placed, by
            (content, layers, mixed, split, cache), and compiled steps. They pass the same dict.
        after_epoch: called with the epoch, from 1, and its score on the selecting split when both
            are saved. What it raises ends the run there, to be resumed or not.

    Raises:
        UsageError: settings that do not fit the store, the folder or each other; a loss that is not
            finite; a sparse graph that outgrew its budget.
        KeyboardInterrupt, SystemExit: Ctrl-C; SIGTERM (exit code 143). The step in hand is finished
            and saved first, or during an evaluation that evaluation. A second signal ends at once.
            In the main thread only.
    """
    keep_memory()
    display = Display(quiet=quiet)
    if resume:
        RunFolder.open(config.out).require_head()
        require_store(config.store, f"train.py --resume {config.out}")
    run = prepare(
        config,
        display,
        residents if residents is not None else {},
        begun=resume,
        unused=unused or {},
        given=given,
    )
    # Nothing is written before everything above has been checked.
    open_folder(config, run, resume, dict(unused or {}))
    try:
        with only_writer(config.out), StopSignals() as stop:
            summary = _run(config, run, display, stop, after_epoch)
    except OSError as error:
        raise UsageError(
            "a run writes to its folder",
            f"{config.out}: {error}",
            f"Make room or grant access, then continue with --resume {config.out}.",
        ) from error
    if stop.received:  # during the last evaluation: whoever called must stop all the same
        message = f"{stop.received.name}: {config.out} is finished"
        display.line(message)
        raise stop.ending(message)
    return summary


def _run(
    config: TrainConfig,
    run: Run,
    display: Display,
    stop: StopSignals,
    after_epoch: Callable[[int, float], None] | None,
) -> dict[str, Any]:
    with Checkpoints(config.out, writing=True) as checkpoints:
        restored = checkpoints.restore(run.state, display.line)
        state, done = restored or run.state, checkpoints.latest_step or 0
        if _is_finished(run, checkpoints):
            display.line(f"{config.out}: finished already")
            return read_json(config.out / "summary.json")
        if restored:
            display.line(f"resuming after step {done} of {run.total_steps}")
        notes = checkpoints.notes(done) if restored else {}
        first_epoch = done // run.steps_per_epoch
        log = RunLog(config.out, done)
        clock = Clock(log, first_epoch, notes.get("seconds", {}), run.compile_seconds)
        session = Session(run, checkpoints, log, clock, display, stop, notes.get("losses", []))
        try:
            _say_if_the_best_is_lost(session)
            display.start(f"{run.task.name} {config.pooler.pooler}", run.total_steps, done)
            for epoch in range(first_epoch, config.epochs):
                state = _train_epoch(session, state, epoch)
                scores, predictions = _evaluate_all(run, state, epoch + 1, log, clock)
                clock.write(log, epoch + 1)
                session.save(state, _selection(run, scores, epoch))
                if checkpoints.best_step == int(state["step"]):
                    session.predictions = {int(state["step"]): predictions}
                display.line(
                    f"epoch {epoch + 1}: "
                    + "; ".join(f"{split} {_brief(values)}" for split, values in scores.items())
                )
                if after_epoch is not None:
                    after_epoch(epoch + 1, _selection(run, scores, epoch))
                if stop.received and epoch + 1 < config.epochs:
                    session.stop_after(int(state["step"]))
        finally:
            display.stop()
            log.close()
        # On disk before the summary says so: a run with a summary has its last checkpoint.
        checkpoints.wait()
        write_predictions(config.out, _best_predictions(session))
        summary = _summarise(run, log, clock, checkpoints)
    write_json(config.out / "summary.json", summary, again=resume_hint(config.out))
    display.line(
        f"{config.out}: {summary['steps']:,} steps, {summary['examples_per_second']:,.0f}"
        f" examples/s, {summary['input_wait_share']:.1%} of the time waiting for input,"
        f" {summary['compilations']} compilations"
    )
    return summary


def _is_finished(run: Run, checkpoints: Checkpoints) -> bool:
    """Whether the last step is saved, and the summary speaks of the best checkpoint that there is
    (one may be lost since).
    """
    path = run.config.out / "summary.json"
    if (
        checkpoints.latest_step != run.total_steps
        or not path.exists()
        or not path.with_name(PREDICTIONS).exists()
    ):
        return False
    return (
        read_json(path)[run.reported_split]["best"]["epoch"] * run.steps_per_epoch
        == checkpoints.best_step
    )


def _say_if_the_best_is_lost(session: Session) -> None:
    run = session.run
    lines = [line for line in session.log.history if line["split"] == run.selecting_split]
    if not lines:
        return
    best = max(lines, key=lambda line: line[run.metric])
    if best["step"] not in session.checkpoints.steps:
        session.display.line(
            f"the checkpoint of the best epoch so far, {best['epoch']}, is lost: the best is chosen"
            " among those that are left and the epochs to come"
        )


def train_seeds(
    config: TrainConfig,
    seeds: list[int],
    *,
    residents: dict[tuple, Any] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`RUN/seed-<s>/` for each seed, and `RUN/summary.json` = {seeds, mean, std, runs}.

    Called again after a kill or a signal it keeps finished seeds and resumes the one that was
    stopped.

    mean and std (ddof 1; 0 for one seed) hold every number of the seeds' evaluation entries.
    """
    require(
        len(set(seeds)) == len(seeds) and len(seeds) > 0,
        "--seeds are different from one another",
        seeds,
        "Drop the repeats.",
    )
    require(
        not (config.out / "config.json").exists(),
        "--out of several seeds holds a folder per seed",
        f"{config.out}, a run of its own",
        "Choose another --out.",
    )
    residents = {} if residents is None else residents
    singles = [
        dataclasses.replace(config, seed=seed, out=config.out / f"seed-{seed}") for seed in seeds
    ]
    try:
        runs = [
            train(one, resume=(one.out / "config.json").exists(), residents=residents, **options)
            for one in singles
        ]
    except (KeyboardInterrupt, SystemExit):
        Display(quiet=options.get("quiet", False)).line(
            f"{config.out}: the same command finishes the seeds that are left"
        )
        raise
    splits = list(Summary.from_json(runs[0]).splits)
    mean, std = (
        {
            split: {which: _over_runs(runs, split, which, reduce) for which in ("best", "last")}
            for split in splits
        }
        for reduce in (np.mean, lambda values: np.std(values, ddof=1) if len(values) > 1 else 0.0)
    )
    summary = {"seeds": seeds, "mean": mean, "std": std, "runs": [f"seed-{seed}" for seed in seeds]}
    write_json(config.out / "summary.json", summary, again=resume_hint(config.out))
    return summary


# --------------------------------------------------------------------------------------------------
# Epochs


def _train_epoch(session: Session, state: TrainState, epoch: int) -> TrainState:
    run, log = session.run, session.log
    feed, steps, stop = run.feeds["train"], run.steps, session.stop
    begin, last = int(state["step"]), (epoch + 1) * run.steps_per_epoch

    # Compilation is no training: its seconds are taken off both ends.
    def readings() -> dict[str, float]:
        return {
            "train_seconds": time.perf_counter() - run.compile_seconds,
            "waited_for_input_seconds": feed.waited,
        }

    session.clock.start(readings())
    waiting: list[Any] = []
    in_flight: deque[Any] = deque()
    for step, batch in feed.batches(begin, last):
        # No value is read from the device here: the host runs ahead of a GPU, and stops only when
        # it is _IN_FLIGHT steps ahead.
        state, logs = steps.train(state, batch)
        done = step + 1
        waiting.append(logs)
        in_flight.append(logs["loss"])
        if len(in_flight) > _IN_FLIGHT:
            in_flight.popleft().block_until_ready()
        line = done % run.config.log_every == 0 or done == last
        # The save of an epoch's last step waits for its evaluation.
        save = done < last and (stop.received is not None or session.save_is_due())
        if line or save:
            session.losses += _read_logs(run, state, waiting, step)
            waiting = []
        if line:
            loss = float(np.mean(session.losses))
            log.metrics(step=done, epoch=epoch + 1, split="train", loss=loss)
            session.display.advance(done, f"loss {loss:.4f}")
            session.losses = []
            session.checkpoints.check()
        if save:
            session.clock.lap(readings())
            session.save(state)
            if stop.received:
                session.stop_after(done)
    session.clock.lap(readings())
    session.clock.add(rows=len(feed.plan.rows))
    return state


def _read_logs(run: Run, state: TrainState, waiting: list[Any], step: int) -> list[float]:
    """Losses of the steps that nobody has read yet; stops the run where numbers would be wrong."""
    logs, bad = jax.device_get((waiting, state["first_bad_step"]))
    feed = run.feeds["train"]
    dropped = [int(entry["dropped_edges"]) for entry in logs]
    check_edges(
        feed,
        run.steps.edge_budgets,
        dropped,
        range(step + 1 - len(logs), step + 1),
        "train",
        run.config.out,
    )
    if bad >= 0:
        planned = feed.plan(int(bad)).rows
        rows = [int(row) for row in feed.stored_rows(planned[planned >= 0])]
        raise UsageError(
            "loss and gradient are finite at every step",
            f"one that is not at step {int(bad)}, training rows {rows}",
            "Lower --lr or look at these rows; the last checkpoint is kept.",
        )
    return [float(entry["loss"]) for entry in logs]


def _evaluate_all(
    run: Run, state: TrainState, epoch: int, log: RunLog, clock: Clock
) -> tuple[dict[str, dict[str, float]], dict[str, Predictions]]:
    clock.start({"evaluate_seconds": time.perf_counter() - run.compile_seconds})
    scores, predictions = {}, {}
    for split in run.feeds:
        if split != "train":
            scores[split], predictions[split] = evaluate_split(run, state, split)
            log.metrics(step=int(state["step"]), epoch=epoch, split=split, **scores[split])
    clock.lap({"evaluate_seconds": time.perf_counter() - run.compile_seconds})
    return scores, predictions


def evaluate_split(run: Run, state: TrainState, split: str) -> tuple[dict[str, float], Predictions]:
    """The task's metrics and the mean loss over one split; and what was predicted."""
    if run.task.label_kind == "ranking":
        return ranking.evaluate_ranking(run, state, split)
    outputs, losses, rows = split_outputs(run, state, split)
    labels, order = run.feeds[split].labels[rows], np.argsort(rows)
    predicted = OBJECTIVES[objective_kind(run.task)].predict(outputs, run.task)
    scores = {
        **evaluate(outputs, labels, run.task),
        "loss": float(np.mean(losses, dtype=np.float64)),
    }
    return scores, Predictions(predicted[order], labels[order], rows[order])


def _best_predictions(session: Session) -> dict[str, Predictions]:
    """Of the best checkpoint; computed again where another process saw that epoch."""
    run, best = session.run, session.checkpoints.best_step or session.run.total_steps
    if best in session.predictions:
        return session.predictions[best]
    state = session.checkpoints.load(best, run.state)
    return {split: evaluate_split(run, state, split)[1] for split in run.feeds if split != "train"}


def split_outputs(
    run: Run, state: TrainState, split: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(outputs [n, out] float32, losses [n] float32, rows [n] int64 of the stored split), in the
    order of the plan.

    Raises:
        UsageError: an output or a loss that is not finite, or a sparse batch that overflowed.
    """
    feed = run.feeds[split]
    steps = feed.plan.steps_per_epoch
    results: list[Any] = []
    for step, batch in feed.batches(0, steps):
        results.append(run.steps.evaluate(state, batch))
        if step >= _IN_FLIGHT:
            results[step - _IN_FLIGHT]["loss"].block_until_ready()
    results = jax.device_get(results)
    check_edges(
        feed,
        run.steps.edge_budgets,
        [int(result["dropped_edges"]) for result in results],
        range(steps),
        split,
        run.config.out,
    )
    rows = np.concatenate([feed.plan(step).rows for step in range(steps)])
    real = rows >= 0
    outputs = np.concatenate([result["outputs"] for result in results])[real]
    losses = np.concatenate([result["loss"] for result in results])[real]
    broken = rows[real][~(np.isfinite(outputs).all(axis=1) & np.isfinite(losses))]
    require(
        len(broken) == 0,
        "every output and loss of the model is finite",
        f"{len(broken)} that are not, the first in row {broken[:1]} of {split}",
        "Lower --lr; the last checkpoint is kept.",
    )
    return outputs, losses, rows[real]


def _selection(run: Run, scores: Mapping[str, Mapping[str, float]], epoch: int) -> float:
    if run.selected_on == "last":
        return float(epoch)
    return scores[run.selecting_split][run.metric]


# --------------------------------------------------------------------------------------------------
# Summary


def _summarise(run: Run, log: RunLog, clock: Clock, checkpoints: Checkpoints) -> dict[str, Any]:
    splits = [split for split in run.feeds if split != "train"]
    history = {
        split: {line["epoch"]: line for line in log.history if line["split"] == split}
        for split in splits
    }
    for split, lines in history.items():
        lost = {*range(1, run.config.epochs + 1)} - {*lines}
        require(
            not lost,
            f"{log.metrics_path} holds the scores of every epoch",
            f"none of {split} in epoch {min(lost, default=0)}",
            "Lines were lost from it; train again into another --out.",
        )
    # Asked of the checkpoints, not of the log: one may be lost, and what is best is what can be
    # loaded.
    best = (checkpoints.best_step or run.total_steps) // run.steps_per_epoch
    seconds = clock.total
    train_seconds = max(seconds.get("train_seconds", 0), 1e-9)
    baselines = {split: _baselines(run, split) for split in splits}
    return {
        "task": run.task.name,
        "pooler": run.config.pooler.pooler,
        "seed": run.config.seed,
        "store": run.content,
        "selected_on": run.selected_on,
        **{
            split: {
                "best": _entry(history[split][best]),
                "last": _entry(history[split][run.config.epochs]),
            }
            for split in splits
        },
        **baselines[run.reported_split],
        "baselines": baselines,
        "parameters": run.parameters,
        "seconds": {
            "compile": round(run.compile_seconds - clock.compiled_before, 3),
            "train": round(train_seconds, 3),
            "evaluate": round(seconds.get("evaluate_seconds", 0), 3),
        },
        "examples_per_second": round(seconds.get("rows", 0) / train_seconds, 1),
        "steps": run.total_steps,
        "compilations": sum(step != "features" for step, *_ in run.steps.executables),
        "input_wait_share": round(seconds.get("waited_for_input_seconds", 0) / train_seconds, 4),
    }


def _baselines(run: Run, split: str) -> dict[str, dict[str, float]]:
    """What the commonest class (a random order, in a ranking) and the number of tokens alone score
    on a split.
    """
    feed, reported = run.feeds["train"], run.feeds[split]
    if run.task.label_kind == "ranking":
        return ranking.baselines(feed, reported)
    return {
        "majority": majority(
            feed.labels[feed.plan.rows], reported.labels[reported.plan.rows], run.task
        ),
        "length": length_baseline(
            *_lengths_and_labels(feed), *_lengths_and_labels(reported), run.task
        ),
    }


def _lengths_and_labels(feed: Feed) -> tuple[np.ndarray, np.ndarray]:
    return tokens_per_text(feed.reader)[feed.plan.rows], feed.labels[feed.plan.rows]


def _entry(line: Mapping[str, Any]) -> dict[str, float]:
    return {
        **{name: value for name, value in line.items() if name not in ("step", "epoch", "split")},
        "epoch": line["epoch"],
    }


def _over_runs(runs: list[dict[str, Any]], split: str, which: str, reduce: Any) -> dict[str, float]:
    names = runs[0][split][which]
    return {name: float(reduce([run[split][which][name] for run in runs])) for name in names}


def _brief(values: Mapping[str, float]) -> str:
    return " ".join(f"{name} {value:.4f}" for name, value in values.items())
