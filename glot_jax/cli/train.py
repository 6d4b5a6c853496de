"""`glot train`: settings from a run, a file or a preset, changed by the flags that were typed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from glot_jax.cli.early_checks import (
    require_classes,
    require_metric,
    require_names,
    require_stored_layers,
    require_trackers,
)
from glot_jax.cli.own_flags import (
    own_flags,
    own_options,
    require_free_names,
    unread_own_options,
    with_own_options,
)
from glot_jax.cli.parsing import Leaf, build, leaves, parse_values, typed
from glot_jax.commands import is_similarity, saved_config
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config.base import Config, flag
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.config.machines import Devices
from glot_jax.config.train import (
    WARMUP,
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)
from glot_jax.errors import UsageError, lookup
from glot_jax.presets import PRESETS

if TYPE_CHECKING:
    from glot_jax.mesh.device_mesh import Mesh
    from glot_jax.training import Workspace


@dataclasses.dataclass(frozen=True)
class TrainCommand(Config):
    """Train a pooling head on a store of token states. Pure JAX: no torch is imported."""

    takes_plugins: ClassVar[bool] = True

    run: TrainConfig
    """Settings of the run."""
    seeds: tuple[int, ...] = ()
    """Train once per seed, into OUT/seed-<s>, and write mean and deviation to OUT/summary.json.
    Default: once, with --seed.
    """
    joint: Literal["auto", "on", "off"] = "auto"
    """--seeds: train them step by step in one program, or one after another. auto: in one program,
    but not on a CPU, where that is no faster.
    """
    resume: Path | None = None
    """Continue the run in this folder from its latest checkpoint, with its own settings; more
    --epochs extend it, also when it had ended. Default: a new run in OUT.
    """
    reschedule: bool = False
    """--resume with more --epochs: stretch a cosine or a warm-up over all of them. Default: what
    has ended stays at its end.
    """
    config: Path | None = None
    """Take every setting that is not given from this config.json of an earlier run. Default: from
    the defaults below.
    """
    preset: str | None = None
    """Take every setting that is not given from a preset of glot_jax.presets: paper, release,
    tuned, msmarco. Default: from the defaults below.
    """
    track: tuple[str, ...] = ()
    """Follow the run in these tools too: tensorboard, wandb, mlflow, or one of a plugin. They write
    into OUT/tracking and send nothing (docs/tracking.md); never taken from a config.json. Default:
    none.
    """
    linear_probe: bool = False
    """Compare the trained head with logistic regression on mean vectors, in seconds; for tasks with
    classes. Both scores stand in summary.json, and a head that is the worse one is named.
    """
    json: bool = False
    """Print the whole summary as one JSON object instead of a sentence; it is in OUT/summary.json
    as well.
    """
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""
    places: Devices = dataclasses.field(default_factory=Devices)
    """Where the run is trained."""


@dataclasses.dataclass(frozen=True)
class TrainRequest(TrainCommand):
    """A command and which of its settings were typed, which is no flag itself."""

    typed: frozenset[str] = frozenset()
    """Names of the settings that a flag gave: only these are complained about where they are not
    read.
    """
    unread: tuple[tuple[str, object], ...] = ()
    """Options of plugins' parts that were not chosen, and their values."""


EXAMPLES = (
    "Example: python train.py --store stores/cola --preset tuned --out runs/cola",
    "Example: python train.py --store stores/cola --gnn gat --tau 0.3 --seeds 1 2 3 --out runs/gat",
)

# First in `--help`, in this order.
_COMMON = (
    "store",
    "out",
    "preset",
    "config",
    "resume",
    "pooler",
    "gnn",
    "tau",
    "hidden_dim",
    "num_layers",
    "epochs",
    "batch_size",
    "lr",
    "seed",
    "seeds",
)
_GROUPS: dict[str, tuple[type[Config], str]] = {
    "token_graph": (GraphConfig, "Which tokens are linked, and how the graph is computed."),
    "pooling": (PoolerConfig, "The pooler's parts, and what is done with the states before it."),
    "objective": (ObjectiveConfig, "What is trained and judged; the task comes from the store."),
    "optimization": (OptimizerConfig, "Adam or AdamW, its schedule and its warm-up."),
    "feeding": (TrainConfig, "Which states are read, how they are batched, logged and saved."),
}


