"""What a tracker is asked for, and the table of trackers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from glot_jax.registry import Registry


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """What a tracker knows of a run when it begins."""

    folder: Path
    """Where the tracker may write. What lies there is its own, from the run's earlier processes."""
    name: str
    """Name of the run's folder."""
    settings: Mapping[str, str | int | float | bool | None]
    """Settings of the run by their names, without paths."""
    step: int
    """Steps that are done: a resumed run tells again what came after them."""


class Tracker(Protocol):
    """Follows one run. What a method raises is said in a line, and the tracker is left alone then.

    A plugin registers its class in `TRACKERS`; `--track NAME` makes one.
    """

    @classmethod
    def require_installed(cls) -> None:
        """Check that what it needs can be imported, before the run begins.

        Raises:
            UsageError: a package is missing.
        """
        ...

    def begin(self, run: TrackedRun) -> None:
        """Open what it writes to, and go on with what lies there."""
        ...

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers after a step, such as `train/loss` and `validation/accuracy`."""
        ...

    def histogram(self, step: int, name: str, values: np.ndarray) -> None:
        """Numbers [n] float32 of many tokens after a step."""
        ...

    def stop(self) -> None:
        """The run has stopped before its end; another process may go on with it."""
        ...

    def end(self, scores: Mapping[str, float]) -> None:
        """The run is finished: its final scores, such as `best/validation/accuracy`."""
        ...


TRACKERS: Registry[type[Tracker]] = Registry("tracker (--track)")
"""Trackers by name."""
