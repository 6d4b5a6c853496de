"""Weights & Biases, offline unless WANDB_MODE says otherwise.

`wandb sync RUN/tracking/wandb/wandb/offline-*` sends a run.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np

from glot_jax.errors import require_extra
from glot_jax.tracking.tracker import TrackedRun

_ID = "run-id"


class Wandb:
    """See `tracker.Tracker`. Needs no account."""

    _wandb: Any
    _run: Any

    @classmethod
    def require_installed(cls) -> None:
        """See Tracker."""
        require_extra("track", "--track wandb", "wandb")

    def begin(self, run: TrackedRun) -> None:
        """See Tracker."""
        # Before the import, which reads it: errors of the tool are not reported to its makers.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._wandb = wandb
        path = run.folder / _ID
        # One curve for all processes of a run.
        identity = path.read_text().strip() if path.exists() else secrets.token_hex(4)
        settings = wandb.Settings(
            # Nothing of the machine, the process, its code or its repository.
            console="off",
            disable_code=True,
            disable_git=True,
            # Left out, they would be asked of the system.
            host="-",
            username="-",
            save_code=False,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            # A list of what is installed.
            x_save_requirements=False,
        )
        # A mode that it does not know is the tool's to refuse.
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "glot-jax"),
            dir=str(run.folder),
            id=identity,
            name=run.name,
            config=dict(run.settings),
            mode=mode,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )
        # After it: a run that could not begin has no curve to go on with.
        path.write_text(identity)
        # Steps as values: the tool's own count refuses to go back, as a resumed run does.
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        self._run.log({"step": step, **values})

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        """See Tracker."""
        self._run.log({"step": step, name: self._wandb.Histogram(values)})

    def stop(self) -> None:
        """See Tracker."""
        # Its file is written by a process of its own, to the end only now.
        self._run.finish()

    def end(self, scores: Mapping[str, float]) -> None:
        """See Tracker."""
        self._run.summary.update(dict(scores))
        self._run.finish()
