"""`glot compare`: flags of train.py with any number of values, and a file of them."""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from glot_jax.cli.early_checks import (
    require_metric,
    require_names,
    require_poolers,
    require_stored_layers,
)
from glot_jax.cli.parsing import Leaf, build, leaves, parse_values, typed
from glot_jax.commands import is_similarity
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config.compare import CompareConfig
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError, lookup, require_extra
from glot_jax.presets import PRESETS

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
    base = _base(command)
    axes = {name: list(values) for name, values in command.axes}
    if len(axes.get("metric", ())) > 1:
        # Each would be a table of its own, with a best epoch of its own.
        raise UsageError(
            rule="the runs of a comparison are judged by one metric",
            got=f"--metric {' '.join(map(str, axes['metric']))}",
            fix="Give one; the report's tables have the metric that selects.",
        )
    if "layer" in axes:
        axes["layer"] = _numbers_of(command.store, axes["layer"])
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


def _numbers_of(store: Path, layers: Sequence[object]) -> list[int]:
    """Layers by their numbers from the front: -1 and that of the last layer are one.

    Raises:
        UsageError: no store, or a layer that it does not hold.
    """
    from glot_jax.store import HiddenStore

    numbers = []
    for layer in layers:
        if not isinstance(layer, int):
            raise UsageError(
                rule="--layer must be the number of a layer",
                got=repr(layer),
                fix="Give for example --layer 6 -1.",
            )
        # trust: hashes are compared when the states are read.
        (number,) = HiddenStore(store, layer=layer, trust=True).layers
        numbers.append(number)
    return list(dict.fromkeys(numbers))


def _base(command: CompareConfig) -> TrainConfig:
    # The folder is that of the comparison; each run gets its own when seeds are known.
    base = TrainConfig(store=command.store, out=command.out)
    if command.preset is not None:
        preset = lookup(PRESETS, command.preset, "preset (--preset)")
        base = preset(base, is_similarity(command.store))
        base = dataclasses.replace(base, store=command.store, out=command.out)
    # What is reported must not choose: the best of a grid would be flattered twice.
    objective = dataclasses.replace(base.objective, select_on="holdout")
    return dataclasses.replace(base, objective=objective)


def read_compare(arguments: Sequence[str], prog: str) -> CompareRequest:
    """The settings of `arguments`, and of the file that they name."""
    own = leaves(CompareConfig)
    several = _several()
    # Twice by tyro: an empty tuple cannot tell what was typed from what was left out.
    values, _ = typed({**own, **several}, arguments, prog)
    # The second reading prints `--help` and checks every value.
    options = parse_values(
        CompareConfig,
        arguments,
        prog,
        defaults={**own, **several},
        groups=_groups(several),
        examples=_EXAMPLES,
    )
    command = build(CompareConfig, options)
    given = _read_file(command.file) if command.file is not None else {}
    for name in several:
        if name in values:
            given[name] = values[name]
    order = list(_settings())
    unknown = [name for name in given if name not in order]
    if unknown:
        raise UsageError(
            rule="a file of settings must name settings of train.py",
            got=f"{command.file}: {', '.join(map(str, unknown))}",
            fix=f"There are {', '.join(order)}.",
        )
    axes = tuple((name, tuple(given[name])) for name in order if name in given)
    return CompareRequest(**vars(command), axes=axes)


def _settings() -> dict[str, Leaf]:
    """The settings of train.py that a comparison may vary or set."""
    flags = leaves(TrainConfig)
    # Where runs lie and which seeds they have is the comparison's own.
    return {name: flags[name] for name in flags if name not in ("store", "out", "seed")}


def _several() -> dict[str, Leaf]:
    """Their flags, each with any number of values; lists themselves vary by file only."""
    flags = {}
    for name, leaf in _settings().items():
        hint = _one_value(leaf.hint)
        # A list of lists cannot be typed.
        if hint is not None:
            several: Any = tuple[hint, ...]
            text = leaf.text
            # tyro would show the empty tuple.
            if "Default:" not in text:
                text += f" Default: {leaf.default}."
            flags[name] = dataclasses.replace(leaf, hint=several, default=(), text=text)
    return flags


def _one_value(hint: object) -> object:
    """The type of one value of a flag; None of a flag that takes several."""
    arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
    if typing.get_origin(hint) is Literal or not arms:
        return hint
    if typing.get_origin(hint) is tuple or any(typing.get_origin(arm) is tuple for arm in arms):
        return None
    return arms[0]


def _groups(flags: dict[str, Leaf]) -> dict[str, tuple[str, Sequence[str]]]:
    return {"settings": ("Settings of train.py, each with one value or more.", list(flags))}


def _read_file(path: Path) -> dict[str, list[Any]]:
    """Setting -> its values, from a TOML or YAML file.

    Raises:
        UsageError: no such file, or one that does not hold settings.
    """
    try:
        # With or without the mark that editors on Windows put in front.
        content = path.read_text(encoding="utf-8-sig")
        # By its name: both formats read some files of the other without an error.
        if path.suffix.lower() in (".yaml", ".yml"):
            # Most comparisons have no such file.
            import yaml

            values = yaml.safe_load(content)
        else:
            values = tomllib.loads(content)
    except (OSError, ValueError) as error:
        raise _no_file(path, str(error)) from error
    except Exception as error:
        # The YAML package's own errors, which are no ValueError.
        if type(error).__module__.partition(".")[0] != "yaml":
            raise
        raise _no_file(path, str(error)) from error
    if not isinstance(values, dict):
        raise _no_file(path, f"a {type(values).__name__}")
    flat: dict[str, list[Any]] = {}
    for name, value in values.items():
        # Hyphens as on the command line, underscores as in Python.
        key = str(name).replace("-", "_")
        flat[key] = value if isinstance(value, list) else [value]
    return flat


def _no_file(path: Path, what: str) -> UsageError:
    return UsageError(
        rule="--file must be a TOML or YAML file that gives settings a value or a list of them",
        got=f"{path}: {what}",
        fix='Write for example pooler = ["mean", "glot"] in TOML.',
    )
