"""The Optuna study of a sweep: kept in SQLite, shared by processes, resumable.

The only import of optuna, which comes with the extra `sweep`.
"""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from glot_jax.config.experiments import SPACE, SweepConfig
from glot_jax.errors import missing_extra
from glot_jax.experiments.sweep_trials import SweepTrial

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial, TrialState

_NAME = "glot"
_REPEATS = 8  # in a row, before a sampler that has made up its mind is helped
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
        sampler_seed: of this process's sampler. Default: the sweep's own.
    """

    def __init__(
        self,
        config: SweepConfig,
        sampler_seed: int | None = None,
    ):
        self.config = config
        self.optuna = load_optuna()
        self._states = self.optuna.trial.TrialState
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
            # A process that ended while choosing left values out.
            if len(trial.params) == len(SPACE):
                self._study.enqueue_trial(trial.params, skip_if_exists=False)

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
            if len(live) >= self.config.target:
                return None
            waiting = self._trials(states.WAITING)
            stuck = self.config.sampler == "grid" or self._repeats >= _REPEATS
            if stuck and not waiting:
                tried = [trial.params for trial in live]
                self._study.enqueue_trial(self._untried(tried))
            # A waiting trial comes before what the sampler would choose.
            trial = self._study.ask()
            for name, values in self.config.space.items():
                trial.suggest_categorical(name, values)
            if any(other.params == trial.params for other in live):
                # A trial cannot be taken back; a failed one does not count.
                self._study.tell(trial, state=states.FAIL)
                self._repeats += 1
                continue
            self._repeats = 0
            return trial

    def _untried(self, tried: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A combination that no live trial has, in an order that the seed decides."""
        grid = list(itertools.product(*self.config.space.values()))
        # Of the sweep's seed, not the worker's: all workers walk through one order.
        order = np.random.default_rng(self.config.seed).permutation(len(grid))
        for index in order:
            values = dict(zip(SPACE, grid[index], strict=True))
            if values not in tried:
                return values
        # `target` is at most the number of combinations.
        raise AssertionError("every combination was tried")

    def tell_score(self, trial: Trial, score: float) -> None:
        """Finish a trial."""
        self._study.tell(trial, score)

    def tell_pruned(self, trial: Trial) -> None:
        """Finish a trial that was stopped because it fell behind."""
        self._study.tell(trial, state=self._states.PRUNED)

    def results(self) -> list[SweepTrial]:
        """Finished trials, best first; those that have no score stand last."""
        results = []
        for trial in self._study.trials:
            # Trials of other processes may still be running.
            if trial.state.is_finished():
                results.append(_result(trial))
        return sorted(results, key=_rank)

    def importance(self) -> dict[str, float]:
        """Share of the scores' variance that each setting explains (functional ANOVA).

        Empty where too little varies.
        """
        complete = self._trials(self._states.COMPLETE)
        varied = []
        for name in SPACE:
            if len({trial.params[name] for trial in complete}) > 1:
                varied.append(name)
        # Scores that are all equal leave nothing to explain.
        scores = {trial.value for trial in complete}
        if len(complete) < _FEWEST_TRIALS or not varied or len(scores) == 1:
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


def _result(trial: FrozenTrial) -> SweepTrial:
    seconds = None
    if trial.datetime_start and trial.datetime_complete:
        seconds = (trial.datetime_complete - trial.datetime_start).total_seconds()
    return SweepTrial(
        number=trial.number,
        state=trial.state.name.lower(),
        score=trial.value,
        reported=trial.user_attrs.get("reported"),
        parameters=trial.user_attrs.get("parameters"),
        seconds=seconds,
        run=trial.user_attrs.get("run"),
        values=trial.params,
    )


def _rank(trial: SweepTrial) -> tuple[bool, float]:
    # A pruned trial has the score of its last epoch, which was not its last chance.
    score = -math.inf if trial.score is None else trial.score
    return trial.state != "complete", -score
