"""Hyperparameter search on one store with Optuna: a resumable study in SQLite, workers in
processes, pruning, a table.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from glot_jax.config.base import NUMBERS, flag
from glot_jax.config.experiments import SPACE, SweepConfig
from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.errors import UsageError, lookup, require
from glot_jax.files import TABLE_STYLE, locked, read_json, write_json
from glot_jax.store import HiddenStore

_STUDY = "glot"


def run_sweep(config: SweepConfig) -> list[dict[str, Any]]:
    """Search until `config.target` trials are finished (pruned ones count) and write OUT/sweep.json
    and OUT/importance.png.

    Called again it goes on: finished trials stay, one that was stopped in the middle is taken up
        from its checkpoint.
    Returns the trials, best first: number, state, score (of the selecting split), reported {split:
        metrics}, parameters,
    seconds, run (its folder), and the values tried.

    Raises:
        UsageError: settings that fit no store or each other, or OUT of a sweep with other settings.
    """
    optuna = _optuna()
    store = HiddenStore(config.store)
    # Every value is tried on a config now: a misspelt one ends here, not in the seventeenth trial.
    for name, values in config.space.items():
        for value in values:
            _train_config(
                config,
                {**{other: of[0] for other, of in config.space.items()}, name: value},
                config.out,
            )
    from glot_jax.objectives.objective import selection_metric
    from glot_jax.texts.tasks import TaskSpec

    metric = selection_metric(TaskSpec.from_json(store.task), config.metric)
    config.out.mkdir(parents=True, exist_ok=True)
    _require_same(config, store.content)
    from glot_jax.training.run_log import only_writer

    with only_writer(config.out):
        study = _study(config)
        study.set_user_attr("metric", metric)
        _take_up_again(optuna, study)
        if _finished(optuna, study) < config.target:
            _work(config)
    study = _study(config)
    trials = [_describe(config, trial) for trial in study.trials if trial.state.is_finished()]
    trials.sort(
        key=lambda trial: (
            trial["state"] != "complete",
            -(trial["score"] if trial["score"] is not None else float("-inf")),
        )
    )
    write_json(config.out / "sweep.json", trials, TABLE_STYLE)
    importance = _importance(optuna, study)
    if importance:
        _plotter()(
            importance,
            config.out / "importance.png",
            f"{metric} on {config.select_on}, {len(trials)} trials",
        )
    _print_table(config, trials, importance, metric)
    return trials


def command_of(config: SweepConfig, values: dict[str, Any], out: str) -> str:
    """The command that trains one trial again, to the same numbers."""
    run = _train_config(config, values, Path(out))
    parts = [
        "python",
        "train.py",
        "--store",
        str(config.store),
        "--out",
        out,
        "--pooler",
        "glot",
        "--epochs",
        str(config.epochs),
        "--batch-size",
        str(config.batch_size),
        "--seed",
        str(config.seed),
        "--select-on",
        config.select_on,
    ]
    if config.metric is not None:
        parts += ["--metric", config.metric]
    for name in SPACE:
        if name != "projection_dim" or run.pooler.projection_dim is not None:
            parts += [flag(name), f"{values[name]}"]
    return shlex.join(parts)


def _train_config(config: SweepConfig, values: dict[str, Any], out: Path) -> TrainConfig:
    return TrainConfig(
        store=config.store,
        out=out,
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
        graph=GraphConfig(tau=values["tau"]),
        pooler=PoolerConfig(
            hidden_dim=values["hidden_dim"],
            num_layers=values["num_layers"],
            jk=values["jk"],
            projection_dim=values["projection_dim"] or None,
        ),
        optimizer=OptimizerConfig(lr=values["lr"], weight_decay=values["weight_decay"]),
        objective=ObjectiveConfig(select_on=config.select_on, metric=config.metric),
    )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise UsageError(
            "sweeps need optuna", str(error), "Install the extra: pip install 'glot-jax[sweep]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _plotter() -> Any:
    try:
        from glot_jax.reporting.figures import plot_importance
    except ImportError as error:
        raise UsageError(
            "the figure needs matplotlib",
            str(error),
            "Install the extra: pip install 'glot-jax[viz]'.",
        ) from error
    return plot_importance


# --------------------------------------------------------------------------------------------------
# The study


def _study(config: SweepConfig, sampler_seed: int | None = None) -> Any:
    optuna = _optuna()
    seed = config.seed if sampler_seed is None else sampler_seed
    sampler = lookup(
        {
            "tpe": lambda: optuna.samplers.TPESampler(seed=seed, constant_liar=True),
            "random": lambda: optuna.samplers.RandomSampler(seed=seed),
            "grid": lambda: optuna.samplers.RandomSampler(
                seed=seed
            ),  # which combination is next is `_untried`'s to say
        },
        config.sampler,
        "sampler (--sampler)",
    )()
    pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=5)
        if config.prune
        else optuna.pruners.NopPruner()
    )
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{config.out / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
    )
    return optuna.create_study(
        study_name=_STUDY,
        storage=storage,
        sampler=sampler,
        pruner=pruner,
        direction="maximize",
        load_if_exists=True,
    )


def _require_same(config: SweepConfig, content: str) -> None:
    """OUT belongs to one search: what decides a trial's numbers, and the values tried."""
    wanted = {
        "store": content,
        "space": config.space,
        **config.part(NUMBERS),
    }
    path = config.out / "settings.json"
    if not path.exists():
        write_json(path, wanted, TABLE_STYLE)
        return
    found = read_json(path, "Delete it and give the same settings again: finished trials are kept.")
    changed = [
        f"{name}: {found.get(name)} -> {value}"
        for name, value in json.loads(json.dumps(wanted)).items()
        if found.get(name) != value
    ]
    require(
        not changed,
        "a sweep goes on with its own settings",
        "; ".join(changed),
        f"Give those of {path}, or another --out.",
    )


