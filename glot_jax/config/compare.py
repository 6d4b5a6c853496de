"""Settings of `glot compare`, beside those of the runs that it trains."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from glot_jax.config.base import Config, option
from glot_jax.config.checks import distinct, filled, whole
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.config.location import Location


@dataclasses.dataclass(frozen=True)
class CompareConfig(Config):
    """Train every combination of the settings that are given more than once, and compare them.

    Every setting of train.py may have several values: `--pooler mean glot --layer 15 20 -1`.
    Combinations that mean the same are trained once: a pooler that reads no graph does not run once
    for each graph. The best epoch is chosen on a holdout of the training rows unless --select-on
    says otherwise. The same command goes on where it was stopped, and keeps what is finished.
    """

    takes_plugins: ClassVar[bool] = True

    store: Location
    """Store of token states; all runs read it."""
    out: Path
    """Folder of a run for each combination and seed, of comparison.json and of report/."""
    seeds: tuple[int, ...] = option((1, 2, 3), filled, distinct)
    """Seeds of every combination."""
    file: Path | None = None
    """TOML or YAML file of settings, a value or a list of values for each; what is typed wins.
    Settings that are lists themselves (mix_layers, temperature) vary here alone. Default: none.
    """
    preset: str | None = None
    """Take every setting that is not given from a preset of glot_jax.presets. Default: from
    train.py's defaults.
    """
    reference: str | None = None
    """Combination that the others are compared with, as the table names it. Default: the first.
    """
    joint: Literal["auto", "on", "off"] = "auto"
    """Train runs that differ by numbers alone step by step in one program, or one after another.
    auto: in one program, but not on a CPU, where that is no faster.
    """
    resamples: int = option(1000, whole(1))
    """Resamples of intervals and permutation tests."""
    yes: bool = False
    """Begin even if there are more than a thousand runs."""
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""
