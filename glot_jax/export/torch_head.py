"""A run's stem and pooler outside JAX: settings and weights for st_module, and states to compare
the two with.
"""

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
from glot_jax.errors import require
from glot_jax.model import SentenceModel
from glot_jax.objectives.heads import EmbeddingHead
from glot_jax.pooling.poolers import AdaPool, AdaPoolAttention, Cls, Glot, Mlp
from glot_jax.training.evaluation import load_model
from glot_jax.training.run_folder import CheckpointName, RunFolder

CLOSE = 1e-5
"""Relative difference of two vectors of one text that is rounding; and, in cosine, how near to its
rule a pair decides about nothing.
"""


@dataclasses.dataclass(frozen=True)
class TrainedHead:
    """Stem and pooler of a run, and what builds the same in st_module."""

    run: RunFolder
    model: SentenceModel
    """In float32 and on the dense backend, whatever it was trained in."""
    settings: dict[str, Any]
    """Arguments of st_module.GlotHead, plain JSON."""
    weights: dict[str, np.ndarray]

    @classmethod
    def load(cls, run: Path, checkpoint: CheckpointName) -> TrainedHead:
        folder = RunFolder.open(run)
        config = folder.config
        trained = load_model(run, checkpoint)
        model = SentenceModel(
            folder.model,
            graph=dataclasses.replace(config.graph, backend="dense"),
            pooler=dataclasses.replace(config.pooler, dtype="float32"),
            objective=config.objective,
            rngs=nnx.Rngs(0),
        )
        nnx.update(model, nnx.state(trained))
        return cls(folder, model, settings_of(model, config.pooler), weights_of(model))

    def identity(self) -> dict[str, Any]:
        """What made it, without the paths of this machine."""
        digest = hashlib.sha256()
        for name, array in sorted(self.weights.items()):
            digest.update(f"{name} {array.shape} ".encode() + array.tobytes())
        return {
            "backbone": dict(self.run.recipe.backbone) or None,
            "layers": list(self.run.model.layers),
            "store": self.run.store,
            "run": self.run.digest(),
            "weights": digest.hexdigest(),
        }


def settings_of(model: SentenceModel, pooler: PoolerConfig) -> dict[str, Any]:
    """Arguments of st_module.GlotHead that build this model's stem and pooler.

    Raises:
        UsageError: a graph rule that the module does not have.
    """
    found, stem = model.pooler, model.stem
    settings: dict[str, Any] = {
        "dim": stem.dim,
        "mixed": None if stem.layer_scores is None else stem.layer_scores[...].size,
        "pooler": found.which if isinstance(found, Cls) else pooler.pooler,
        "learn_tau": stem.tau is not None,
        "standardise": stem.mean is not None,
        "projection_dim": pooler.projection_dim,
    }
    if isinstance(model.head, EmbeddingHead):
        settings |= {"linear": model.head.projection is not None, "unit": model.head.unit}
    if isinstance(found, AdaPoolAttention):
        settings["heads"] = found.heads
    if isinstance(found, (AdaPool, Glot)):
        settings["scorer_dim"] = found.readout.kernel[...].shape[1]
    if not isinstance(found, Glot):
        return settings
    layers: list[Any] = list(found.gnn.layers)
    settings |= {"num_layers": len(layers), "jk": found.gnn.jk}
    if layers and isinstance(found, Mlp):
        return settings | {"hidden_dim": layers[0].kernel[...].shape[1]}
    if layers:
        names = (
            "gnn",
            "hidden_dim",
            "residual",
            "virtual_node",
            *(("heads", "edge_term") if pooler.gnn == "gat" else ()),
        )
        numbers = {
            "threshold": ["tau"],
            "knn": ["k"],
            "window": ["window"],
            "self": [],
            "complete": [],
        }
        rule = stem.config.graph
        require(
            rule in numbers,
            f"an exported head links tokens by one of: {', '.join(numbers)}",
            f"--graph {rule}, whose edges hang on a hash of the stored states",
            "It is a control; export a run with another rule.",
        )
        settings |= (
            {name: getattr(pooler, name) for name in names}
            | {"graph": rule}
            | {name: getattr(stem.config, name) for name in numbers[rule]}
        )
    return settings


def weights_of(model: SentenceModel) -> dict[str, np.ndarray]:
    """Arrays of stem, pooler and an embedding's linear map, under the names of
    st_module.GlotHead.
    """
    found = (
        (".".join(map(str, path)), variable)
        for path, variable in nnx.to_flat_state(nnx.state(model))
    )
    if isinstance(model.head, EmbeddingHead):
        found = ((name.replace("head.projection.", "out."), variable) for name, variable in found)
    return {
        re.sub(r"\b(norm|hear|speak|projection)\.", r"\1_", name): np.asarray(
            variable[...], np.float32
        )
        for name, variable in found
        if not name.startswith("head.") and not name.endswith("norm.batches")
    }


def torch_head(settings: dict[str, Any], weights: dict[str, np.ndarray]) -> Any:
    """The st_module.GlotHead of these, in evaluation mode."""
    from glot_jax.export.st_module import GlotHead

    head = GlotHead(**settings)
    head.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in weights.items()})
    return head.eval()


def margin(model: SentenceModel, states: np.ndarray) -> float:
    """How far, in cosine, the closest pair of a text's tokens is from being linked otherwise.

    states: [length, dim], or [length, layers, dim] where layers are mixed.
    """
    config, tau = model.stem.config, model.stem.tau
    weights = model.stem.layer_weights()
    mixed = (
        states.astype(np.float64)
        if weights is None
        else np.tensordot(np.asarray(weights, np.float64), states, (0, 1))
    )
    unit = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-300)
    cosine, others = unit @ unit.T, ~np.eye(len(unit), dtype=bool)
    if config.graph == "threshold":
        return float(
            np.min(
                np.abs(cosine - (config.tau if tau is None else float(tau[...]))),
                where=others,
                initial=np.inf,
            )
        )
    if config.graph == "knn" and config.k < len(unit):
        ranked = np.sort(np.where(others, cosine, 2), axis=1)[:, ::-1]
        return float(np.min(ranked[:, config.k - 1] - ranked[:, config.k]))
    return np.inf


def random_texts(model: SentenceModel, batch: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """States [batch, length, (layers,) dim] float32 and a mask [batch, length] int64: rows full, of
    one token, empty, and others; padded on either side, with noise; cosines on both sides of tau,
    and no link that hangs on rounding.
    """
    stem, rng = model.stem, np.random.default_rng((batch, length))
    shape = (*(() if stem.layer_scores is None else stem.layer_scores[...].shape), stem.dim)
    near = float(np.clip(stem.config.tau if stem.tau is None else float(stem.tau[...]), 0.1, 0.9))
    hidden, mask = (
        rng.normal(size=(batch, length, *shape)).astype(np.float32),
        np.zeros((batch, length), np.int64),
    )
    for row in range(batch):
        count = (length, 1, 0)[row] if row < 3 else int(rng.integers(1, length + 1))
        place = slice(count) if row % 2 else slice(length - count, length)
        mask[row, place] = 1
        for _ in range(50):
            hidden[row, place] = np.sqrt(near / (1 - near)) * rng.normal(size=shape) + rng.normal(
                size=(count, *shape)
            )
            if margin(model, hidden[row, place]) > CLOSE:
                break
    return hidden, mask