def _finished(optuna: Any, study: Any) -> int:
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return len(study.get_trials(deepcopy=False, states=states))


def _take_up_again(optuna: Any, study: Any) -> None:
    """Trials that were running when an earlier call ended are begun again, and find their
    checkpoints.
    """
    states = optuna.trial.TrialState
    for trial in study.get_trials(deepcopy=False, states=(states.RUNNING,)):
        study.tell(trial.number, state=states.FAIL)
        if len(trial.params) == len(SPACE):
            study.enqueue_trial(trial.params, skip_if_exists=False)


def _work(config: SweepConfig) -> None:
    if config.workers == 1:
        _worker(config, 0)
        return
    context = multiprocessing.get_context("spawn")  # JAX has threads: a fork could hang
    workers = [
        context.Process(target=_worker, args=(config, number)) for number in range(config.workers)
    ]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except BaseException:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        raise
    failed = [worker.exitcode for worker in workers if worker.exitcode]
    require(
        not failed,
        "every worker of a sweep ends well",
        f"exit codes {failed}",
        "See its message above; the same command goes on.",
    )


_REPEATS = 8  # in a row, before a sampler that has made up its mind is helped


def _worker(config: SweepConfig, number: int) -> None:
    """Train trials until there are enough.

    No combination is tried twice: a sampler's repeat gives way to an untried one.
    """
    optuna = _optuna()
    states = optuna.trial.TrialState
    study = _study(config, config.seed + number)
    residents: dict[tuple, Any] = {}
    repeats = 0
    while True:
        # One worker at a time chooses: another's trial is in the study before its values are, and
        # the same ones could be chosen meanwhile.
        with locked(config.out / "choosing.lock", wait=True):
            live = _live(optuna, study)
            if len(live) >= config.target:
                return
            if not study.get_trials(deepcopy=False, states=(states.WAITING,)) and (
                config.sampler == "grid" or repeats >= _REPEATS
            ):
                study.enqueue_trial(_untried(live, config))
            trial = study.ask()
            values = {
                name: trial.suggest_categorical(name, of) for name, of in config.space.items()
            }
            if any(other.params == values for other in live):
                study.tell(trial, state=states.FAIL)
                repeats += 1
                continue
        repeats = 0
        try:
            study.tell(trial, _run_trial(config, trial, values, residents))
        except optuna.TrialPruned:
            study.tell(trial, state=states.PRUNED)


def _live(optuna: Any, study: Any) -> list[Any]:
    """Trials that are running or finished."""
    states = optuna.trial.TrialState
    return study.get_trials(deepcopy=False, states=(states.RUNNING, states.COMPLETE, states.PRUNED))


