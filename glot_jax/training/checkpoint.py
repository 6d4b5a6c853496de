"""Checkpoints by orbax: the latest ones and the best, each the whole training state (head, optimizer, step, key)."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from glot_jax.config import UsageError

SELECTION, EARLIER = "selection", "earlier"  # what orbax ranks by: the selection metric, ties to the earlier step

# Orbax reports every phase of every save at INFO and warns that a single host has no peers.
logging.getLogger("absl").setLevel(logging.ERROR)


def _rank(metrics: Any) -> Any:
    return metrics[SELECTION], metrics[EARLIER]


class Checkpoints:
    """The checkpoints of one run, `RUN/checkpoints/<step>/`: the last two and the best. `writing` for the run itself.

    A checkpoint is whole or absent: orbax writes under a temporary name and renames.
    """

    def __init__(self, run: Path, *, writing: bool = False):
        training = ocp.training
        policies = training.preservation_policies
        self._checkpointer = training.Checkpointer(
            str((run / "checkpoints").absolute()),
            # Orbax's protocols name a narrower type than its own policies take.
            save_decision_policy=training.save_decision_policies.FixedIntervalPolicy(1),  # type: ignore[arg-type]
            preservation_policy=policies.AnyPreservationPolicy(
                [policies.LatestN(2), policies.BestN(get_metric_fn=_rank, n=1, keep_checkpoints_without_metrics=False)]
            ),  # type: ignore[arg-type]
            # Only who writes may clear away what a kill left: a reader would take a save in flight for it.
            cleanup_tmp_directories=writing,
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._checkpointer.close()

    @property
    def latest_step(self) -> int | None:
        latest = self._checkpointer.latest
        return None if latest is None else latest.step

    @property
    def best_step(self) -> int | None:
        """The step with the highest selection metric; of equal ones the earliest."""
        ranked = [(_rank(c.metrics), c.step) for c in self._checkpointer.checkpoints if c.metrics]
        return max(ranked)[1] if ranked else None

    def save(self, state: dict[str, Any], selection: float) -> None:
        """Save after an epoch. The write goes on in the background, from a copy of the state."""
        step = int(state["step"])
        self._checkpointer.save_checkpointables_async(step, {"state": state}, metrics={SELECTION: selection, EARLIER: float(-step)})

    def load(self, step: int, like: dict[str, Any]) -> dict[str, Any]:
        """The state of `step`, in the structure, shapes and placement of `like`.

        Raises:
            UsageError: the arrays on disk have other names or shapes.
        """
        target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), like)
        try:
            return self._checkpointer.load_checkpointables(step, {"state": target})["state"]
        except ValueError as error:
            raise UsageError("a checkpoint fits the model of its config.json", f"step {step}: {error}", "Was config.json edited?") from error
