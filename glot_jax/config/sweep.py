"""Settings of `glot sweep`, beside those of the runs that it trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from glot_jax.config.base import NOTHING, NUMBERS, Config, about, option
from glot_jax.config.checks import distinct, whole
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.config.location import Location

_PLACE = about(decides=NOTHING)
"""Metadata of a path that must be given: where things lie decides no number."""

EPOCHS = 2
"""Of each trial, where nobody says otherwise (the paper's search)."""


@dataclasses.dataclass(frozen=True)
class SweepConfig(Config):
    """Search settings on one store.

    Every setting of train.py may have several values, `--pooler glot mlp --layer 3 6`, or a number
    a range, `--lr 1e-5:1e-2:log`. The paper's Table 6 is searched beside what is given, unless
    --space says otherwise. A setting that a trial's pooler does not read is not searched for it.
    """

    takes_plugins: ClassVar[bool] = True

    store: Location = dataclasses.field(metadata=_PLACE)
    """Store of token states; all trials read it, none extracts."""
    out: Path = dataclasses.field(metadata=_PLACE)
    """Folder of study.db, trials/, sweep.json and importance.png. The same command goes on where it
    was stopped.
    """
    # Every field that decides a trial is told by settings.json, and the space beside it.
    space: Literal["table6", "given"] = option("table6", decides=NOTHING)
    """table6: settings of the paper's Table 6 that are not given take its values; given: what is
    not given has its default.
    """
    sampler: Literal["tpe", "grid", "random"] = option("tpe", decides=NUMBERS)
    """tpe: Optuna's tree-structured Parzen estimator; grid: every combination once; random: drawn
    uniformly.
    """
    # More trials or workers go on with the same study: they decide nothing about a trial.
    trials: int | None = option(
        None,
        whole(1),
        decides=NOTHING,
        example=24,
    )
    """Finished trials to reach, over all calls. Default: 24, or the whole grid."""
    workers: int = option(1, whole(1), decides=NOTHING)
    """Processes that train trials at the same time, from one study."""
    prune: bool = option(True, decides=NUMBERS)
    """Stop a trial whose score after an epoch is below the median of the others' at that epoch."""
    seed: int = option(42, whole(0), decides=NUMBERS)
    """Seed of the sampler and, without --seeds, of every trial."""
    seeds: tuple[int, ...] = option((), distinct, decides=NUMBERS)
    """Seeds of every trial, which is judged by the mean of their scores. Default: that of --seed.
    """
    file: Path | None = dataclasses.field(default=None, metadata=_PLACE)
    """TOML or YAML file of settings, a value, a list of values or a range for each; what is typed
    wins. Settings that are lists themselves (mix_layers, temperature) vary here alone.
    Default: none.
    """
    preset: str | None = option(None, decides=NOTHING)
    """Take every setting that is neither given nor searched from a preset of glot_jax.presets.
    Default: from train.py's defaults, with the 2 epochs of the paper.
    """
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""

    @property
    def trial_seeds(self) -> tuple[int, ...]:
        """The seeds of every trial."""
        return self.seeds or (self.seed,)