def train(command: TrainRequest) -> int:
    """Train a pooling head on a store of token states; JAX alone, no torch."""
    config = command.run
    if command.reschedule:
        optimizer = dataclasses.replace(config.optimizer, schedule_epochs=config.epochs)
        config = dataclasses.replace(config, optimizer=optimizer)
    require_names(config.graph, config.pooler)
    require_trackers(command.track)
    if command.reschedule and command.resume is None:
        raise UsageError(
            rule="--reschedule is for a run that gets more epochs",
            got="--reschedule without --resume",
            fix="Give --resume RUN --epochs N, or leave it out.",
        )
    if command.resume is not None and command.seeds:
        raise UsageError(
            rule="--resume continues one run at a time",
            got="--seeds with --resume",
            fix="Resume OUT/seed-<s>.",
        )
    if command.places.are_default:
        _require_folders(command)
        return _train(command, config, None)
    if command.linear_probe and command.places.distributed is not None:
        raise UsageError(
            rule="--linear-probe is computed by one process",
            got=f"--linear-probe with --distributed {command.places.distributed}",
            fix="Leave it out.",
        )
    return _train_on_several(command, config)


def _train_on_several(command: TrainRequest, config: TrainConfig) -> int:
    """Train on several devices; an error of one process ends all of them."""
    # Before anything is looked at: who finds a mistake tells the others.
    from glot_jax.mesh.ending import ending_together
    from glot_jax.mesh.start import start

    mesh = start(command.places, lambda line: print(line, file=sys.stderr))
    with ending_together(mesh.processes, f"train.py --resume {config.out}"):
        with mesh.processes.agree():
            _require_folders(command)
        return _train(command, config, mesh)


def _train(command: TrainRequest, config: TrainConfig, mesh: Mesh | None) -> int:
    # The tables of poolers and layers stand in JAX: not before the command line has been read.
    from glot_jax.pooling.options import unread_options

    unread = unread_options(config.graph, config.pooler) | dict(command.unread)
    unused = {name: unread[name] for name in unread if name in command.typed}
    use_compile_cache(command.programs.compile_cache)
    from glot_jax import training

    # For the probe, which reads the same states.
    workspace = training.Workspace() if mesh is None else training.Workspace(mesh)
    shared = {"unused": unused, "given": command.typed, "workspace": workspace}
    if command.seeds:
        seeds = list(command.seeds)
        joint, track = command.joint, command.track
        summary = training.train_seeds(config, seeds, joint=joint, track=track, **shared)
    else:
        resume = command.resume is not None
        summary = training.train(config, resume=resume, track=command.track, **shared)
    # After training, and of every seed by itself.
    if command.linear_probe:
        runs = [config.out / name for name in summary.get("runs", ["."])]
        for run in runs:
            _probe(run, workspace)
        if not command.seeds:
            # With what the probe has added.
            summary = json.loads((config.out / "summary.json").read_text(encoding="utf-8"))
    # One of several processes speaks.
    if not workspace.mesh.processes.first:
        return 0
    if command.json:
        print(json.dumps(summary, indent=2))
        return 0
    from glot_jax.cli.closing import after_seeds, after_training

    if command.seeds:
        lines = after_seeds(summary, config.out)
    else:
        lines = after_training(summary, config.out, config.epochs)
    print("\n".join(lines))
    return 0


def _probe(run: Path, workspace: Workspace) -> None:
    from glot_jax.experiments.mean_probe import add_mean_probe

    for line in add_mean_probe(run, workspace):
        print(f"{run.name}: health: {line}", file=sys.stderr)


