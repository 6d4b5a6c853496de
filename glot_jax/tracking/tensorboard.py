"""TensorBoard's event files, by tensorboardX: `tensorboard --logdir RUN/tracking/tensorboard`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from glot_jax.errors import require_extra
from glot_jax.tracking.tracker import TrackedRun

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter


class TensorBoard:
    """See `tracker.Tracker`."""

    _writer: SummaryWriter

    @classmethod
    def require_installed(cls) -> None:
        """See Tracker."""
        require_extra("track", "--track tensorboard", "tensorboardX")

    def begin(self, run: TrackedRun) -> None:
        """See Tracker."""
        from tensorboardX import SummaryWriter

        # Readers drop what earlier processes wrote from this step on: it is told again.
        purge = run.step + 1 if run.step else None
        self._writer = SummaryWriter(str(run.folder), purge_step=purge)
        self._writer.add_text("settings", json.dumps(dict(run.settings), indent=1), run.step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See Tracker."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        """See Tracker."""
        self._writer.add_histogram(name, values, step)

    def stop(self) -> None:
        """See Tracker."""
        self._writer.close()

    def end(self, scores: Mapping[str, float]) -> None:
        """See Tracker."""
        for name, value in scores.items():
            self._writer.add_scalar(name, value, 0)
        self._writer.close()
