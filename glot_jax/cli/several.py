"""Flags of train.py with any number of values, and files of them: for commands that train many.

What stands in a file is overruled by what is typed.
"""

from __future__ import annotations

import dataclasses
import tomllib
import typing
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from glot_jax.cli.parsing import Leaf, build, leaves, parse_values, typed
from glot_jax.commands import is_similarity
from glot_jax.config.base import Config
from glot_jax.config.location import Location
from glot_jax.config.train import WARMUP, TrainConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.presets import PRESETS

Settings = TypeVar("Settings", bound=Config)

Given = dict[str, list[Any]]
"""Name of a setting of train.py -> its values, in the order of train.py's settings."""


def read_several(
    settings: type[Settings],
    arguments: Sequence[str],
    prog: str,
    *,
    examples: Sequence[str],
    ranges: bool = False,
) -> tuple[Settings, Given]:
    """The command's own settings, and those of train.py that are given, typed or in its file.

    Args:
        settings: of the command; its field `file` names a file of settings.
        arguments: what stands behind the name of the command.
        prog: the command, as `--help` and errors spell it.
        examples: command lines for `--help`.
        ranges: numbers may also be texts, such as LOW:HIGH.

    Raises:
        UsageError: a broken rule, a file that cannot be read, or one with an unknown setting.
    """
    own = leaves(settings)
    # The command's own flags come first: a seed of a sweep is the sampler's as well.
    several = {name: leaf for name, leaf in _several(ranges).items() if name not in own}
    # Twice by tyro: an empty tuple cannot tell what was typed from what was left out.
    values, _ = typed({**own, **several}, arguments, prog)
    # The second reading prints `--help` and checks every value.
    options = parse_values(
        settings,
        arguments,
        prog,
        defaults={**own, **several},
        groups=_groups(several),
        examples=examples,
    )
    command = build(settings, options)
    file = typing.cast("Any", command).file
    given = _read_file(file) if file is not None else {}
    for name in several:
        if name in values:
            given[name] = list(values[name])
    order = list(_settings())
    unknown = [name for name in given if name not in order]
    if unknown:
        raise UsageError(
            rule="a file of settings must name settings of train.py",
            got=f"{file}: {', '.join(map(str, unknown))}",
            fix=f"There are {', '.join(order)}.",
        )
    return command, {name: given[name] for name in order if name in given}


def layer_numbers(store: Location, layers: Sequence[object]) -> list[int]:
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


def base_of(
    store: Location, out: Path, preset: str | None, given: Collection[str] = ()
) -> TrainConfig:
    """The settings that none of the values changes.

    Args:
        store: which decides what a preset says of its task.
        out: folder of the command.
        preset: its name, or none.
        given: names of the settings that have values, which win over the preset's.

    Raises:
        UsageError: no such preset, or no store.
    """
    # The folder is that of the command; each run gets its own.
    base = TrainConfig(store=store, out=out)
    if preset is not None:
        choose: Callable[..., TrainConfig] = lookup(PRESETS, preset, "preset (--preset)")
        base = choose(base, is_similarity(store))
        base = dataclasses.replace(base, store=store, out=out)
    if not set(WARMUP).isdisjoint(given):
        # A warm-up given here replaces the one that a preset gives in another unit.
        optimizer = dataclasses.replace(base.optimizer, **dict.fromkeys(WARMUP))
        base = dataclasses.replace(base, optimizer=optimizer)
    # What is reported must not choose: the best of many would be flattered twice.
    objective = dataclasses.replace(base.objective, select_on="holdout")
    return dataclasses.replace(base, objective=objective)


def _settings() -> dict[str, Leaf]:
    """The settings of train.py that a comparison may vary or set."""
    flags = leaves(TrainConfig)
    # Where runs lie and which seeds they have is the comparison's own.
    return {name: flags[name] for name in flags if name not in ("store", "out", "seed")}


def _several(ranges: bool) -> dict[str, Leaf]:
    """Their flags, each with any number of values; lists themselves vary by file only."""
    flags = {}
    for name, leaf in _settings().items():
        hint = _one_value(leaf.hint)
        # A list of lists cannot be typed.
        if hint is not None:
            several: Any = tuple[hint, ...]
            if ranges and hint in (int, float):
                # A number is tried first: 0.1 is one, and 0.1:0.6 a text.
                several = tuple[hint | str, ...]
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


def _read_file(path: Path) -> Given:
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
    flat: Given = {}
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