def _require_folders(command: TrainRequest) -> None:
    """Require a store to read and a folder to write, or a run to go on with."""
    from glot_jax.run_folders.run_files import read_config, require_new_folder, require_store

    config = command.run
    if command.linear_probe:
        require_classes(config.store, "--linear-probe")
    if command.resume is not None:
        values = read_config(command.resume)
        # An imported run has no store; `train` says why it cannot go on.
        if "imported" not in values:
            require_store(config.store, f"train.py --resume {config.out}")
        return
    require_stored_layers(config)
    require_metric(config.store, config.objective.metric)
    # The seeds' folders may be there already: the same command finishes those that are left.
    if not command.seeds:
        require_new_folder(config.out)


def read_train(arguments: Sequence[str], prog: str) -> TrainRequest:
    """The settings of `arguments`.

    Those of --resume's or --config's run, or of a preset, become the defaults that other flags
    change.
    """
    # Twice by tyro: what was typed decides the defaults, and those are in `--help` as well.
    brought = own_options()
    values, _ = typed({**leaves(TrainCommand), **own_flags(brought)}, arguments, prog)
    base, required = _base(values)
    if values.keys() & set(WARMUP) and "resume" not in values:
        # A warm-up given here replaces the one that a preset or file gives in another unit.
        optimizer = dataclasses.replace(base.optimizer, **dict.fromkeys(WARMUP))
        base = dataclasses.replace(base, optimizer=optimizer)
    ours = leaves(TrainCommand, TrainCommand(base), required)
    flags = own_flags(brought, base)
    require_free_names(flags, ours)
    options = parse_values(
        TrainCommand,
        arguments,
        prog,
        defaults={**ours, **flags},
        groups=_groups(flags),
        examples=EXAMPLES,
    )
    command = build(TrainCommand, options)
    run = with_own_options(command.run, brought, options)
    return TrainRequest(
        **{**vars(command), "run": run},
        typed=frozenset(values),
        unread=tuple(unread_own_options(run, flags, options).items()),
    )


def _groups(of_plugins: Mapping[str, Leaf]) -> dict[str, tuple[str, Sequence[str]]]:
    """The groups of `--help`: what most runs need first."""
    groups: dict[str, tuple[str, Sequence[str]]] = {"common": ("What most runs need.", _COMMON)}
    for title, (settings, text) in _GROUPS.items():
        # Those of the class itself: TrainConfig holds the other classes. `own` is no flag.
        own = [name for name in settings.names() if name in leaves(settings)]
        groups[title] = (text, [name for name in own if name not in _COMMON])
    if of_plugins:
        groups["plugins"] = ("What the parts of the plugins read.", list(of_plugins))
    return groups


def _base(values: dict[str, Any]) -> tuple[TrainConfig, tuple[str, ...]]:
    """The settings that typed flags change, and the names of those that must be typed."""
    defaults = TrainConfig(store=Path(), out=Path())
    # Where the settings come from that were not typed: one place, or the defaults.
    sources = [name for name in ("resume", "config", "preset") if name in values]
    if "resume" in sources:
        others = [flag(name) for name in ("out", "config", "preset") if name in values]
        if others:
            raise UsageError(
                rule="--resume names the run and its settings",
                got=f"--resume with {' and '.join(others)}",
                fix="Leave the others out.",
            )
        folder = values["resume"]
        # Whatever else is given is compared with what was saved, field by field, by the run itself.
        return dataclasses.replace(saved_config(folder / "config.json"), out=folder), ()
    if len(sources) > 1:
        raise UsageError(
            rule="settings must come from one place",
            got="--config with --preset",
            fix="Leave one out.",
        )
    # The run in that file has the folder it names: this one needs another.
    if "config" in sources:
        return saved_config(values["config"]), ("out",)
    if "preset" in sources:
        preset = lookup(PRESETS, values["preset"], "preset (--preset)")
        return preset(defaults, is_similarity(values.get("store"))), ("store", "out")
    return defaults, ("store", "out")
