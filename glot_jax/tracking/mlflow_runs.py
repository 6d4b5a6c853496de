"""MLflow, in a database of the run's own unless MLFLOW_TRACKING_URI says otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from glot_jax.errors import require_extra
from glot_jax.tracking.tracker import TrackedRun

_ID = "run-id"
_QUANTILES = (0.05, 0.5, 0.95)
"""What stands for a histogram, which MLflow does not have."""


class Mlflow:
    """See `tracker.Tracker`."""

    _client: Any
    _run: str

    @classmethod
    def require_installed(cls) -> None:
        """See Tracker."""
        require_extra("track", "--track mlflow", "mlflow", "sqlalchemy", "alembic")

    def begin(self, run: TrackedRun) -> None:
        """See Tracker."""
        # Before the import, which reads it: the tool tells its makers what it is used for.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        # A line for each table of a new database.
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        database = f"sqlite:///{run.folder.absolute() / 'mlflow.db'}"
        self._client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", database))
        path = run.folder / _ID
        if path.exists():
            # One curve for all processes of a run.
            self._run = path.read_text().strip()
            self._client.update_run(self._run, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "glot-jax")
        experiment = self._client.get_experiment_by_name(name)
        # Not `mlflow.start_run`, which notes the user, the script and the commit.
        identity = experiment.experiment_id if experiment else self._client.create_experiment(name)
        self._run = self._client.create_run(identity, run_name=run.name).info.run_id
        path.write_text(self._run)
        # Once: MLflow refuses to change what a run was begun with.
        for setting, value in run.settings.items():
            self._client.log_param(self._run, setting, value)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        """See Tracker: its 5 %, 50 % and 95 % quantiles."""
        if not len(values):
            return
        quantiles = np.quantile(values, _QUANTILES)
        for share, value in zip(_QUANTILES, quantiles, strict=True):
            self._client.log_metric(self._run, f"{name}/q{share * 100:02.0f}", value, step=step)

    def stop(self) -> None:
        """See Tracker."""
        self._client.set_terminated(self._run, status="KILLED")

    def end(self, scores: Mapping[str, float]) -> None:
        """See Tracker."""
        for name, value in scores.items():
            self._client.log_metric(self._run, name, value)
        self._client.set_terminated(self._run)
