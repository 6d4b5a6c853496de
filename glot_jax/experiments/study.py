"""The Optuna study of a sweep: kept in SQLite, shared by processes, resumable.

The only import of optuna, which comes with the extra `sweep`.
"""

from __future__ import annotations

import functools
import json
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glot_jax.config.axes import Axis, Range
from glot_jax.config.sweep import SweepConfig
from glot_jax.errors import UsageError, missing_extra
from glot_jax.experiments.search_space import SearchSpace, Values, identity
from glot_jax.experiments.sweep_trials import SweepTrial, best_first

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial, TrialState

_NAME = "glot"
_REPEATS = 8  # in a row, before a sampler that has made up its mind is helped
_NOTHING_NEW = 64  # repeats in a row of a space that cannot be listed: there is hardly more in it
_TRIALS = 24  # where nobody says how many
_FEWEST_TRIALS = 4  # below them an analysis of variance would say nothing


def load_optuna() -> types.ModuleType:
    """The module, or an error that names its extra.

    Raises:
        UsageError: optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise missing_extra("sweep", "a sweep", "optuna", error) from error
    # Optuna logs a line for each trial, beside our own.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


class Study:
    """The study of a sweep, as one process sees it.

    Args:
        config: settings of the sweep; OUT/study.db holds the study.
        space: what it searches.
        sampler_seed: of this process's sampler. Default: the sweep's own.

    Raises:
        UsageError: the whole grid is asked for, and it has no end.
    """

    def __init__(
        self,
        config: SweepConfig,
        space: SearchSpace,
        sampler_seed: int | None = None,
    ):
        self.config = config
        self.space = space
        self.optuna = load_optuna()
        self._states = self.optuna.trial.TrialState
        self._combinations = space.combinations
        self.target = target_of(config, self._combinations)
        seed = config.seed if sampler_seed is None else sampler_seed
        self._study = self.optuna.create_study(
            study_name=_NAME,
            storage=self._storage(config.out),
            sampler=self._sampler(seed),
            pruner=self._pruner(),
            direction="maximize",
            load_if_exists=True,
        )
        self._repeats = 0

    def _storage(self, folder: Path) -> BaseStorage:
        # Workers wait for one another's writes; SQLite's own patience is five seconds.
        return self.optuna.storages.RDBStorage(
            f"sqlite:///{folder / 'study.db'}", engine_kwargs={"connect_args": {"timeout": 60}}
        )

    def _sampler(self, seed: int) -> BaseSampler:
        samplers = self.optuna.samplers
        if self.config.sampler == "tpe":
            # Workers do not see one another's unfinished trials: each is taken for a bad one.
            return samplers.TPESampler(seed=seed, constant_liar=True)
        # Of a grid, which combination is next is `_untried`'s to say.
        return samplers.RandomSampler(seed=seed)

    def _pruner(self) -> BasePruner:
        pruners = self.optuna.pruners
        if not self.config.prune:
            return pruners.NopPruner()
        # The median of fewer trials would stop nearly every other one.
        return pruners.MedianPruner(n_startup_trials=5)

    @property
    def metric(self) -> str:
        """Name of the metric by which trials are compared."""
        return self._study.user_attrs["metric"]

    @metric.setter
    def metric(self, name: str) -> None:
        self._study.set_user_attr("metric", name)

    def take_up_again(self) -> None:
        """Begin trials again that were running when an earlier call ended.

        They find their checkpoints.
        """
        for trial in self._trials(self._states.RUNNING):
            # A trial cannot be resumed in Optuna: another one gets its values.
            self._study.tell(trial.number, state=self._states.FAIL)
            values = self.values_of(trial)
            # A process that ended while choosing left values out.
            if values is not None:
                self._enqueue(values)

    def finished(self) -> int:
        """Trials that were finished or pruned."""
        return len(self._trials(self._states.COMPLETE, self._states.PRUNED))

    def next_trial(self) -> Trial | None:
        """A trial with values that no live trial has; None when there are enough trials.

        Only one process at a time may ask: another's trial is in the study before its values are,
        and the same ones could be chosen meanwhile.
        """
        while True:
            states = self._states
            live = self._trials(states.RUNNING, states.COMPLETE, states.PRUNED)
            if len(live) >= self.target:
                return None
            tried: set[str] = set()
            for other in live:
                values = self.values_of(other)
                # One that is still being chosen has none yet.
                if values is not None:
                    tried.add(identity(values))
            waiting = self._trials(states.WAITING)
            stuck = self.config.sampler == "grid" or self._repeats >= _REPEATS
            if stuck and not waiting and self._combinations is not None:
                self._enqueue(self._untried(tried))
            if self._repeats >= _NOTHING_NEW:
                return None
            # A waiting trial comes before what the sampler would choose.
            trial = self._study.ask()
            chosen = self.space.chosen(functools.partial(_suggest, trial))
            if identity(chosen) in tried:
                # A trial cannot be taken back; a failed one does not count.
                self._study.tell(trial, state=states.FAIL)
                self._repeats += 1
                continue
            self._repeats = 0
            return trial

    def values_of(self, trial: Trial | FrozenTrial) -> Values | None:
        """The values of a trial that its pooler reads; None where some were not chosen yet."""
        params = trial.params
        try:
            return self.space.chosen(lambda name, axis: _decoded(params[name], axis))
        except KeyError:
            return None

    def _enqueue(self, values: Values) -> None:
        """Let a trial of these values be the next one."""
        params: dict[str, object] = {}
        for name, value in values.items():
            params[name] = _encoded(value, self.space.axes[name])
        self._study.enqueue_trial(params, skip_if_exists=False)

    def _untried(self, tried: set[str]) -> Values:
        """A combination that no live trial has, in an order that the seed decides."""
        grid = self._combinations or []
        # Of the sweep's seed, not the worker's: all workers walk through one order.
        order = np.random.default_rng(self.config.seed).permutation(len(grid))
        for index in order:
            if identity(grid[index]) not in tried:
                return grid[index]
        # `target` is at most the number of combinations.
        raise AssertionError("every combination was tried")

    def tell_score(self, trial: Trial, score: float) -> None:
        """Finish a trial."""
        self._study.tell(trial, score)

    def tell_pruned(self, trial: Trial) -> None:
        """Finish a trial that was stopped because it fell behind."""
        self._study.tell(trial, state=self._states.PRUNED)

    def tell_failed(self, trial: Trial, reason: str) -> None:
        """Finish a trial that cannot be trained; it is not tried again."""
        trial.set_user_attr("failed", reason)
        # Optuna's own failed trials are those that do not count.
        self._study.tell(trial, state=self._states.PRUNED)

    def results(self) -> list[SweepTrial]:
        """Finished trials, best first; those that have no score stand last."""
        results = []
        # A failed one was a repeat, or was begun again under another number.
        for trial in self._trials(self._states.COMPLETE, self._states.PRUNED):
            values = self.values_of(trial)
            results.append(_result(trial, values or {}))
        return best_first(results)

    def importance(self) -> dict[str, float]:
        """Share of the scores' variance that each setting explains (functional ANOVA).

        Empty where fewer than two settings vary, or there is too little to explain. Settings that
        some trials do not read are left out.
        """
        complete = self._trials(self._states.COMPLETE)
        varied = []
        for name in self.space.axes:
            tried = [trial.params[name] for trial in complete if name in trial.params]
            # fANOVA knows no setting that some trials do not have.
            if len(tried) == len(complete) and len(set(tried)) > 1:
                varied.append(name)
        # Scores that are all equal leave nothing to explain.
        scores = {trial.value for trial in complete}
        if len(complete) < _FEWEST_TRIALS or len(varied) < 2 or len(scores) == 1:
            return {}
        importance = self.optuna.importance
        shares = importance.get_param_importances(
            self._study,
            evaluator=importance.FanovaImportanceEvaluator(seed=0),
            params=varied,
        )
        return dict(shares)

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        # Not copied: trials are only looked at here.
        return self._study.get_trials(deepcopy=False, states=states)


def target_of(config: SweepConfig, combinations: list[Values] | None) -> int:
    """Finished trials to reach; no combination is tried twice."""
    if combinations is None:
        if config.sampler == "grid" and config.trials is None:
            raise UsageError(
                rule="a whole grid must have an end",
                got="--sampler grid of a range, or of more than 10,000 combinations",
                fix="Give --trials, values in place of a range, or --sampler tpe.",
            )
        return config.trials or _TRIALS
    if config.trials is not None:
        return min(config.trials, len(combinations))
    # A grid is finished when it is whole.
    if config.sampler == "grid":
        return len(combinations)
    return min(_TRIALS, len(combinations))


def _suggest(trial: Trial, name: str, axis: Axis) -> object:
    """A value of an axis, which the sampler chooses."""
    if isinstance(axis, Range):
        if axis.whole:
            return trial.suggest_int(
                name,
                int(axis.low),
                int(axis.high),
                log=axis.log,
            )
        return trial.suggest_float(
            name,
            axis.low,
            axis.high,
            log=axis.log,
        )
    choices: Any = [_encoded(value, axis) for value in axis.values]
    return _decoded(trial.suggest_categorical(name, choices), axis)


def _has_lists(axis: Axis) -> bool:
    # Optuna has no lists among its choices: such an axis is one of texts there.
    if isinstance(axis, Range):
        return False
    return any(isinstance(value, list) for value in axis.values)


def _encoded(value: object, axis: Axis) -> object:
    if _has_lists(axis):
        return json.dumps(value)
    return value


def _decoded(value: object, axis: Axis) -> object:
    if _has_lists(axis):
        return json.loads(str(value))
    return value


def _result(trial: FrozenTrial, values: Values) -> SweepTrial:
    seconds = None
    if trial.datetime_start and trial.datetime_complete:
        seconds = (trial.datetime_complete - trial.datetime_start).total_seconds()
    reason = trial.user_attrs.get("failed")
    state = trial.state.name.lower()
    # Pruned for Optuna, which would not count a failed one.
    if reason is not None:
        state = "failed"
    return SweepTrial(
        number=trial.number,
        state=state,
        score=trial.value,
        deviation=trial.user_attrs.get("deviation"),
        reported=trial.user_attrs.get("reported"),
        parameters=trial.user_attrs.get("parameters"),
        seconds=seconds,
        run=trial.user_attrs.get("run"),
        reason=reason,
        values=values,
    )