def _untried(live: list[Any], config: SweepConfig) -> dict[str, Any]:
    """A combination that no live trial has, in an order that the seed decides."""
    grid = [
        dict(zip(SPACE, values, strict=True))
        for values in itertools.product(*config.space.values())
    ]
    tried = [trial.params for trial in live]
    return next(
        grid[i]
        for i in np.random.default_rng(config.seed).permutation(len(grid))
        if grid[i] not in tried
    )


def _run_trial(
    config: SweepConfig, trial: Any, values: dict[str, Any], residents: dict[tuple, Any]
) -> float:
    from glot_jax.training import train
    from glot_jax.training.run_folder import Summary

    run = _train_config(config, values, _folder(config, values))
    trial.set_user_attr("run", str(run.out))
    optuna, begin = _optuna(), time.perf_counter()
    scores: list[float] = []

    def report(epoch: int, score: float) -> None:
        scores.append(score)
        trial.report(max(scores), epoch)
        # The last epoch is paid for already.
        if epoch < config.epochs and trial.should_prune():
            raise optuna.TrialPruned

    values_of_summary = train(
        run,
        resume=(run.out / "config.json").exists(),
        quiet=True,
        residents=residents,
        after_epoch=report,
    )
    summary = Summary.from_json(values_of_summary)
    trial.set_user_attr(
        "reported", {name: dict(scores.best) for name, scores in summary.splits.items()}
    )
    trial.set_user_attr("parameters", summary.trained_parameters)
    best = float(summary.selecting.best[trial.study.user_attrs["metric"]])
    print(
        f"trial {trial.number}: {best:.4f} in {time.perf_counter() - begin:.0f} s, {values}",
        file=sys.stderr,
        flush=True,
    )
    return best


def _folder(config: SweepConfig, values: dict[str, Any]) -> Path:
    """Named by its values: the same trial finds the same folder again."""
    return (
        config.out
        / "trials"
        / hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    )


# --------------------------------------------------------------------------------------------------
# What came of it


def _describe(config: SweepConfig, trial: Any) -> dict[str, Any]:
    seconds = (
        (trial.datetime_complete - trial.datetime_start).total_seconds()
        if trial.datetime_start and trial.datetime_complete
        else None
    )
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "score": trial.value,
        "reported": trial.user_attrs.get("reported"),
        "parameters": trial.user_attrs.get("parameters"),
        "seconds": seconds,
        "run": trial.user_attrs.get("run"),
        **trial.params,
    }


def _importance(optuna: Any, study: Any) -> dict[str, float]:
    """Share of the scores' variance that each setting explains (functional ANOVA); empty where too
    little varies.
    """
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    varied = [name for name in SPACE if len({trial.params[name] for trial in complete}) > 1]
    if len(complete) < 4 or not varied or len({trial.value for trial in complete}) == 1:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return dict(optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied))


def _print_table(
    config: SweepConfig, trials: list[dict[str, Any]], importance: dict[str, float], metric: str
) -> None:
    varied = [name for name in SPACE if len(config.space[name]) > 1]
    table = Table(
        title=(
            f"{metric} on {config.select_on}; {len(trials)} trials,"
            f" {sum(of['state'] == 'pruned' for of in trials)} pruned"
        )
    )
    for column in (*varied, metric, "reported", "parameters", "s"):
        table.add_column(column, justify="right")
    for trial in trials[:10]:
        others = {
            split: of
            for split, of in (trial["reported"] or {}).items()
            if split != config.select_on
        }
        reported = ", ".join(f"{split} {of[metric]:.4f}" for split, of in others.items())
        table.add_row(
            *(str(trial.get(name)) for name in varied),
            trial["state"] if trial["state"] != "complete" else f"{trial['score']:.4f}",
            reported,
            f"{trial['parameters']:,}" if trial["parameters"] else "",
            f"{trial['seconds']:.0f}" if trial["seconds"] else "",
        )
    console = Console()
    console = console if console.is_terminal else Console(width=150)
    console.print(table)
    if importance:
        console.print(
            "importance: " + ", ".join(f"{name} {share:.2f}" for name, share in importance.items())
        )
    best = next((trial for trial in trials if trial["state"] == "complete"), None)
    if best is not None:
        console.print(
            "the best again:",
            command_of(config, {name: best[name] for name in SPACE}, "runs/best"),
            soft_wrap=True,
        )
