"""`glot compare`: flags of train.py with any number of values, and a file of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from glot_jax.cli.early_checks import (
    require_metric,
    require_names,
    require_poolers,
    require_stored_layers,
)
from glot_jax.cli.several import base_of, layer_numbers, read_several
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config.compare import CompareConfig
from glot_jax.errors import UsageError, require_extra

_EXAMPLES = (
    "Example: glot compare --store stores/cola --pooler mean adapool glot --graph threshold self"
    " --out runs/cola",
    "Example: glot compare --store stores/cola --file grid.toml --out runs/grid",
)


@dataclasses.dataclass(frozen=True)
class CompareRequest(CompareConfig):
    """A command, and the values of the settings that are varied or set."""

    axes: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """Name of a setting -> its values, in the order of train.py's settings."""


def compare(command: CompareRequest) -> int:
    """Train every combination of settings with every seed, and compare them in one table."""
    require_extra("viz", "glot compare")
    from glot_jax.store import read_manifest

    # Before JAX is loaded, which takes a second.
    read_manifest(command.store)
    given = dict(command.axes)
    require_poolers([str(name) for name in given.get("pooler", ())], "--pooler")
    base = base_of(command.store, command.out, command.preset, given)
    axes = {name: list(values) for name, values in command.axes}
    if len(axes.get("metric", ())) > 1:
        # Each would be a table of its own, with a best epoch of its own.
        raise UsageError(
            rule="the runs of a comparison are judged by one metric",
            got=f"--metric {' '.join(map(str, axes['metric']))}",
            fix="Give one; the report's tables have the metric that selects.",
        )
    if "layer" in axes:
        axes["layer"] = layer_numbers(command.store, axes["layer"])
    from glot_jax.experiments.grid import grid_of

    grid = grid_of(base, axes)
    # All of them before the first run: what one of them refuses is told at once.
    for combination in grid.combinations:
        require_names(combination.config.graph, combination.config.pooler)
        require_stored_layers(combination.config)
        require_metric(command.store, combination.config.objective.metric)
    labels = [combination.label for combination in grid.combinations]
    if command.reference is not None and command.reference not in labels:
        raise UsageError(
            rule="--reference must be one of the combinations",
            got=repr(command.reference),
            fix=f"They are {'; '.join(labels[:20])}.",
        )
    from glot_jax.experiments.compare import require_small, run_compare

    require_small(grid, command)
    use_compile_cache(command.programs.compile_cache)
    return run_compare(command, grid)


def read_compare(arguments: Sequence[str], prog: str) -> CompareRequest:
    """The settings of `arguments`, and of the file that they name."""
    command, given = read_several(CompareConfig, arguments, prog, examples=_EXAMPLES)
    axes = tuple((name, tuple(values)) for name, values in given.items())
    return CompareRequest(**vars(command), axes=axes)
