"""`glot sweep`: hyperparameter search on one store, in several processes, resumable."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glot_jax.compile_cache import folder_in_use, use_compile_cache
from glot_jax.config.json import to_json
from glot_jax.config.sweep import SweepConfig
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError, missing_extra
from glot_jax.experiments.search_space import SearchSpace
from glot_jax.experiments.study import Study, load_optuna, target_of
from glot_jax.experiments.sweep_table import print_sweep
from glot_jax.experiments.sweep_trials import SweepTrial, command_of, trial_runs
from glot_jax.files import TABLE_STYLE, locked, read_json, write_json
from glot_jax.plugins import load, loaded
from glot_jax.presets import PRESETS
from glot_jax.reporting.tables import table_console
from glot_jax.run_folders.run_folder import Summary
from glot_jax.store import HiddenStore
from glot_jax.texts.tasks import TaskSpec, selection_metric
from glot_jax.training.workspace import Workspace

if TYPE_CHECKING:
    from optuna.trial import Trial

_TOLD = ("store", "out", "epochs", "batch_size", "seed", "select_on", "metric")
"""Settings that have a name of their own in settings.json, as in version 0.1."""
_FAILED = 3  # trials in a row, from the first on, after which a sweep gives up


def run_sweep(config: SweepConfig, space: SearchSpace) -> list[SweepTrial]:
    """Search until there are enough finished trials; pruned and failed ones count.

    Writes OUT/sweep.json and, where several settings vary, OUT/importance.png.

    Called again it goes on: finished trials stay, one that was stopped in the middle is taken up
    from its checkpoint.

    Args:
        config: of the sweep.
        space: what is searched, and all other settings of the trials.

    Returns:
        The trials, best first.

    Raises:
        UsageError: settings that fit no store or each other, OUT of a sweep with other settings, or
            no trial could be trained.
    """
    load_optuna()
    store = HiddenStore(config.store)
    task = TaskSpec.from_json(store.task)
    metric = selection_metric(task, space.base.objective.metric)
    # For its error: nothing is written before every setting has been checked.
    target_of(config, space.combinations)
    config.out.mkdir(parents=True, exist_ok=True)
    _require_same(config, space, store.content)
    from glot_jax.run_folders.run_log import only_writer

    # Two sweeps in one folder would each count the other one's trials.
    with only_writer(config.out):
        study = Study(config, space)
        study.metric = metric
        study.take_up_again()
        if study.finished() < study.target:
            _say(_opening(config, space, study))
            try:
                _work(config, space)
            except (KeyboardInterrupt, SystemExit):
                # The runs say nothing by themselves here: they are trained quietly.
                _say(f"{config.out}: stopped; the same command goes on")
                raise
    # Opened again: the workers' trials are in the file.
    study = Study(config, space)
    trials = study.results()
    values = [trial.to_json() for trial in trials]
    write_json(config.out / "sweep.json", values, TABLE_STYLE)
    importance = study.importance()
    if importance:
        title = f"{metric} on {space.base.objective.select_on}, {len(trials)} trials"
        _plotter()(importance, config.out / "importance.png", title)
    print_sweep(config, space, trials, importance, metric)
    # Best first: only where no trial was complete does another state stand at the head.
    if trials and trials[0].state == "complete":
        plain = _plain(config, task)
        command = command_of(config, space, plain, trials[0].values, "runs/best")
        # On one line, so that it can be copied.
        table_console().print("the best again:", command, soft_wrap=True, markup=False)
    return trials


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _opening(config: SweepConfig, space: SearchSpace, study: Study) -> str:
    axes = []
    for name in space.varied:
        axes.append(f"{name} {space.axes[name]}")
    line = f"{study.target} trials"
    # Without an axis there is one trial, of the settings as they are.
    if axes:
        line += f" of {', '.join(axes)}"
    seeds = len(config.trial_seeds)
    if seeds > 1:
        line += f"; {seeds} seeds each"
    done = study.finished()
    if done:
        line += f"; {done} are finished already"
    return line


def _plain(config: SweepConfig, task: TaskSpec) -> TrainConfig:
    """What train.py trains where nothing but store and folder, or a preset, is given."""
    plain = TrainConfig(store=config.store, out=config.out)
    if config.preset is None:
        return plain
    return PRESETS[config.preset](plain, task.is_similarity)


def _plotter() -> Callable[..., None]:
    try:
        from glot_jax.reporting.figures import plot_importance
    except ImportError as error:
        raise missing_extra("viz", "the figure", "matplotlib", error) from error
    return plot_importance


def _require_same(config: SweepConfig, space: SearchSpace, content: str) -> None:
    """Refuse an OUT that belongs to another search.

    One with other values, or with another setting that decides a trial's numbers.
    """
    settings = _settings(config, space, content)
    path = config.out / "settings.json"
    if not path.exists():
        write_json(path, settings, TABLE_STYLE)
        return
    earlier = read_json(
        path, "Delete it and give the same settings again: finished trials are kept."
    )
    # Version 0.1 had one seed, and no setting but those that it named.
    earlier = {"seeds": [], "settings": {}, **earlier}
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


def _settings(config: SweepConfig, space: SearchSpace, content: str) -> dict[str, Any]:
    """What decides the numbers of a sweep, as settings.json has it."""
    base = space.base
    # What was set to another value than train.py's default. As JSON writes it: an option that comes
    # with a later version is not there until it is used.
    changed = _difference(
        to_json(base),
        to_json(TrainConfig(store=base.store, out=base.out)),
    )
    axes: dict[str, object] = {}
    for name, axis in space.axes.items():
        axes[name] = axis.to_json()
    return {
        # By its content: the same store may lie elsewhere today.
        "store": content,
        "space": axes,
        "sampler": config.sampler,
        "prune": config.prune,
        "epochs": base.epochs,
        "batch_size": base.batch_size,
        "seed": config.seed,
        "seeds": list(config.seeds),
        "select_on": base.objective.select_on,
        "metric": base.objective.metric,
        "settings": changed,
    }


def _difference(settings: Mapping[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are not as in `plain`, nested as they are."""
    changed: dict[str, Any] = {}
    for name, value in settings.items():
        if name in _TOLD or value == plain.get(name):
            continue
        if isinstance(value, dict):
            value = _difference(value, plain[name])
            # All that differs in it has a name of its own.
            if not value:
                continue
        changed[name] = value
    return changed


