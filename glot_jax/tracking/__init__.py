"""Runs followed in the tools that people have: TensorBoard, W&B, MLflow, or a plugin's.

A tracker is told numbers: losses, scores, histograms of readout weights and degrees, and the
settings of the run less its paths. Texts, tokens, labels, paths, environment, code and git state
are never passed to one, and what these tools collect by themselves is switched off. They write
into `RUN/tracking/NAME`; nothing is sent unless their own environment variables say so.
"""

from __future__ import annotations

from glot_jax.tracking.mlflow_runs import Mlflow
from glot_jax.tracking.tensorboard import TensorBoard
from glot_jax.tracking.tracker import TRACKERS, TrackedRun, Tracker
from glot_jax.tracking.trackers import Trackers
from glot_jax.tracking.wandb_runs import Wandb

__all__ = ["TRACKERS", "Mlflow", "TensorBoard", "TrackedRun", "Tracker", "Trackers", "Wandb"]

# Here and not by decorators, in the order in which errors list them.
TRACKERS.register("tensorboard")(TensorBoard)
TRACKERS.register("wandb")(Wandb)
TRACKERS.register("mlflow")(Mlflow)
