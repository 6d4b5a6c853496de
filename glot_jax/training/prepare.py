"""What a run is: store, rows, feeds, model and compiled steps, all checked before anything is
written.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from flax import nnx

from glot_jax.batches.feed import Feed, describe_feed, longest_text_per_row, place_states
from glot_jax.batches.plan import BatchPlan, choose_bounds, longest_of_batches
from glot_jax.batches.state_statistics import state_statistics
from glot_jax.config.base import NUMBERS, PROGRAM, part_of
from glot_jax.config.json import differences
from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError, lookup, require
from glot_jax.files import make_folders
from glot_jax.graphs import RULES, SELECTABLE
from glot_jax.graphs.from_states import require_k_within
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.objectives import TaskSpec, objective_kind, selection_metric
from glot_jax.pooling import GNN_LAYERS, Mlp, count_parameters
from glot_jax.store.layout import MANIFEST
from glot_jax.store.manifest import read_manifest
from glot_jax.store.reader import HiddenStore
from glot_jax.store.recipe import Recipe
from glot_jax.store.split_reader import SplitReader
from glot_jax.training.edge_budgets import edge_budgets
from glot_jax.training.notices import (
    chosen_layer,
    chosen_split,
    unread_by_pooler,
    unread_by_task,
)
from glot_jax.training.optimizer import build_optimizer, build_schedule
from glot_jax.training.ranking import query_of_rows, ranking_feeds
from glot_jax.training.run_folder import RunFolder
from glot_jax.training.run_log import Display
from glot_jax.training.steps import Steps, TrainState, init_state, split_model


@dataclasses.dataclass(frozen=True)
class Run:
    config: TrainConfig
    model_spec: ModelSpec
    content: str
    recipe: Recipe
    metric: str
    selected_on: str
    feeds: dict[str, Feed]
    """"train", then the evaluation splits in the order they are reported."""
    steps: Steps
    state: TrainState
    parameters: dict[str, int]

    @property
    def task(self) -> TaskSpec:
        return self.model_spec.task

    @property
    def steps_per_epoch(self) -> int:
        return self.feeds["train"].plan.steps_per_epoch

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.config.epochs

    @property
    def compile_seconds(self) -> float:
        """Spent compiling steps and gathers so far."""
        places = {id(feed.states): feed.states for feed in self.feeds.values()}
        return self.steps.compile_seconds + sum(
            states.compile_seconds for states in places.values()
        )

    @property
    def selecting_split(self) -> str:
        """The evaluation split that selects; a holdout is reported as "validation" where there is
        no other.
        """
        return (
            "validation"
            if self.selected_on == "holdout" and "holdout" not in self.feeds
            else self.selected_on
        )

    @property
    def reported_split(self) -> str:
        """The split that people look at first: the (first) validation split."""
        return next(name for name in self.feeds if name.startswith("validation"))


def require_store(store: Path, command: str) -> None:
    """UsageError with the fix for the store of an earlier run that is no longer where it was;
    `command` reads it.
    """
    if os.path.lexists(store / MANIFEST):
        return
    try:
        read_manifest(store)
    except UsageError as error:
        fix = f"If the store was moved, give its new place with --store: {command} --store NEW."
        raise UsageError(error.rule, error.got, fix) from error


def prepare(
    config: TrainConfig,
    display: Display,
    residents: dict[tuple, Any],
    *,
    trained: bool = False,
    begun: bool = False,
    unused: Mapping[str, Any] = MappingProxyType({}),
    given: Collection[str] | None = None,
) -> Run:
    """Check everything and build it, writing nothing; then say what was decided, in one block of
    lines.

    `trained`: a checkpoint will bring the statistics of its own store. `begun`: the run was decided
        about by an earlier
    process, which said so. `unused` and `given` are `train`'s.
    """
    store = _open_store(config)
    mixed = config.mix_layers is not None
    spec = ModelSpec(
        store.dim, store.layers, mixed, store.recipe.kind, TaskSpec.from_json(store.task)
    )
    check_names(config.graph, config.pooler)
    kind = objective_kind(spec.task)  # first of all: a store without labels has no metric either
    metric = selection_metric(spec.task, config.objective.metric)
    rows, selected_on = (
        _divide(store, config) if "train" in store or not trained else _all_rows(store)
    )
    notices: list[str] = []
    if not trained and not begun:
        notices += unread_by_pooler(unused)
        notices += unread_by_task(config.objective, kind, given)
        notices += chosen_layer(store, config)
        notices += chosen_split(
            config, selected_on, metric, len(rows.get("validation", rows["train"])[1])
        )
    if config.trust_store:
        notices.append(f"{store.path}: hashes are not checked (--trust-store)")
    for split in {stored for stored, _ in rows.values()}:
        # On other threads, while the model is built and the first shards are copied.
        store[split].hash_ahead()
    model = SentenceModel(
        spec,
        graph=config.graph,
        pooler=config.pooler,
        objective=config.objective,
        rngs=nnx.Rngs(config.seed),
    )
    feeds = (
        _feeds(store, config, rows, residents, notices.append)
        if kind != "embedding"
        else ranking_feeds(store, config, model.roles, rows, residents, notices.append)
    )
    # A trained run is scored on any store, and its schedule changes nothing any more.
    steps_per_epoch = feeds["train"].plan.steps_per_epoch if "train" in feeds else 1
    schedule = build_schedule(config.optimizer, steps_per_epoch, steps_per_epoch * config.epochs)
    optimizer = build_optimizer(config.optimizer, schedule)
    if model.pooler.uses_edges and not trained:
        require_k_within(config.graph, feeds["train"].plan.bounds[-1])
    if isinstance(model.pooler, Mlp) and model.pooler.matched is not None:
        notices.append(
            f"mlp: {count_parameters(model.pooler):,} parameters, to match the"
            f" {model.pooler.matched:,} of the glot it stands in for"
        )
    if config.pooler.standardise and not trained:
        model.stem.set_statistics(*state_statistics(feeds["train"].reader, rows["train"][1]))
    budgets = edge_budgets(model.stem, feeds)
    for (texts, length), budget in budgets.items():
        notices.append(
            f"sparse: {texts} texts of {length} tokens have room for {texts * length + 1:,} nodes"
            f" and {budget:,} edges"
        )
    graphdef, params, stats = split_model(model)
    parameters = {
        "pooler": count_parameters(model.stem) + count_parameters(model.pooler),
        "head": count_parameters(model.head),
    }
    require(
        sum(parameters.values()) > 0,
        "training needs something to train",
        f"--pooler {config.pooler.pooler} --embedding-head none, without a parameter",
        "Give --embedding-head linear, or a pooler that learns.",
    )
    for notice in notices:
        display.line(notice)
    # Runs that differ by nothing that is compiled share their executables: the seeds of a study are
    # traced once.
    program = (
        "steps",
        repr(
            (
                spec,
                config.part(PROGRAM),
                steps_per_epoch,
                sorted(budgets.items()),
            )
        ),
    )
    steps = residents.setdefault(
        program, Steps(graphdef, spec.task, optimizer, budgets, steps_per_epoch * config.epochs)
    )
    return Run(
        config,
        spec,
        store.content,
        store.recipe,
        metric,
        selected_on,
        feeds,
        steps,
        init_state(params, stats, optimizer, config.seed),
        parameters,
    )


def _open_store(config: TrainConfig) -> HiddenStore:
    if config.mix_layers is None:
        return HiddenStore(config.store, layer=config.layer, trust=config.trust_store)
    # `--mix-layers` without a number means every layer there is.
    stored = config.mix_layers or HiddenStore(config.store).stored_layers
    store = HiddenStore(config.store, layers=stored, trust=config.trust_store)
    require(
        len(set(store.layers)) == len(store.layers),
        "--mix-layers are different from one another",
        store.layers,
        "Drop the repeats.",
    )
    require(
        len(store.layers) > 1,
        "--mix-layers mixes two or more layers",
        f"layer {store.layers[0]} alone",
        "Extract with --layers, or use --layer.",
    )
    return store


def check_names(graph: GraphConfig, pooler: PoolerConfig) -> None:
    """A misspelt name is an error even where the pooler would not read it."""
    lookup(RULES, graph.graph, "graph rule (--graph)")
    lookup(SELECTABLE, graph.backend, "graph backend (--backend)")
    lookup(GNN_LAYERS, pooler.gnn, "GNN layer (--gnn)")


def _divide(
    store: HiddenStore, config: TrainConfig
) -> tuple[dict[str, tuple[str, np.ndarray]], str]:
    """Rows of each reported split as {name: (stored split, row indices)}, "train" first; and the
    split that selects.
    """
    require(
        "train" in store,
        "training needs a train split",
        f"{store.path}: {', '.join(store)}",
        "Extract one.",
    )
    others = [name for name in store if name != "train"]
    rows = {name: (name, np.arange(len(store[name]))) for name in ("train", *others)}
    validations = [name for name in others if name.startswith("validation")]
    asked = config.objective.select_on
    if asked == "auto":
        asked = "validation" if validations else "holdout"
    require(
        asked != "validation" or bool(validations),
        "--select-on validation needs a validation split",
        ", ".join(store),
        "Use --select-on holdout.",
    )
    if asked == "holdout" or not validations:
        ranked = store.task["label_kind"] == "ranking"
        # Rows of one query stand on one side: another row of a query that was trained on is nothing
        # unseen.
        unit = (
            np.unique(query_of_rows(store["train"]), return_inverse=True)[1]
            if ranked
            else np.arange(len(store["train"]))
        )
        chosen = np.random.default_rng((config.seed, 0x601D)).permutation(
            int(unit.max(initial=-1)) + 1
        )
        # A query without texts of its own that are not relevant is ranked among those of another
        # one.
        least = 2 if ranked and not _all_have_negatives(store["train"]) else 1
        held = max(least, len(chosen) // 10)
        require(
            len(chosen) > held,
            f"a holdout needs at least {least + 1} training {'queries' if ranked else 'rows'}",
            len(chosen),
            "Add rows.",
        )
        name = "holdout" if validations else "validation"
        held_out = np.isin(unit, chosen[:held])
        rows["train"] = ("train", np.flatnonzero(~held_out))
        rows = {"train": rows["train"], name: ("train", np.flatnonzero(held_out)), **rows}
    return rows, validations[0] if asked == "validation" else asked


def _all_have_negatives(split: SplitReader) -> bool:
    candidates = np.diff(split.row_offsets) - 1
    relevant = np.zeros(len(candidates)) if split.labels is None else np.asarray(split.labels)
    return bool((candidates > relevant).all())


def _all_rows(store: HiddenStore) -> tuple[dict[str, tuple[str, np.ndarray]], str]:
    """The same for a store without a train split: all rows of all splits."""
    return {name: (name, np.arange(len(store[name]))) for name in store}, "last"


def _feeds(
    store: HiddenStore,
    config: TrainConfig,
    rows: dict[str, tuple[str, np.ndarray]],
    residents: dict[tuple, Any],
    say: Callable[[str], None],
) -> dict[str, Feed]:
    lengths = {
        name: longest_text_per_row(store[split])[index] for name, (split, index) in rows.items()
    }
    longest = max(int(of.max(initial=1)) for of in lengths.values())
    by_length = config.batches == "by-length"
    main = next(iter(rows))  # "train", if there is one
    typical = lengths[main] if by_length else longest_of_batches(lengths[main], config.batch_size)
    bounds = choose_bounds(typical, config.buckets, longest=longest)
    feeds = {}
    for name, (split, index) in rows.items():
        reader: SplitReader = store[split]
        training = name == "train"
        plan = BatchPlan(
            index,
            lengths[name],
            bounds,
            config.batch_size if training else config.eval_batch_size,
            config.seed if training else None,
            by_length=by_length or not training,
        )
        place = (store.content, store.layers, config.mix_layers is not None, split, config.cache)
        if place not in residents:
            residents[place] = place_states(reader, config.cache)
        feeds[name] = Feed(reader, plan, residents[place])
    say(describe_feed(store, feeds))
    return feeds


def open_folder(config: TrainConfig, run: Run, resume: bool, unused: dict[str, Any]) -> None:
    """Create the run folder, or make sure that it holds this very run."""
    folder = RunFolder(config.out, config, run.model_spec, run.content, run.recipe, unused)
    if resume:
        saved = RunFolder.open(config.out)
        changed = differences(_that_decides(saved.to_json()), _that_decides(folder.to_json()))
        require(
            not changed,
            "a run is resumed with its own settings",
            "; ".join(changed),
            "Resume without them, or start another --out.",
        )
        dataclasses.replace(folder, unused=saved.unused).write()
        return
    require(
        not config.out.exists() or (config.out.is_dir() and not any(config.out.iterdir())),
        "--out is a new folder",
        f"{config.out}, which exists",
        (
            f"Continue it with --resume {shlex.quote(str(config.out))}, or choose another --out."
            if (config.out / "config.json").is_file()
            else "It is no run: choose another --out."
        ),
    )
    make_folders(config.out)
    folder.write()


def _that_decides(saved: Mapping[str, Any]) -> dict[str, Any]:
    """config.json without what changes no number: where things lie, how they are fed, when they are
    saved, room for edges, and the options of another kind of task (runs of versions without them
    can be resumed)."""
    config = part_of(TrainConfig, saved["config"], NUMBERS)
    if saved["model"]["task"]["label_kind"] != "ranking":
        unread = ObjectiveConfig.names_only_for("embedding")
        objective = config["objective"].items()
        config["objective"] = {name: value for name, value in objective if name not in unread}
    return {**{name: value for name, value in saved.items() if name != "unused"}, "config": config}
