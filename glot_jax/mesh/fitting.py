"""What a run must be like to be divided among devices."""

from __future__ import annotations

from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.mesh.device_mesh import Mesh


def require_fit(config: TrainConfig, mesh: Mesh) -> None:
    """Require that the devices divide the batches, and that a graph can be divided with them.

    Raises:
        UsageError: they do not.
    """
    if not mesh.several:
        return
    _require_multiple("--batch-size", config.batch_size, mesh.count)
    _require_multiple("--eval-batch-size", config.eval_batch_size, mesh.count)
    graph = config.graph
    if graph.backend == "sparse" or graph.edge_budget is not None:
        given = "--backend sparse"
        if graph.backend != "sparse":
            given = f"--edge-budget {graph.edge_budget}"
        raise UsageError(
            rule="graphs that are lists of edges are computed on one device: the nodes of a batch"
            " are one axis, which texts do not divide",
            got=f"{given} with {mesh.count} devices",
            fix="Leave it out: auto takes the dense or the blockwise backend. Or give --devices 1.",
        )


def _require_multiple(option: str, size: int, count: int) -> None:
    if size % count == 0:
        return
    below = size - size % count
    nearest = f"{below} or {below + count}" if below else str(count)
    raise UsageError(
        rule=f"{option} must be a multiple of the {count} devices: each has as many rows",
        got=size,
        fix=f"Give {option} {nearest}.",
    )
