"""The commands `extract` and `train` as Python functions, which return what they made.

store = glot_jax.extract(
    backbone="minilm", task="custom", data="reviews.csv", text_columns=["text"],
    label_column="stars", out="stores/reviews",
)
run = glot_jax.train(store=store, out="runs/reviews", pooler="glot")
glot_jax.predict(run, ["a new text"])
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from glot_jax import plugins as plugin_modules
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.flat import from_flat
from glot_jax.config.json import Json, from_json
from glot_jax.config.location import Location, parse_location
from glot_jax.config.machines import Devices
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError, lookup, require_extra
from glot_jax.files import read_json

if TYPE_CHECKING:
    from rich.console import Console

    from glot_jax.backbones.backbone import Backbone
    from glot_jax.store import HiddenStore
    from glot_jax.store.split_reader import SplitReader
    from glot_jax.texts import TaskSpec
    from glot_jax.training.seeds import Joint
    from glot_jax.training.workspace import Workspace


@dataclasses.dataclass(frozen=True)
class ExtractResult:
    """A finished store; it stands for its folder wherever a path is taken.

    Splits are read as from a `HiddenStore`: `result["train"]`.
    """

    path: Location
    """Folder of the store, or its URL."""
    content: str
    """Identity of the store, hex; runs record it."""
    rows: Mapping[str, int]
    """Split -> rows."""
    tokens: int
    """Token states of all splits, of one layer."""
    store: HiddenStore = dataclasses.field(repr=False)
    """The store, opened at its last layer."""

    def __fspath__(self) -> str:
        """The folder, or the URL."""
        return str(self.path)

    def __getitem__(self, split: str) -> SplitReader:
        """The reader of a split.

        Raises:
            UsageError: the store does not have it.
        """
        return self.store[split]

    def __contains__(self, split: object) -> bool:
        return split in self.store

    def __iter__(self) -> Iterator[str]:
        return iter(self.store)


@dataclasses.dataclass(frozen=True, eq=False)
class TrainResult(Mapping[str, Any]):
    """A trained run; it stands for its folder wherever a path is taken.

    As a mapping it is the summary: `result["validation"]["best"]`.
    """

    run: Path
    """Run folder; of several seeds their parent."""
    metric: str
    """Metric that the epoch is chosen by."""
    score: float
    """Its value at the chosen epoch, on the split that chooses; of several seeds their mean."""
    summary: Mapping[str, Any] = dataclasses.field(repr=False)
    """The values of summary.json."""
    # Whole results and not folders: whoever asked for seeds wants to compare them.
    seeds: tuple[TrainResult, ...] = ()
    """The run of each seed, where several were asked for."""

    def __fspath__(self) -> str:
        """The folder."""
        return str(self.run)

    def __getitem__(self, name: str) -> Json:
        """An entry of the summary."""
        return self.summary[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.summary)

    def __len__(self) -> int:
        return len(self.summary)


def extract(
    config: ExtractConfig | None = None,
    *,
    console: Console | None = None,
    spec: TaskSpec | None = None,
    backbone: str | os.PathLike[str] | Backbone | None = None,
    **flags: object,
) -> ExtractResult:
    """Run a frozen language model once over a task's texts and store the token states.

    Args:
        config: the settings. Default: those of `backbone` and `flags`.
        console: receives messages; stderr by default.
        spec: classes or range from elsewhere, a trained run's for instance.
        backbone: as for extract.py; or a `Backbone` of these settings that is loaded already.
        **flags: the flags of extract.py by their names; `task` is "custom" where `data` is given.

    Raises:
        UsageError: a flag that does not exist or breaks a rule, settings given twice, and what
            `glot_jax.extraction.dump` raises.
    """
    require_extra("extract", "glot_jax.extract")
    from glot_jax.extraction import dump

    # As a flag it is a name; callers of `dump` have given the loaded backbone under this keyword.
    is_name = isinstance(backbone, str | os.PathLike)
    if is_name:
        flags = {"backbone": backbone, **flags}
    if config is None:
        # Files of one's own are task custom, whatever else is said about them.
        if "data" in flags:
            flags = {"task": "custom", **flags}
        config = from_flat(ExtractConfig, flags, "extract.py")
    elif flags:
        raise _given_twice(flags)
    loaded: Any = None if is_name else backbone
    store = dump(config, console=console, spec=spec, backbone=loaded)
    # Counted from the manifest: no shard is opened for it.
    readers = {name: store[name] for name in store.splits}
    return ExtractResult(
        path=store.path,
        content=store.content,
        rows={name: len(reader) for name, reader in readers.items()},
        tokens=sum(reader.tokens for reader in readers.values()),
        store=store,
    )


def train(
    config: TrainConfig | str | os.PathLike[str] | None = None,
    *,
    resume: bool | str | os.PathLike[str] = False,
    seeds: Sequence[int] = (),
    joint: Joint = "auto",
    preset: str | None = None,
    plugins: Iterable[str | ModuleType] = (),
    quiet: bool = False,
    workspace: Workspace | None = None,
    after_epoch: Callable[[int, float], None] | None = None,
    **flags: object,
) -> TrainResult:
    """Train a pooling head on a store of token states.

    Args:
        config: the settings, or the config.json of an earlier run, whose settings `flags` change.
            Default: those of `preset` and `flags`.
        resume: a run folder to go on with; True: that of `config`.
        seeds: train once per seed, into `OUT/seed-<s>`. Default: once, with `seed`.
        joint: whether seeds are trained in one program: auto (not on a CPU), on or off.
        preset: take what is not given from it: paper, release, tuned, msmarco.
        plugins: modules, or their names, with parts that the run has. Their code is run.
        quiet: print nothing.
        workspace: what runs that follow one another share.
        after_epoch: called with the epoch, from 1, and its score on the selecting split.
        **flags: the flags of train.py by their names: `store`, `out`, `pooler`, `hidden_dim` ...;
            also `track`, names of trackers, and `devices`, `distributed` and `process`
            (docs/devices.md), in a process that has made no array yet.

    Raises:
        UsageError: a flag that does not exist or breaks a rule, settings given twice, and what
            `glot_jax.training.train` raises.
    """
    # First: a setting may name a part that only a plugin has.
    plugin_modules.load(plugins)
    # No settings of the run: a config.json never starts a tracker, and names no machine.
    track = cast("Sequence[str]", flags.pop("track", ()))
    workspace = _placed(flags, workspace)
    settings = _train_settings(config, resume, preset, flags)
    # Of a config nobody knows which of its values were meant: then those that are no defaults.
    given = None if isinstance(config, TrainConfig) else frozenset(flags)
    # The tables of poolers and layers stand in JAX.
    from glot_jax import training
    from glot_jax.pooling.options import unread_options

    unread = unread_options(settings.graph, settings.pooler)
    # Of what was given alone: defaults that nothing reads are nobody's mistake.
    unused = {name: unread[name] for name in unread if name in flags}
    options: dict[str, Any] = {
        "unused": unused,
        "given": given,
        "quiet": quiet,
        "workspace": workspace,
        "after_epoch": after_epoch,
        "track": tuple(track),
    }
    if seeds:
        if resume:
            raise UsageError(
                rule="resume goes on with one run at a time",
                got="seeds with resume",
                fix="Resume OUT/seed-<s>.",
            )
        summary = training.train_seeds(settings, list(seeds), joint=joint, **options)
        return _result_of_seeds(settings.out, summary)
    summary = training.train(settings, resume=bool(resume), **options)
    return _result(settings.out, summary)


def _placed(flags: dict[str, object], workspace: Workspace | None) -> Workspace | None:
    """The workspace of a run on the devices that its flags name, which are taken out."""
    given = {name: flags.pop(name) for name in Devices.names() if name in flags}
    if not given:
        return workspace
    if workspace is not None:
        raise UsageError(
            rule="a workspace has its devices from the beginning",
            got=f"{', '.join(given)} with a workspace",
            fix="Give Workspace(glot_jax.mesh.start.start(...)), or leave one out.",
        )
    from glot_jax import training
    from glot_jax.mesh.start import start

    # A number of devices is a word on the command line.
    words: dict[str, Any] = {name: str(value) for name, value in given.items()}
    mesh = start(Devices(**words), lambda line: print(line, file=sys.stderr))
    return training.Workspace(mesh)


def _train_settings(
    config: TrainConfig | str | os.PathLike[str] | None,
    resume: bool | str | os.PathLike[str],
    preset: str | None,
    flags: Mapping[str, object],
) -> TrainConfig:
    # Two sources would need an order of precedence, which nobody could see.
    sources = [config is not None, not isinstance(resume, bool), preset is not None]
    if sum(sources) > 1:
        raise UsageError(
            rule="settings must come from one place",
            got="two of config, resume and preset",
            fix="Leave one out.",
        )
    if isinstance(config, TrainConfig):
        if flags:
            raise _given_twice(flags)
        return config
    if not isinstance(resume, bool):
        # What differs from the saved settings is refused by the run itself, field by field.
        folder = Path(resume)
        base = dataclasses.replace(saved_config(folder / "config.json"), out=folder)
        return from_flat(TrainConfig, flags, "train.py", base)
    if config is not None:
        # The run of that file has the folder it names: this one needs another.
        _require_given(flags, ("out",))
        return from_flat(TrainConfig, flags, "train.py", saved_config(Path(config)))
    if preset is not None:
        from glot_jax.presets import PRESETS

        make = lookup(PRESETS, preset, "preset (--preset)")
        _require_given(flags, ("store", "out"))
        store: Any = flags["store"]
        defaults = TrainConfig(store=Path(), out=Path())
        base = make(defaults, is_similarity(parse_location(store)))
        return from_flat(TrainConfig, flags, "train.py", base)
    return from_flat(TrainConfig, flags, "train.py")


def _require_given(flags: Mapping[str, object], names: Sequence[str]) -> None:
    for name in names:
        if name not in flags:
            raise UsageError(rule=f"{name} must be given", got="none", fix=f"Give {name}=...")


def _given_twice(flags: Mapping[str, object]) -> UsageError:
    return UsageError(
        rule="settings must come from a config object or from keywords, not from both",
        got=f"config and {', '.join(flags)}",
        fix="Use dataclasses.replace on the config, or give keywords alone.",
    )


def _result(run: Path, summary: Mapping[str, Any]) -> TrainResult:
    from glot_jax.run_folders.run_folder import Summary

    scores = Summary.from_json(summary).selecting.best
    # The metric that selects comes first.
    metric = next(iter(scores))
    return TrainResult(run, metric, scores[metric], summary)


def _result_of_seeds(out: Path, summary: Mapping[str, Any]) -> TrainResult:
    # The parent's summary has the names of the folders alone.
    results = []
    for name in summary["runs"]:
        results.append(_result(out / name, read_json(out / name / "summary.json")))
    # Every seed was scored on the same split, so that their mean is one.
    score = sum(result.score for result in results) / len(results)
    return TrainResult(out, results[0].metric, score, summary, tuple(results))


def is_similarity(store: Location | None) -> bool:
    """Whether a store's task scores two texts.

    A folder that holds no store is refused later, with everything else about it.
    """
    if store is None:
        return False
    from glot_jax.store import read_manifest
    from glot_jax.texts.tasks import TaskSpec

    try:
        return TaskSpec.from_json(read_manifest(store).task).is_similarity
    except UsageError:
        return False


def saved_config(path: Path) -> TrainConfig:
    """The settings of a run's config.json, or of a file of settings alone.

    Raises:
        UsageError: no such file, a damaged one, or a plugin that was not loaded.
    """
    if not path.is_file():
        raise UsageError(
            rule="expected the config.json of an earlier run",
            got=path,
            fix="Give a folder written by train.py.",
        )
    values = read_json(path)
    # A run's file has its settings under "config", beside what else it records; one that was
    # written by hand may be the settings alone.
    if isinstance(values, dict) and "config" in values:
        plugin_modules.require_loaded(values.get("plugins", ()), path.parent)
        values = values["config"]
    return from_json(TrainConfig, values)
