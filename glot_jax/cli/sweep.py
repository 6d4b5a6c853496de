"""`glot sweep`: flags of train.py with any number of values or a range, and a file of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from glot_jax.cli.early_checks import (
    require_metric,
    require_names,
    require_stored_layers,
)
from glot_jax.cli.several import base_of, layer_numbers, read_several
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config.axes import TABLE_6, Axis, Choices, axis_of, checked_axes
from glot_jax.config.base import flag
from glot_jax.config.sweep import EPOCHS, SweepConfig
from glot_jax.errors import UsageError, require_extra

_EXAMPLES = (
    "Example: glot sweep --store stores/cola --out sweeps/cola --trials 24 --workers 2",
    "Example: glot sweep --store stores/cola --space given --pooler glot mlp --layer 3 6"
    " --lr 1e-4:1e-2:log --seeds 1 2 3 --out sweeps/layers",
)


@dataclasses.dataclass(frozen=True)
class SweepRequest(SweepConfig):
    """A command, and the values of the settings that are searched or set."""

    axes: tuple[tuple[str, Axis], ...] = ()
    """Name of a setting -> its values, in the order of train.py's settings."""


def sweep(command: SweepRequest) -> int:
    """Search settings on one store: choices and ranges, several seeds a trial."""
    require_extra("sweep", "glot sweep")
    given = dict(command.axes)
    for name in ("select_on", "metric"):
        axis = given.get(name)
        if axis is not None and axis.count > 1:
            raise UsageError(
                rule="the trials of a sweep are judged by one metric on one split",
                got=f"{flag(name)} {axis}",
                fix="Give one.",
            )
    base = base_of(command.store, command.out, command.preset, given)
    if command.preset is None:
        base = dataclasses.replace(base, epochs=EPOCHS)
    listed = TABLE_6 if command.space == "table6" else {}
    # Before JAX is loaded: every value by itself, and then whether the store has what they read.
    samples, axes = checked_axes(base, {**listed, **given})
    for config in samples:
        require_names(config.graph, config.pooler)
    from glot_jax.store import read_manifest

    # Read for its errors: no study is begun without a finished store.
    read_manifest(command.store)
    for config in samples:
        require_stored_layers(config)
    require_metric(command.store, samples[0].objective.metric)
    layer = axes.get("layer")
    if isinstance(layer, Choices):
        axes["layer"] = Choices(tuple(layer_numbers(command.store, layer.values)))
    from glot_jax.experiments.search_space import SearchSpace

    space = SearchSpace.create(base, axes, listed)
    use_compile_cache(command.programs.compile_cache)
    from glot_jax.experiments.sweep import run_sweep

    run_sweep(command, space)
    return 0


def read_sweep(arguments: Sequence[str], prog: str) -> SweepRequest:
    """The settings of `arguments`, and of the file that they name."""
    command, given = read_several(SweepConfig, arguments, prog, examples=_EXAMPLES, ranges=True)
    axes = tuple((name, axis_of(name, values)) for name, values in given.items())
    return SweepRequest(**vars(command), axes=axes)
