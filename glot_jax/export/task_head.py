"""The head of a run's task outside JAX: settings and weights for `glot_task.TaskHead`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from flax import nnx

from glot_jax.errors import UsageError
from glot_jax.export.glot_task import TaskHead
from glot_jax.inference.answering import require_scores
from glot_jax.model import SentenceModel
from glot_jax.objectives.heads import CosineHead, FeatureHead
from glot_jax.run_folders.tree_paths import tree_paths

_KINDS: dict[type, str] = {FeatureHead: "linear", CosineHead: "cosine"}
"""Heads that TaskHead has, and their names there."""


@dataclasses.dataclass(frozen=True)
class ExportedTask:
    """What a run predicts, and what builds the same head in PyTorch."""

    width: int
    """Of a text's vector."""
    settings: dict[str, Any]
    """Further arguments of TaskHead, plain JSON."""
    weights: dict[str, np.ndarray]
    """Arrays by their names in TaskHead."""

    @classmethod
    def of_model(cls, model: SentenceModel, temperature: float | None = None) -> ExportedTask:
        """The task's head of a model.

        Args:
            model: of a run.
            temperature: of a run that was calibrated.

        Raises:
            UsageError: a model without scores, or a head of a plugin.
        """
        task = model.spec.task
        require_scores(task)
        head = model.head
        # By type: a subclass may compute something else.
        if type(head) not in _KINDS:
            raise UsageError(
                rule="--with-head needs a head of this package",
                got=f"{type(head).__name__}, which an export cannot write",
                fix="Leave --with-head out: the vectors need no head.",
            )
        settings: dict[str, Any] = {
            "kind": _KINDS[type(head)],
            "texts": model.texts_per_row,
        }
        # The cosine of two projected vectors has nothing to combine.
        if isinstance(head, FeatureHead):
            settings["features"] = head.combination
        if task.classes:
            settings["classes"] = list(task.classes)
            # One class a row is what TaskHead expects.
            if task.label_kind == "multilabel":
                settings["link"] = "sigmoid"
            if temperature is not None:
                settings["temperature"] = temperature
        elif task.label_range is not None:
            settings["scale"] = list(task.label_range)
        weights = {}
        for path, array in tree_paths(nnx.state(head), ".").items():
            # The head's one linear map, whatever its name is.
            name = path.rpartition(".")[2]
            weights[name] = np.asarray(array, np.float32)
        return cls(model.pooler.pooled_dim, settings, weights)

    def module(self) -> TaskHead:
        """The TaskHead of these settings and weights, in evaluation mode."""
        head = TaskHead(self.width, **self.settings)
        # Copied: JAX's arrays are read-only, and torch warns about memory it may not write to.
        tensors = {name: torch.from_numpy(array.copy()) for name, array in self.weights.items()}
        head.load_state_dict(tensors)
        return head.eval()
