"""Settings of the commands that train many runs: values to try, and how many trials that makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from glot_jax.config.experiments import ReportConfig, ReproduceConfig, StressConfig
from glot_jax.config.sweep import SweepConfig
from glot_jax.errors import UsageError

PATHS = (Path("store"), Path("out"))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SweepConfig(*PATHS, trials=0), "--trials must be at least 1; got 0"),
        (
            lambda: ReproduceConfig(("table1",), seeds=(1, 2), selection_seeds=(2, 3)),
            "seeds that select must not be reported; got 2 in",
        ),
        (
            lambda: ReproduceConfig(("table1",), choose_only=True),
            "are about what --selection-seeds choose; got no --selection-seeds",
        ),
        (lambda: ReproduceConfig(("table1",), layers=(3, 6)), "of several --layers one must be"),
        (lambda: ReproduceConfig(("table1",), sinks=("drop",)), "--sinks must be keep or auto"),
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
