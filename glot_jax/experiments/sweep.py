"""`glot sweep`: hyperparameter search on one store, in several processes, resumable."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from glot_jax.compile_cache import folder_in_use, use_compile_cache
from glot_jax.config.base import NUMBERS
from glot_jax.config.experiments import SPACE, SweepConfig
from glot_jax.errors import UsageError, missing_extra
from glot_jax.experiments.study import Study, load_optuna
from glot_jax.experiments.sweep_trials import (
    SweepTrial,
    command_of,
    trial_config,
    trial_folder,
)
from glot_jax.files import TABLE_STYLE, locked, read_json, write_json
from glot_jax.reporting.tables import Column, Table, table_console
from glot_jax.store import HiddenStore
from glot_jax.texts.tasks import TaskSpec, selection_metric
from glot_jax.training.workspace import Workspace

if TYPE_CHECKING:
    from optuna.trial import Trial

_SHOWN = 10  # trials of the printed table


def run_sweep(config: SweepConfig) -> list[SweepTrial]:
    """Search until `config.target` trials are finished; pruned ones count.

    Writes OUT/sweep.json and OUT/importance.png.

    Called again it goes on: finished trials stay, one that was stopped in the middle is taken up
    from its checkpoint.

    Returns:
        The trials, best first.

    Raises:
        UsageError: settings that fit no store or each other, or OUT of a sweep with other settings.
    """
    load_optuna()
    store = HiddenStore(config.store)
    _require_values(config)
    metric = _metric(config, store)
    # Nothing is written before every setting has been checked.
    config.out.mkdir(parents=True, exist_ok=True)
    _require_same(config, store.content)
    from glot_jax.run_folders.run_log import only_writer

    # Two sweeps in one folder would each count the other one's trials.
    with only_writer(config.out):
        study = Study(config)
        study.metric = metric
        study.take_up_again()
        if study.finished() < config.target:
            _work(config)
    # Opened again: the workers' trials are in the file.
    study = Study(config)
    trials = study.results()
    values = [trial.to_json() for trial in trials]
    write_json(config.out / "sweep.json", values, TABLE_STYLE)
    importance = study.importance()
    if importance:
        title = f"{metric} on {config.select_on}, {len(trials)} trials"
        _plotter()(importance, config.out / "importance.png", title)
    print_sweep(config, trials, importance, metric)
    return trials


def _require_values(config: SweepConfig) -> None:
    """Try every value on a config now: a misspelt one ends here, not in the seventeenth trial."""
    # One value at a time, the others as first given: they are checked by themselves.
    first = {name: values[0] for name, values in config.space.items()}
    for name, values in config.space.items():
        for value in values:
            trial_config(config, {**first, name: value}, config.out)


def _metric(config: SweepConfig, store: HiddenStore) -> str:
    return selection_metric(TaskSpec.from_json(store.task), config.metric)


def _plotter() -> Callable[..., None]:
    try:
        from glot_jax.reporting.figures import plot_importance
    except ImportError as error:
        raise missing_extra("viz", "the figure", "matplotlib", error) from error
    return plot_importance


def _require_same(config: SweepConfig, content: str) -> None:
    """Refuse an OUT that belongs to another search.

    One with other values, or with another setting that decides a trial's numbers.
    """
    # By its content: the same store may lie elsewhere today.
    numbers = {name: getattr(config, name) for name in config.names(NUMBERS)}
    settings = {"store": content, "space": config.space, **numbers}
    path = config.out / "settings.json"
    if not path.exists():
        write_json(path, settings, TABLE_STYLE)
        return
    earlier = read_json(
        path, "Delete it and give the same settings again: finished trials are kept."
    )
    changed = []
    # As JSON has them: a tuple is a list there.
    for name, value in json.loads(json.dumps(settings)).items():
        if earlier.get(name) != value:
            changed.append(f"{name}: {earlier.get(name)} -> {value}")
    if changed:
        raise UsageError(
            rule="a sweep must go on with its own settings",
            got="; ".join(changed),
            fix=f"Give those of {path}, or another --out.",
        )


def _work(config: SweepConfig) -> None:
    if config.workers == 1:
        work(config, 0)
        return
    context = multiprocessing.get_context("spawn")  # JAX has threads: a fork could hang
    programs = folder_in_use()
    workers = []
    for number in range(config.workers):
        worker = context.Process(target=_work_apart, args=(config, number, programs))
        worker.start()
        workers.append(worker)
    try:
        for worker in workers:
            worker.join()
    except BaseException:
        # Ctrl-C reaches the workers by itself, other errors do not.
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        raise
    codes = []
    for worker in workers:
        # 0 is a good end.
        if worker.exitcode:
            codes.append(worker.exitcode)
    if codes:
        raise UsageError(
            rule="every worker of a sweep must end well",
            got=f"exit codes {codes}",
            fix="See its message above; the same command goes on.",
        )


def _work_apart(config: SweepConfig, number: int, programs: Path | None) -> None:
    """`work` in a process of its own, which keeps compiled programs where the first one does."""
    if programs is not None:
        use_compile_cache(programs)
    work(config, number)


def work(config: SweepConfig, number: int) -> None:
    """Train trials until there are enough.

    No combination is tried twice: a sampler's repeat gives way to an untried one.

    Args:
        config: of the sweep.
        number: of this worker, from 0; each has a sampler of its own.
    """
    study = Study(config, config.seed + number)
    # Token states and compiled steps, which trials of one process share.
    workspace = Workspace()
    while True:
        with locked(config.out / "choosing.lock", wait=True):
            trial = study.next_trial()
        if trial is None:
            return
        try:
            score = train_trial(config, trial, study.metric, workspace)
        except study.optuna.TrialPruned:
            study.tell_pruned(trial)
        else:
            study.tell_score(trial, score)


def train_trial(
    config: SweepConfig,
    trial: Trial,
    metric: str,
    workspace: Workspace,
) -> float:
    """Train one trial, or go on where it was stopped.

    Args:
        config: of the sweep.
        trial: Optuna's; it is told the best score after each epoch.
        metric: that trials are compared by.
        workspace: see `glot_jax.training.train`.

    Returns:
        Its best score on the selecting split.

    Raises:
        optuna.TrialPruned: the trial fell behind the others.
    """
    from glot_jax.run_folders.run_folder import Summary
    from glot_jax.training import train

    run = trial_config(config, trial.params, trial_folder(config, trial.params))
    # Before training: the folder of a pruned trial is to be known as well.
    trial.set_user_attr("run", str(run.out))
    begin = time.perf_counter()
    scores: list[float] = []

    def report(epoch: int, score: float) -> None:
        scores.append(score)
        # The best so far: a run is selected by its best epoch, not by its last.
        trial.report(max(scores), epoch)
        # The last epoch is paid for already.
        if epoch < config.epochs and trial.should_prune():
            raise load_optuna().TrialPruned

    # A trial that was stopped is found by its values.
    resume = (run.out / "config.json").exists()
    summary = Summary.from_json(
        train(
            run,
            resume=resume,
            quiet=True,
            workspace=workspace,
            after_epoch=report,
        )
    )
    reported = {name: dict(scores.best) for name, scores in summary.splits.items()}
    trial.set_user_attr("reported", reported)
    trial.set_user_attr("parameters", summary.trained_parameters)
    best = float(summary.selecting.best[metric])
    print(
        f"trial {trial.number}: {best:.4f} in {time.perf_counter() - begin:.0f} s, {trial.params}",
        file=sys.stderr,
        flush=True,
    )
    return best


def print_sweep(
    config: SweepConfig,
    trials: Sequence[SweepTrial],
    importance: Mapping[str, float],
    metric: str,
) -> None:
    """Print the best trials, the importance of the settings, and the command of the best.

    Args:
        config: of the sweep.
        trials: best first.
        importance: setting -> share of the variance; empty: not known.
        metric: that trials are compared by.
    """
    pruned = [trial.state for trial in trials].count("pruned")
    title = f"{metric} on {config.select_on}; {len(trials)} trials, {pruned} pruned"
    table = Table.by_columns(_columns(config, metric), trials[:_SHOWN])
    console = table_console()
    console.print(table.to_console(title))
    if importance:
        shares = []
        for name, share in importance.items():
            shares.append(f"{name} {share:.2f}")
        console.print(f"importance: {', '.join(shares)}")
    # Best first: only where no trial was complete does another state stand at the head.
    if trials and trials[0].state == "complete":
        command = command_of(config, trials[0].values, "runs/best")
        # On one line, so that it can be copied.
        console.print("the best again:", command, soft_wrap=True)


def _columns(config: SweepConfig, metric: str) -> list[Column[SweepTrial]]:
    def reported(trial: SweepTrial) -> str:
        texts = []
        for split, scores in (trial.reported or {}).items():
            # The selecting split has a column of its own.
            if split != config.select_on:
                texts.append(f"{split} {scores[metric]:.4f}")
        return ", ".join(texts)

    columns = []
    for name in SPACE:
        # A setting with one value tells no trial from another.
        varied = len(config.space[name]) > 1
        columns.append(_value_column(name, shown_if=varied))
    columns += [
        Column(metric, _score),
        Column("reported", reported),
        Column("parameters", _parameters),
        Column("s", _seconds),
    ]
    return columns


def _value_column(name: str, *, shown_if: bool) -> Column[SweepTrial]:
    return Column(name, lambda trial: str(trial.values.get(name)), shown_if=shown_if)


def _score(trial: SweepTrial) -> str:
    if trial.state == "complete":
        return f"{trial.score:.4f}"
    return trial.state


def _parameters(trial: SweepTrial) -> str:
    if trial.parameters:
        return f"{trial.parameters:,}"
    return ""


def _seconds(trial: SweepTrial) -> str:
    if trial.seconds:
        return f"{trial.seconds:.0f}"
    return ""
