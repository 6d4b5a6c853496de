"""GLOT's pooling head as a module of sentence-transformers, behind a Transformer.

This file is copied into every exported folder, whose modules.json names `GlotPooling`, with
glot_head.py, glot_graph.py and glot_task.py beside it. They import torch and sentence-transformers
alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules import Module
from torch import Tensor

# Relative, because it must hold in an exported folder as it does here.
from .glot_graph import Setting
from .glot_head import GlotHead
from .glot_task import TaskHead

FILES = ("glot_pooling.py", "glot_head.py", "glot_graph.py", "glot_task.py")
"""The code of an exported folder."""


class GlotPooling(Module):
    """The head as a module of sentence-transformers, behind a Transformer.

    Args:
        dim: width of the states.
        layers: whose states are read: -1 the last one's, after the final norm (`token_embeddings`);
            else an index of `all_layer_embeddings` (0 = embeddings, 1 .. = blocks). Several are
            mixed, in this order.
        task: what the run was trained to say of a text, or of a row of texts: settings of
            `TaskHead`. None: the folder gives vectors alone.
        head: further settings of `GlotHead`.
    """

    def __init__(
        self,
        dim: int,
        *,
        layers: Sequence[int] = (-1,),
        task: Mapping[str, Any] | None = None,
        **head: Setting,
    ):
        super().__init__()
        self.layers = list(layers)
        self.settings = {
            "dim": dim,
            "layers": self.layers,
            **head,
        }
        # Follows from the layers, so config.json does not say it a second time.
        mixed = None
        if len(self.layers) > 1:
            mixed = len(self.layers)
        self.head = GlotHead(dim, mixed=mixed, **head)
        self.task = None
        # A run that ranks texts, or was exported without its head, has vectors alone.
        if task is not None:
            self.settings["task"] = dict(task)
            self.task = TaskHead(self.head.width, **task)
        self.kept: dict[str, Tensor] = {}
        """The arrays as they were when they were first seen, by name."""

    def get_config_dict(self) -> dict[str, Any]:
        """What goes to the folder's config.json: the arguments of this class."""
        return self.settings

    def get_embedding_dimension(self) -> int:
        """Width of the vectors."""
        return self.head.width

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of their scores; empty without any."""
        if self.task is None:
            return []
        return self.task.classes

    def answers(self, *vectors: object) -> dict[str, Tensor]:
        """What the run says of rows of texts, from their vectors; no gradient is kept.

        Args:
            vectors: [rows, width], of NumPy or torch, of the first texts of the rows, of the
                second ones, ..., as `encode` gives them.

        Returns:
            `logits` and `probabilities` [rows, classes], or `score` [rows].

        Raises:
            ValueError: a folder without the task's head, or another number of texts a row.
        """
        if self.task is None:
            raise ValueError("this folder gives vectors alone. Export the run with --with-head.")
        task = self.task
        # In half precision scores of classes would tie.
        self.exact()
        # To the device and dtype of the head: `encode` gives arrays of NumPy unless it is asked.
        sides = [torch.as_tensor(side).to(task.bias) for side in vectors]
        with torch.no_grad(), torch.autocast(task.bias.device.type, enabled=False):
            return task(*sides)

    def forward(self, features: dict[str, Any], **_kwargs: object) -> dict[str, Any]:
        """Add `sentence_embedding` [batch, width], in float32, to the features of a Transformer.

        With a task's head on one text also what `TaskHead` gives for it.
        """
        if "attention_mask" not in features:
            raise ValueError(
                "GlotPooling reads padded texts with their attention_mask; got flattened ones. Load"
                " the Transformer with unpad_inputs=False."
            )
        if max(self.layers) >= 0 and "all_layer_embeddings" not in features:
            raise ValueError(
                f"GlotPooling reads the layers {self.layers}; got the last one alone. Load the"
                " Transformer with output_hidden_states=True."
            )
        states = []
        for layer in self.layers:
            if layer < 0:
                states.append(features["token_embeddings"])
            else:
                states.append(features["all_layer_embeddings"][layer])
        if len(states) == 1:
            hidden = states[0]
        else:
            hidden = torch.stack(states, 2)
        mask = features["attention_mask"]
        # Not in half precision, where cosines are too coarse to say who is linked.
        with torch.autocast(hidden.device.type, enabled=False):
            vectors = self.exact().head(hidden, mask)
            # A row of several texts has no scores before all of them are encoded: see `answers`.
            if self.task is not None and self.task.texts == 1:
                features.update(self.task(vectors))
        features["sentence_embedding"] = vectors
        return features

    def exact(self) -> GlotPooling:
        """Itself, both heads in float32: in half precision other tokens would be linked.

        What `model.half()` did to the weights is undone; those that were trained since they were
        kept stay rounded.
        """
        arrays = [*self.named_parameters(), *self.named_buffers()]
        for name, array in arrays:
            if name not in self.kept:
                self.kept[name] = array.detach().clone()
            if array.dtype == torch.float32:
                continue
            kept = self.kept[name].to(array.device)
            # Rounded alike, they are the weights that were kept; else somebody has trained them.
            if torch.equal(kept.to(array.dtype), array):
                source = kept
            else:
                source = array.detach()
            # In place: optimizers and other modules hold the parameter itself.
            array.data = source.float().clone()
        return self

    def save(
        self,
        output_path: str,
        *_args: object,
        safe_serialization: bool = True,
        **_kwargs: object,
    ) -> None:
        """Write config.json and the weights, as sentence-transformers asks every module to."""
        self.exact().save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization=safe_serialization)
        if type(self).__module__.startswith("transformers_modules."):
            # Loaded from an exported folder: the one that is saved needs its code too, beside its
            # modules.json.
            folder = Path(output_path).resolve().parent
            for name in FILES:
                shutil.copy(Path(__file__).with_name(name), folder)

    @classmethod
    def load(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        **_kwargs: object,
    ) -> GlotPooling:
        """Read a folder or repository; the arguments are those of sentence-transformers."""
        source: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        pooling = cls(**cls.load_config(model_name_or_path, **source))
        cls.load_torch_weights(model_name_or_path, model=pooling, **source)
        # Kept now, before anybody can call `half` on the model.
        return pooling.exact().eval()
