"""Settings of the commands that train many runs: values to try, and how many trials that makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from glot_jax.config.experiments import ReportConfig, ReproduceConfig, StressConfig, SweepConfig
from glot_jax.errors import UsageError

PATHS = (Path("store"), Path("out"))
SMALL = {
    "lr": (1e-3, 1e-4),
    "weight_decay": (0.0,),
    "num_layers": (2,),
    "hidden_dim": (8, 16),
    "jk": ("cat",),
    "projection_dim": (0,),
    "tau": (0.3,),
}


def test_a_sweep_tries_no_combination_twice():
    assert SweepConfig(*PATHS).target == 24
    assert SweepConfig(*PATHS, **SMALL).target == 4
    assert SweepConfig(*PATHS, **SMALL, trials=3).target == 3
    assert SweepConfig(*PATHS, **SMALL, trials=30).target == 4
    grid = SweepConfig(*PATHS, sampler="grid")
    assert grid.target == 3 * 3 * 2 * 3 * 4 * 3 * 3
    assert SweepConfig(*PATHS, **SMALL).space == {name: list(SMALL[name]) for name in SMALL}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SweepConfig(*PATHS, tau=()), "--tau must have at least one value; got none"),
        (lambda: SweepConfig(*PATHS, jk=("cat", "cat")), "--jk must have values that differ"),
        (lambda: SweepConfig(*PATHS, trials=0), "--trials must be at least 1; got 0"),
        (lambda: StressConfig(seeds=(1, 1)), "--seeds must have values that differ"),
        (lambda: StressConfig(rows=(2000, 5)), "--rows must each be at least 10; got 2000 5"),
        (
            lambda: StressConfig(protocol=("released",), distances=(3,)),
            "--distances is read by --protocol controlled alone; got --protocol released",
        ),
        (lambda: ReproduceConfig(()), "--cards must have at least one value"),
        (
            lambda: ReproduceConfig(("table1",), lrs=(1e-3, 1e-4), select_on="last"),
            "several --lrs are compared on a split",
        ),
        (lambda: ReportConfig(()), "--folders must have at least one value"),
        (lambda: ReportConfig((Path("runs"),), resamples=5), "--resamples must be at least 100"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()