def _work(config: SweepConfig, space: SearchSpace) -> None:
    if config.workers == 1:
        work(config, space, 0)
        return
    context = multiprocessing.get_context("spawn")  # JAX has threads: a fork could hang
    programs = folder_in_use()
    workers = []
    for number in range(config.workers):
        worker = context.Process(
            target=_work_apart,
            args=(config, space, number, programs, loaded()),
        )
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


def _work_apart(
    config: SweepConfig,
    space: SearchSpace,
    number: int,
    programs: Path | None,
    plugins: Collection[str],
) -> None:
    """`work` in a process of its own, which keeps compiled programs where the first one does."""
    # A new process knows no parts but ours.
    for plugin in plugins:
        # Those of a notebook have no module; a trial that needs one says so.
        with contextlib.suppress(UsageError):
            load([plugin])
    if programs is not None:
        use_compile_cache(programs)
    work(config, space, number)


def work(config: SweepConfig, space: SearchSpace, number: int) -> None:
    """Train trials until there are enough.

    No combination is tried twice: a sampler's repeat gives way to an untried one.

    Args:
        config: of the sweep.
        space: of the sweep.
        number: of this worker, from 0; each has a sampler of its own.

    Raises:
        UsageError: the first three trials could not be trained: nor will the others.
    """
    study = Study(config, space, config.seed + number)
    # Token states and compiled steps, which trials of one process share.
    workspace = Workspace()
    failed = 0
    while True:
        with locked(config.out / "choosing.lock", wait=True):
            trial = study.next_trial()
        if trial is None:
            return
        values = study.values_of(trial) or {}
        try:
            runs = trial_runs(config, space, values)
            score = train_trial(trial, study.metric, runs, workspace)
        except study.optuna.TrialPruned:
            study.tell_pruned(trial)
        except UsageError as error:
            # Of these values; the others are tried all the same.
            failed += 1
            study.tell_failed(trial, str(error))
            _say(f"trial {trial.number}: failed: {error}")
            if failed == _FAILED and failed == study.finished():
                raise
        else:
            study.tell_score(trial, score)


def train_trial(
    trial: Trial,
    metric: str,
    runs: Sequence[TrainConfig],
    workspace: Workspace | None = None,
) -> float:
    """Train one trial, or go on where it was stopped.

    Args:
        trial: Optuna's; it is told the best score after each epoch, of later seeds the mean so far.
        metric: that trials are compared by.
        runs: one for each seed.
        workspace: see `glot_jax.training.train`.

    Returns:
        Its best score on the selecting split; of several seeds their mean.

    Raises:
        optuna.TrialPruned: the trial fell behind the others.
        UsageError: it cannot be trained.
    """
    from glot_jax.training import train

    first = runs[0].out
    # Before training: the folder of a pruned trial is to be known as well.
    trial.set_user_attr("run", str(first if len(runs) == 1 else first.parent))
    begin = time.perf_counter()
    bests: list[float] = []
    summaries = []
    for number, run in enumerate(runs):
        scores: list[float] = []

        def report(
            epoch: int, score: float, run: TrainConfig = run, scores: list[float] = scores
        ) -> None:
            scores.append(score)
            step = len(bests) * run.epochs + epoch
            # The best so far: a run is selected by its best epoch, not by its last.
            trial.report(float(np.mean([*bests, max(scores)])), step)
            # The last epoch is paid for already.
            if step < len(runs) * run.epochs and trial.should_prune():
                raise load_optuna().TrialPruned

        # A trial that was stopped is found by its values.
        resume = (run.out / "config.json").exists()
        name = f"trial {trial.number}"
        if len(runs) > 1:
            name += f", seed {run.seed}"
        values = train(
            run,
            resume=resume,
            quiet=name,
            workspace=workspace,
            after_epoch=report,
        )
        summaries.append(Summary.from_json(values))
        bests.append(float(summaries[number].selecting.best[metric]))
    splits: dict[str, dict[str, float]] = {}
    for name, scored in summaries[0].splits.items():
        splits[name] = {}
        for key in scored.best:
            values_of_seeds = [summary.splits[name].best[key] for summary in summaries]
            splits[name][key] = float(np.mean(values_of_seeds))
    trial.set_user_attr("reported", splits)
    trial.set_user_attr("parameters", summaries[0].trained_parameters)
    best = float(np.mean(bests))
    spread = ""
    if len(bests) > 1:
        deviation = float(np.std(bests, ddof=1))
        trial.set_user_attr("deviation", deviation)
        spread = f" ± {deviation:.4f}"
    seconds = time.perf_counter() - begin
    line = f"trial {trial.number}: {best:.4f}{spread} in {seconds:.0f} s, {trial.params}"
    findings: set[str] = set()
    for summary in summaries:
        for finding in summary.health:
            findings.add(finding.name)
    # What is wrong with it stands in its summary; that something is must be seen at once.
    if findings:
        line += f" ({', '.join(sorted(findings))})"
    _say(line)
    return best
