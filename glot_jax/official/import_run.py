"""A state_dict of the released pooling module becomes a run folder.

It has stem and pooler, no head, and a checkpoint at step 0.
"""

from __future__ import annotations

import dataclasses
from os import PathLike
from pathlib import Path
from typing import Any

from flax import nnx

from glot_jax.config.json import to_json
from glot_jax.config.train import GraphConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.files import file_sha256, require_empty, write_json
from glot_jax.model import ModelSpec, SentenceModel, split_model
from glot_jax.official.released_names import LAYERS
from glot_jax.official.torch_checkpoint import load_official
from glot_jax.pooling import Glot, count_parameters
from glot_jax.run_folders.checkpoint import Checkpoints
from glot_jax.run_folders.run_folder import SUMMARY, Imported, RunFolder
from glot_jax.store.recipe import Recipe
from glot_jax.texts.tasks import TaskSpec

NO_TASK = TaskSpec(
    "none",
    ("text",),
    ("text",),
    None,
    "none",
    splits=(),
)
"""The task of a module that came without a head: one text a row, no label."""


def import_run(
    file: str | PathLike[str],
    *,
    gnn: str,
    jk: str,
    tau: float,
    out: str | PathLike[str],
) -> dict[str, Any]:
    """Write a run folder that `load_model(out)` reads.

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

    Returns:
        The run's summary, which also lies in `out/summary.json`.

    Raises:
        UsageError: a folder that is not empty or cannot be written to, torch missing, a file that
            is no state_dict of this module, or an impossible tau or name. Before the last check has
            passed nothing is written.
    """
    file = Path(file)
    out = Path(out)
    require_empty(
        out,
        rule="--out must be a new folder",
        fix="Choose another --out, or remove it.",
    )
    # Before the file is read, and by the name of the command's flag.
    lookup(LAYERS, gnn, "GNN layer (--gnn)")
    pooler = load_official(file, gnn=gnn, jk=jk, tau=tau)
    # The file's name without its folder: where it lay says nothing on another machine.
    imported = Imported(
        file.name,
        file_sha256(file),
        gnn,
        jk,
        float(tau),
    )
    config = TrainConfig(
        # A run folder names its store. This one has none, and says so to whoever tries to open it.
        store=Path(f"none (imported from {file.name})"),
        out=out,
        # Nothing is compiled here that a choice could be measured for.
        xla_cpu_options="default",
        graph=GraphConfig(tau=float(tau)),
        pooler=_pooler_config(pooler, gnn, jk),
    )
    # `kind` only tells `cls` pooling which token to take: nothing here reads it, and the file does
    # not say.
    width = _width_of_states(pooler)
    spec = ModelSpec(width, (), False, "encoder", NO_TASK)
    # Drawn anew and then replaced: stem and settings fit the pooler, none of whose numbers stay.
    model = SentenceModel(
        spec,
        graph=config.graph,
        pooler=config.pooler,
        objective=config.objective,
        rngs=nnx.Rngs(config.seed),
    )
    model.pooler = pooler
    # As a trained run counts them: the stem belongs to the pooler.
    parameters = count_parameters(model.stem) + count_parameters(model.pooler)
    summary = {
        "task": NO_TASK.name,
        "pooler": "glot",
        "parameters": {"pooler": parameters, "head": 0},
        "imported": to_json(imported),
    }
    folder = RunFolder(
        out,
        config,
        spec,
        store=None,
        recipe=Recipe.partial(),
        imported=imported,
    )
    try:
        _write(folder, model, summary)
    except OSError as error:
        raise UsageError(
            rule="--out must be writable",
            got=f"{out}: {error}",
            fix="Make room or grant access, remove what is there, and import again.",
        ) from error
    return summary


def _first_widths(pooler: Glot) -> tuple[int, int]:
    """(dim, hidden_dim) of the first layer, by its kernel."""
    # The type of the layer is known by its arrays alone.
    first: Any = pooler.gnn.layers[0]
    # SAGE has a kernel for the token itself and one for its neighbours, of equal shapes.
    if hasattr(first, "root_kernel"):
        kernel = first.root_kernel
    else:
        kernel = first.kernel
    dim, hidden_dim = kernel.shape
    return dim, hidden_dim


def _width_of_states(pooler: Glot) -> int:
    # Without layers the readout takes the states themselves.
    if len(pooler.gnn.layers) == 0:
        return pooler.pooled_dim
    dim, _ = _first_widths(pooler)
    return dim


def _pooler_config(pooler: Glot, gnn: str, jk: str) -> PoolerConfig:
    """The settings that build a module of these very shapes."""
    config = PoolerConfig(
        gnn=gnn,
        jk=jk,  # type: ignore[arg-type]  # load_official has looked at it
        num_layers=len(pooler.gnn.layers),
        scorer_dim=pooler.readout.kernel.shape[1],
    )
    # Without layers the width, heads and edge term are nowhere, and keep their defaults.
    if len(pooler.gnn.layers) == 0:
        return config
    _, hidden_dim = _first_widths(pooler)
    config = dataclasses.replace(config, hidden_dim=hidden_dim)
    # Heads and edge term are GAT's alone.
    if gnn != "gat":
        return config
    first: Any = pooler.gnn.layers[0]
    return dataclasses.replace(
        config,
        heads=first.heads,
        edge_term=first.edge is not None,
    )


def _write(folder: RunFolder, model: SentenceModel, summary: dict[str, Any]) -> None:
    """Write the run folder's files.

    config.json comes last: a folder without it is not a run, so an import that was cut off is never
    taken for one.
    """
    # Without the graph: `load_model` builds it again from the settings.
    _, params, stats = split_model(model)
    folder.path.mkdir(parents=True, exist_ok=True)
    with Checkpoints(folder.path, writing=True) as checkpoints:
        checkpoints.save_model(params, stats)
    write_json(folder.path / SUMMARY, summary, again=f"remove {folder.path} and import again")
    folder.write()
