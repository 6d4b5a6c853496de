"""A state_dict of the released pooling module becomes a run folder: stem and pooler, no head, a
checkpoint at step 0.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from flax import nnx

from glot_jax.config.json import to_json
from glot_jax.config.train import GraphConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError, lookup, require
from glot_jax.files import file_sha256, write_json
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.official.torch_checkpoint import LAYERS, load_official
from glot_jax.pooling import Glot, count_parameters
from glot_jax.store.recipe import Recipe
from glot_jax.texts.tasks import TaskSpec
from glot_jax.training.checkpoint import Checkpoints
from glot_jax.training.run_folder import SUMMARY, Imported, RunFolder
from glot_jax.training.steps import split_model

NO_TASK = TaskSpec("none", ("text",), ("text",), None, "none", splits=())
"""The task of a module that came without a head: one text a row, no label."""


def import_run(
    file: str | PathLike[str], *, gnn: str, jk: str, tau: float, out: str | PathLike[str]
) -> dict[str, Any]:
    """Write a run folder that `load_model(out)` reads, and return its summary, which also lies in
    `out/summary.json`.

    Sizes, heads and depth are read from the arrays. What the file does not know, nobody can check:
    max, mean and none have the same shapes, and any tau fits, so `jk` and `tau` are believed. The
    module then takes one text's states of one layer, of which the file does not know the number:
    the model's `layers` stay empty.

    Args:
        file: a `.pth` file written by `torch.save(module.state_dict(), file)`; no code in it is
            run.
        gnn: GNN type it was trained with: gat, gcn, gin, gine or sage.
        jk: its jumping knowledge: cat, max, mean or none.
        tau: threshold of the graphs it was trained on; the loaded model's stem builds these.
        out: a new or empty folder.

    Raises:
        UsageError: a folder that is not empty or cannot be written to, torch missing, a file that
            is no state_dict of this module, or an impossible tau or name. Before the last check has
            passed nothing is written.
    """
    file, out = Path(file), Path(out)
    require(
        not out.exists() or (out.is_dir() and not any(out.iterdir())),
        "--out must be a new folder",
        f"{out}, which exists",
        "Choose another --out, or remove it.",
    )
    lookup(LAYERS, gnn, "GNN layer (--gnn)")
    pooler = load_official(file, conv=gnn, jk=jk, tau=tau)
    imported = Imported(file.name, file_sha256(file), gnn, jk, float(tau))
    config = TrainConfig(
        # A run folder names its store. This one has none, and says so to whoever tries to open it.
        store=Path(f"none (imported from {file.name})"),
        out=out,
        graph=GraphConfig(tau=float(tau)),
        pooler=_pooler_config(pooler, gnn, jk),
    )
    # `kind` only tells `cls` pooling which token to take: nothing here reads it, and the file does
    # not say.
    spec = ModelSpec(_width_of_states(pooler), (), False, "encoder", NO_TASK)
    model = SentenceModel(
        spec,
        graph=config.graph,
        pooler=config.pooler,
        objective=config.objective,
        rngs=nnx.Rngs(config.seed),
    )
    model.pooler = pooler
    summary = {
        "task": NO_TASK.name,
        "pooler": "glot",
        "parameters": {
            "pooler": count_parameters(model.stem) + count_parameters(model.pooler),
            "head": 0,
        },
        "imported": to_json(imported),
    }
    folder = RunFolder(out, config, spec, store=None, recipe=Recipe.partial(), imported=imported)
    try:
        _write(folder, model, summary)
    except OSError as error:
        raise UsageError(
            "--out can be written to",
            f"{out}: {error}",
            "Make room or grant access, remove what is there, and import again.",
        ) from error
    return summary


def _first_kernel(pooler: Glot) -> Any:
    """[dim, hidden_dim] of the first layer; SAGE has one for the token itself and one for its
    neighbours.
    """
    first: Any = pooler.gnn.layers[0]
    return first.root_kernel if hasattr(first, "root_kernel") else first.kernel


def _width_of_states(pooler: Glot) -> int:
    return _first_kernel(pooler).shape[0] if len(pooler.gnn.layers) else pooler.pooled_dim


def _pooler_config(pooler: Glot, gnn: str, jk: str) -> PoolerConfig:
    """The settings that build a module of these very shapes."""
    sizes: dict[str, Any] = {
        "num_layers": len(pooler.gnn.layers),
        "scorer_dim": pooler.readout.kernel.shape[1],
    }
    if sizes[
        "num_layers"
    ]:  # without layers the width, heads and edge term are nowhere, and keep their defaults
        sizes["hidden_dim"] = _first_kernel(pooler).shape[1]
        if gnn == "gat":
            first: Any = pooler.gnn.layers[0]
            sizes |= {"heads": first.heads, "edge_term": first.edge is not None}
    return PoolerConfig(gnn=gnn, jk=jk, **sizes)  # type: ignore[arg-type]


def _write(folder: RunFolder, model: SentenceModel, summary: dict[str, Any]) -> None:
    """config.json comes last: a folder without it is no run, so an import that was cut off is never
    taken for one.
    """
    _, params, stats = split_model(model)
    folder.path.mkdir(parents=True, exist_ok=True)
    with Checkpoints(folder.path, writing=True) as checkpoints:
        checkpoints.save_model(params, stats)
    write_json(folder.path / SUMMARY, summary, again=f"remove {folder.path} and import again")
    folder.write()
