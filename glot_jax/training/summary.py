"""What goes to summary.json of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glot_jax.errors import UsageError
from glot_jax.health import Finding, grown_loss, not_learned
from glot_jax.health.learning import Ending
from glot_jax.objectives.baselines import Baselines
from glot_jax.objectives.objective import ConstantLoss
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.run_log import Clock, RunLog
from glot_jax.training.prepare import TrainingRun


def summarise(
    run: TrainingRun,
    log: RunLog,
    clock: Clock,
    checkpoints: Checkpoints,
) -> dict[str, Any]:
    """The summary of a run; `run_folder.Summary` reads it.

    Raises:
        UsageError: the log has lost lines.
    """
    # Asked of the checkpoints, not of the log: one may be lost, and what is best is what can be
    # loaded.
    best_step = checkpoints.best_step or run.total_steps
    # Whole: only the save at the end of an epoch takes part in the choice.
    best = best_step // run.steps_per_epoch
    splits = {}
    for split in run.evaluation_splits:
        by_epoch = _scores_by_epoch(run, log, split)
        splits[split] = {
            "best": _entry(by_epoch[best]),
            "last": _entry(by_epoch[run.config.epochs]),
        }
    seconds = clock.total
    # The floor: a run of a few steps may take no time at all by the clock.
    train_seconds = max(seconds.get("train_seconds", 0), 1e-9)
    train = run.feeds["train"]
    waited = seconds.get("waited_for_input_seconds", 0)
    baselines = {}
    for split in run.evaluation_splits:
        feed = run.feeds[split]
        baselines[split] = run.objective.baselines(train, feed)
    findings = [*run.findings, *found_at_end(run, log, best, baselines)]
    # The contract counts executables of the training and evaluation steps.
    counted = [step for step, *_ in run.steps.executables if step != "features"]
    return {
        "task": run.task.name,
        "pooler": run.config.pooler.pooler,
        "seed": run.config.seed,
        "store": run.content,
        "selected_on": run.selected_on,
        **splits,
        # Where version 0.1 had them, and other tools read them.
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
        "compilations": len(counted),
        "input_wait_share": round(waited / train_seconds, 4),
        "health": [finding.to_json() for finding in findings],
    }


def found_at_end(
    run: TrainingRun, log: RunLog, best: int, baselines: Mapping[str, Baselines]
) -> list[Finding]:
    """What looks wrong after the last step.

    Args:
        run: that has been trained.
        log: its lines.
        best: the epoch that was chosen, from 1.
        baselines: of each evaluation split.
    """
    losses = [line["loss"] for line in log.history if line["split"] == "train"]
    findings = grown_loss(losses)
    # Nothing selects where the last epoch is taken.
    split = run.selecting_split if run.selecting_split in run.feeds else run.reported_split
    constant = baselines[split].get("majority", {})
    # An objective of a plugin may have other baselines.
    if run.metric not in constant:
        return findings
    # A ranking has no answer that is the same for every row.
    constant_loss = None
    if isinstance(run.objective, ConstantLoss):
        constant_loss = run.objective.constant_loss(run.feeds["train"].planned_labels)
    ending = Ending(
        metric=run.metric,
        score=_scores_by_epoch(run, log, split)[best][run.metric],
        constant_score=constant[run.metric],
        split=split,
        rows=len(run.feeds[split].plan.rows),
        epochs=run.config.epochs,
        first_loss=_mean_loss(log, 1),
        loss=_mean_loss(log, run.config.epochs),
        constant_loss=constant_loss,
    )
    return [*not_learned(ending), *findings]


def _mean_loss(log: RunLog, epoch: int) -> float:
    """Mean training loss of an epoch: each line has that of the steps since the line before."""
    total = 0.0
    steps = 0
    before = 0
    for line in log.history:
        if line["split"] != "train":
            continue
        if line["epoch"] == epoch:
            total += line["loss"] * (line["step"] - before)
            steps += line["step"] - before
        before = line["step"]
    return total / max(steps, 1)


def _scores_by_epoch(
    run: TrainingRun,
    log: RunLog,
    split: str,
) -> dict[int, Mapping[str, Any]]:
    """Lines of metrics.jsonl about a split, by epoch."""
    lines: dict[int, Mapping[str, Any]] = {}
    for line in log.history:
        if line["split"] == split:
            lines[line["epoch"]] = line
    # A resumed run relies on the lines of the processes before it, which a full disk may have cut.
    epochs = range(1, run.config.epochs + 1)
    lost = set(epochs) - set(lines)
    if lost:
        raise UsageError(
            rule=f"{log.metrics_path} must hold the scores of every epoch",
            got=f"none of {split} in epoch {min(lost)}",
            fix="Lines were lost from it; train again into another --out.",
        )
    return lines


def _entry(line: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a line of metrics.jsonl, then its epoch."""
    entry = {}
    for name, value in line.items():
        if name not in ("step", "epoch", "split"):
            entry[name] = value
    entry["epoch"] = line["epoch"]
    return entry
