"""What a command can refuse before it loads jax or torch: names, paths and headers of files.

The work checks everything again where it happens, for callers from Python; here the same mistakes
cost milliseconds instead of the seconds of an import. A name that is not known here may be one that
a plugin registers, which is then to be loaded first.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from glot_jax.config import names
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.location import Location, parse_location
from glot_jax.config.train import GraphConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError, lookup, require_extra, require_known
from glot_jax.registry import registered_by_plugins


def require_names(graph: GraphConfig, pooler: PoolerConfig) -> None:
    """Require that every name exists, even one that the pooler would not read.

    Raises:
        UsageError: An unknown rule, backend, GNN layer or pooler.
    """
    rules = _with_plugins(names.RULES)
    layers = _with_plugins(names.GNN_LAYERS)
    poolers = _with_plugins(names.POOLERS)
    require_known(rules, graph.graph, "graph rule (--graph)")
    # Plugins bring no backends.
    require_known(names.BACKENDS, graph.backend, "graph backend (--backend)")
    # With any pooler: a misspelt layer would go unnoticed until the pooler is changed.
    require_known(layers, pooler.gnn, "GNN layer (--gnn)")
    require_known(poolers, pooler.pooler, "pooler (--pooler)")


def require_poolers(poolers: Iterable[str], flag: str) -> None:
    """Require that every pooler exists; `flag` is what named them."""
    for pooler in poolers:
        require_known(_with_plugins(names.POOLERS), pooler, f"pooler ({flag})")


def require_trackers(trackers: Iterable[str]) -> None:
    """Require that every tracker exists, and that what it needs is installed."""
    if not trackers:
        return
    # No JAX behind it.
    from glot_jax.tracking import TRACKERS

    for name in trackers:
        lookup(TRACKERS, name, "tracker (--track)").require_installed()


def _with_plugins(known: tuple[str, ...]) -> tuple[str, ...]:
    """The names of this package and those that plugins have registered, in any table.

    A name of the wrong table is found where the part is looked up.
    """
    return (*known, *registered_by_plugins())


def require_stored_layers(config: TrainConfig) -> None:
    """Require a finished store that holds the layers which are read.

    Raises:
        UsageError: No store, a damaged one, or a layer that it does not hold.
    """
    from glot_jax.store import HiddenStore, read_manifest

    # Opened and thrown away: opening it is the check.
    # trust: hashes are compared when the states are read, which takes longer than a second.
    if config.mix_layers is None and config.layer is not None:
        HiddenStore(config.store, layer=config.layer, trust=True)
    elif config.mix_layers:
        HiddenStore(config.store, layers=config.mix_layers, trust=True)
    # Whichever layer is the only one, or all of them: there is none that could be missing.
    else:
        read_manifest(config.store)


def require_classes(store: Location, option: str) -> None:
    """Require that the rows of a store have classes, one each.

    Raises:
        UsageError: No store, a damaged one, or other labels.
    """
    from glot_jax.store import read_manifest
    from glot_jax.texts.tasks import TaskSpec, require_one_class

    require_one_class(TaskSpec.from_json(read_manifest(store).task), option)


def require_metric(store: Location, metric: str | None) -> None:
    """Require that the store's task is judged by the metric that selects, if one was named.

    Raises:
        UsageError: No store, a damaged one, or another metric.
    """
    if metric is None:
        return
    from glot_jax.store import read_manifest
    from glot_jax.texts.tasks import TaskSpec, selection_metric

    task = TaskSpec.from_json(read_manifest(store).task)
    # Without labels nothing can be trained, which is said where it is tried.
    if task.metrics:
        selection_metric(task, metric)


def require_run(run: Path) -> None:
    """Require a run folder of this version.

    Raises:
        UsageError: Another kind of folder.
    """
    from glot_jax.run_folders.run_files import read_config

    read_config(run)


def require_scores(run: Path) -> None:
    """Require a run that was trained on classes or scores, for its head to be exported.

    Raises:
        UsageError: It ranks texts, or was stored without labels.
    """
    from glot_jax.inference.answering import require_scores as require_scored_task
    from glot_jax.run_folders.run_files import read_task

    require_scored_task(read_task(run))


def require_store_of_run(run: Path, store: Location | None, command: str) -> None:
    """Require a run folder, and its store unless another one is given.

    Raises:
        UsageError: Another kind of folder, or a store that is no longer where it was.
    """
    from glot_jax.run_folders.run_files import read_config, require_store
    from glot_jax.store import read_manifest

    # Before the store: without a run there is nothing that another store could be read for.
    values = read_config(run)
    if store is not None:
        read_manifest(store)
    # An imported run has no store, and says so to whoever opens it.
    elif "imported" not in values:
        own_store = parse_location(values["config"]["store"])
        require_store(own_store, command)


def require_folder(folder: Path, rule: str) -> None:
    """Require that a folder exists; `rule` is what the error says must hold."""
    if not folder.is_dir():
        raise UsageError(
            rule=rule,
            got=f"{folder}, which is not a folder",
            fix="Check the path.",
        )


def require_file(file: Path, noun: str) -> None:
    """Require that a file exists; `noun` is what it should be: "a .pth file"."""
    if not file.is_file():
        raise UsageError(
            rule=f"expected {noun}",
            got=f"{file}, which is not a file",
            fix="Check the path.",
        )


def require_task(config: ExtractConfig) -> None:
    """Require that a task exists, and the files and the folder that were named.

    Raises:
        UsageError: An unknown task, options that it does not read, or --data, --validation-file or
            --backbone that lead nowhere.
    """
    from glot_jax.texts.readers import check_task

    check_task(config)
    # A name with one slash may be on the Hub; these are paths and nothing else.
    is_path = config.location.startswith(("/", "./", "../", "~"))
    path = Path(config.location).expanduser()
    if config.location.lower().endswith(".gguf"):
        require_extra("gguf", "a GGUF backbone")
        is_there = path.is_file()
    else:
        is_there = path.is_dir()
    if is_path and not is_there:
        raise UsageError(
            rule="--backbone must be a folder with a model, a GGUF file, or a name on the Hub",
            got=f"{config.location}, which is not there",
            fix="Check the path.",
        )
