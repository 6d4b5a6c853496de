"""A run's stem and pooler outside JAX: settings and weights for `glot_head.GlotHead`."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flax import nnx

from glot_jax.config.train import PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.export.exact_model import exact_model
from glot_jax.export.glot_head import GlotHead
from glot_jax.export.task_head import ExportedTask
from glot_jax.model import SentenceModel
from glot_jax.objectives.heads import EmbeddingHead
from glot_jax.pooling import GNN_LAYERS, POOLERS
from glot_jax.pooling.adapool import AdaPool, AdaPoolAttention
from glot_jax.pooling.glot import Glot, Mlp
from glot_jax.pooling.poolers import Cls, First, Last
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder
from glot_jax.run_folders.tree_paths import tree_paths

_RULE_SETTINGS = {
    "threshold": ("tau",),
    "knn": ("k",),
    "window": ("window",),
    "self": (),
    "complete": (),
}
"""Graph rules of GlotHead, and the settings that each reads."""

_NESTED = re.compile(r"\b(norm|hear|speak|projection)\.")
"""Modules within a layer, whose arrays GlotHead names with an underscore: norm.scale is
norm_scale.
"""


@dataclasses.dataclass(frozen=True)
class TrainedHead:
    """Stem and pooler of a run, and what builds the same in PyTorch."""

    run: RunFolder
    model: SentenceModel
    """In float32 and on the dense backend, whatever it was trained in."""
    settings: dict[str, Any]
    """Arguments of GlotHead, plain JSON."""
    weights: dict[str, np.ndarray]
    """Arrays by their names in GlotHead."""

    @classmethod
    def load(cls, run: Path, checkpoint: CheckpointName) -> TrainedHead:
        """The head of a run folder.

        Raises:
            UsageError: no run, no such checkpoint, or a graph rule that cannot be exported.
        """
        folder = RunFolder.open(run)
        model = exact_model(folder, checkpoint)
        settings = settings_of(model, folder.config.pooler)
        return cls(folder, model, settings, weights_of(model))

    def identity(self, task: ExportedTask | None = None) -> dict[str, Any]:
        """What made it, without the paths of this machine.

        Backbone, layers, store, and sha256 of the run's config.json and of the weights.

        Args:
            task: the task's head, where it is exported too; its weights count then.
        """
        digest = hashlib.sha256()
        weights = dict(self.weights)
        # Without it the hash is that of earlier versions.
        if task is not None:
            for name, array in task.weights.items():
                weights[f"task.{name}"] = array
        # By name: the order in which modules list their arrays may change.
        for name, array in sorted(weights.items()):
            heading = f"{name} {array.shape} "
            digest.update(heading.encode() + array.tobytes())
        return {
            "backbone": dict(self.run.recipe.backbone) or None,
            "layers": list(self.run.model.layers),
            "store": self.run.store,
            "run": self.run.digest(),
            "weights": digest.hexdigest(),
        }


def require_exportable(config: PoolerConfig) -> None:
    """Refuse a pooler or a layer that GlotHead does not have.

    Raises:
        UsageError: its class says so.
    """
    fix = "Encode with SentenceEncoder.load(RUN) instead, which needs no export."
    if not POOLERS[config.pooler].exportable:
        names = [name for name in POOLERS if POOLERS[name].exportable]
        raise UsageError(
            rule=f"the pooler of an exported head must be one of {', '.join(names)}",
            got=f"--pooler {config.pooler}",
            fix=fix,
        )
    # Other poolers have layers of their own, or none: what --gnn says is not read.
    reads_gnn = config.pooler == "glot"
    if reads_gnn and not GNN_LAYERS[config.gnn].exportable:
        names = [name for name in GNN_LAYERS if GNN_LAYERS[name].exportable]
        raise UsageError(
            rule=f"the layers of an exported head must be one of {', '.join(names)}",
            got=f"--gnn {config.gnn}",
            fix=fix,
        )


def settings_of(model: SentenceModel, config: PoolerConfig) -> dict[str, Any]:
    """Arguments of GlotHead that build this model's stem and pooler.

    Args:
        model: whose arrays tell the sizes.
        config: the settings that it was built with.

    Raises:
        UsageError: a pooler, layer or graph rule that GlotHead does not have.
    """
    require_exportable(config)
    stem = model.stem
    mixed = None
    if stem.layer_scores is not None:
        mixed = stem.layer_scores[...].size
    settings: dict[str, Any] = {
        "dim": stem.dim,
        "mixed": mixed,
        "pooler": config.pooler,
        **model.spec.tokens.to_json(),
        "token_norm": config.token_norm,
        "learn_tau": stem.tau is not None,
        "standardise": stem.mean is not None,
        "projection_dim": config.projection_dim,
    }
    # A classifier stays behind; what an embedding does to the vector belongs to the vector.
    if isinstance(model.head, EmbeddingHead):
        settings["linear"] = model.head.projection is not None
        settings["unit"] = model.head.unit
    pooler = model.pooler
    if isinstance(pooler, Cls | First | Last):
        # GlotHead does not know encoders from decoders: the token is named.
        settings["pooler"] = pooler.position
    if isinstance(pooler, AdaPoolAttention):
        settings["heads"] = pooler.heads
    if isinstance(pooler, (AdaPool, Glot)):
        # By the array: without a setting its width follows from that of the tokens.
        _, scorer_dim = pooler.readout.kernel[...].shape
        settings["scorer_dim"] = scorer_dim
    if isinstance(pooler, Glot):
        settings |= _layer_settings(model, pooler, config)
    return settings


def _layer_settings(
    model: SentenceModel,
    pooler: Glot,
    config: PoolerConfig,
) -> dict[str, Any]:
    """Settings of the token-GNN and of the graph that it reads."""
    layers: list[Any] = list(pooler.gnn.layers)
    settings: dict[str, Any] = {
        "num_layers": len(layers),
        "jk": pooler.gnn.jk,
    }
    # Nothing reads edges or widths of layers then, and GlotHead's defaults stand for them.
    if not layers:
        return settings
    if isinstance(pooler, Mlp):
        # Its width may follow from that of the glot it stands in for; the array knows.
        _, hidden_dim = layers[0].kernel[...].shape
        return {**settings, "hidden_dim": hidden_dim}
    graph = model.stem.config
    if graph.graph not in _RULE_SETTINGS:
        raise UsageError(
            rule=f"an exported head must link tokens by one of: {', '.join(_RULE_SETTINGS)}",
            got=f"--graph {graph.graph}, whose edges hang on a hash of the stored states",
            fix="It is a control; export a run with another rule.",
        )
    if graph.control != "none":
        raise UsageError(
            rule="an exported head must link tokens where its rule does",
            got=f"--control {graph.control}",
            fix="It is a control; export a run without one.",
        )
    # Only what is read is written: equal heads have equal settings.
    names = ["gnn", "hidden_dim", "residual", "virtual_node"]
    if config.gnn == "gat":
        names += ["heads", "edge_term"]
    for name in names:
        settings[name] = getattr(config, name)
    settings["graph"] = graph.graph
    settings["graph_states"] = graph.graph_states
    for name in _RULE_SETTINGS[graph.graph]:
        settings[name] = getattr(graph, name)
    return settings


def weights_of(model: SentenceModel) -> dict[str, np.ndarray]:
    """Arrays of stem, pooler and an embedding's linear map, float32, by their names in GlotHead."""
    weights: dict[str, np.ndarray] = {}
    state = nnx.state(model)
    for path, array in tree_paths(state, ".").items():
        name = path
        if isinstance(model.head, EmbeddingHead):
            name = name.replace("head.projection.", "out.")
        # A classifier stays behind; BatchNorm's counter changes nothing in evaluation.
        if name.startswith("head.") or name.endswith("norm.batches"):
            continue
        name = _NESTED.sub(r"\1_", name)
        weights[name] = np.asarray(array, np.float32)
    return weights


def torch_head(settings: dict[str, Any], weights: dict[str, np.ndarray]) -> GlotHead:
    """The GlotHead of these settings and weights, in evaluation mode."""
    head = GlotHead(**settings)
    tensors = {}
    for name, array in weights.items():
        # JAX's arrays are read-only, and torch warns about memory that it may not write to.
        tensors[name] = torch.from_numpy(array.copy())
    # Strict: a name that either side lacks is an error.
    head.load_state_dict(tensors)
    return head.eval()
