"""From the settings of a run to its feeds, model and compiled steps.

Everything is checked before anything is written.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

from flax import nnx

from glot_jax.batches.feed import Feed
from glot_jax.batches.feed_kinds import FEEDS, FeedKind, FeedRequest
from glot_jax.batches.split_rows import Splits
from glot_jax.batches.token_choice import TokenChoice
from glot_jax.config.base import NUMBERS, PROGRAM, part_of
from glot_jax.config.json import differences
from glot_jax.config.train import GraphConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError, lookup
from glot_jax.graphs import RULES, SELECTABLE
from glot_jax.graphs.from_states import require_k_within
from glot_jax.health import Finding, small_selection
from glot_jax.mesh.alike import require_alike
from glot_jax.mesh.device_mesh import Mesh
from glot_jax.mesh.fitting import require_fit
from glot_jax.model import ModelSpec, SentenceModel, split_model
from glot_jax.objectives import Objective, TaskSpec, objective_for
from glot_jax.objectives.temperature import require_calibrated
from glot_jax.pooling import GNN_LAYERS, count_parameters
from glot_jax.run_folders.run_files import require_new_folder
from glot_jax.run_folders.run_folder import SUMMARY, RunFolder
from glot_jax.run_folders.run_log import Display
from glot_jax.store.reader import HiddenStore
from glot_jax.store.recipe import Recipe
from glot_jax.texts.tasks import selection_metric
from glot_jax.training.advance import compile_ahead
from glot_jax.training.edge_budgets import describe_budgets, edge_budgets
from glot_jax.training.measured import (
    choose_tokens,
    found_in_labels,
    found_in_states,
    selecting_rows,
    set_statistics,
    with_bucket_count,
    with_class_weights,
    with_measured,
    with_xla_options,
)
from glot_jax.training.notices import (
    chosen_layer,
    chosen_split,
    extended,
    matched_size,
    read_by_others,
    unread_by_pooler,
    unread_by_task,
)
from glot_jax.training.optimizer import optimizer_maker
from glot_jax.training.plugin_parts import plugins_of
from glot_jax.training.step_functions import Numbers, OptimizerMaker, TrainState
from glot_jax.training.steps import Steps, init_state
from glot_jax.training.workspace import Workspace


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A model on a store: all that is needed to score it."""

    config: TrainConfig
    model_spec: ModelSpec
    objective: Objective
    content: str
    """Identity of the store."""
    recipe: Recipe
    """How the states of the store were made."""
    feeds: dict[str, Feed]
    """"train", then the evaluation splits in the order they are reported."""
    steps: Steps
    state: TrainState
    """Untrained, but of a run that was opened to be judged."""

    @property
    def mesh(self) -> Mesh:
        """The devices of the run."""
        return self.steps.mesh

    @property
    def task(self) -> TaskSpec:
        """The task of the store."""
        return self.model_spec.task

    @property
    def evaluation_splits(self) -> list[str]:
        """Splits that are judged, in the order they are reported."""
        return [split for split in self.feeds if split != "train"]

    @property
    def compile_seconds(self) -> float:
        """How long this process has waited for programs to be compiled."""
        return self.steps.compile_seconds

    def compile_ahead(self, *, train: bool = True) -> int:
        """Have all programs compiled on other threads, and return how many they are.

        Args:
            train: those of training steps too.
        """
        name = "evaluate" if self.objective.judged_by == "outputs" else "features"
        feeds = {split: feed for split, feed in self.feeds.items() if train or split != "train"}
        return compile_ahead(self.steps, self.state, feeds, name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingRun(Run):
    """A run that is to be trained, and how its best epoch is chosen."""

    metric: str
    """Metric that selects the best epoch."""
    selected_on: str
    """Split that selects it: validation, holdout, or last for no selection."""
    parameters: dict[str, int]
    """Trained parameters of `pooler` (the stem included) and `head`."""
    findings: tuple[Finding, ...]
    """What looks wrong before the first step."""

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of an epoch."""
        return self.feeds["train"].plan.steps_per_epoch

    @property
    def total_steps(self) -> int:
        """Training steps of the run."""
        return self.steps_per_epoch * self.config.epochs

    @property
    def selecting_split(self) -> str:
        """The evaluation split that selects."""
        # A holdout is reported as "validation" where there is no other.
        if self.selected_on == "holdout" and "holdout" not in self.feeds:
            return "validation"
        return self.selected_on

    @property
    def reported_split(self) -> str:
        """The split that people look at first: the (first) validation split."""
        return next(name for name in self.feeds if name.startswith("validation"))


def prepare(
    config: TrainConfig,
    display: Display,
    workspace: Workspace | None = None,
    *,
    begun: bool = False,
    unused: Mapping[str, Any] = MappingProxyType({}),
    given: Collection[str] | None = None,
) -> TrainingRun:
    """Check a run and build it, writing nothing, and print what was decided.

    Args:
        config: the settings.
        display: where the lines go.
        workspace: shared with the runs before; default: one of its own.
        begun: an earlier process has begun this run, and has printed what was decided.
        unused: see `train`.
        given: see `train`.

    Raises:
        UsageError: settings that do not fit the store or each other.
    """
    workspace = Workspace.shared(workspace)
    require_fit(config, workspace.mesh)
    store = open_store(config)
    # Of a store at a URL, before its first byte.
    store.require_room()
    tokens, about_tokens = choose_tokens(store, config)
    spec = spec_of(store, config, tokens)
    # Names before anything that takes time: a misspelt one must be told at once.
    check_names(config.graph, config.pooler)
    # First of all: a store without labels has no metric either.
    objective = objective_for(spec.task, config.objective)
    metric = selection_metric(spec.task, config.objective.metric)
    splits = Splits.divide(store, config, feed_kind(objective))
    require_calibrated(config.objective, objective, spec.task, splits.selected_on)
    config, about_states = with_measured(config, splits.rows["train"], store, tokens)
    config, about_weights = with_class_weights(config, splits.rows["train"], store, objective)
    # Once more, with the weights of its loss.
    objective = objective_for(spec.task, config.objective)
    notices: list[str] = []
    if not begun:
        notices += unread_by_pooler(unused)
        notices += unread_by_task(config.objective, spec.task, given)
        notices += chosen_layer(store, config)
        notices += [*about_tokens, *about_states, *about_weights]
        notices += chosen_split(config, splits.selected_on, metric, splits.held_out)
    model = build_model(spec, config)
    config = with_bucket_count(config, store, model, feed_kind(objective))
    feeds = build(store, model, config, splits, workspace, notices)
    make_optimizer = optimizer_of(config, feeds)
    config = with_xla_options(config, model, feeds["train"].plan, notices)
    # Measured on each machine: where they differ, that of the first process counts.
    options = workspace.mesh.processes.from_first(config.xla_cpu_options)
    config = dataclasses.replace(config, xla_cpu_options=options)
    if model.pooler.uses_edges:
        require_k_within(config.graph, feeds["train"].plan.bounds[-1])
    set_statistics(model, config, splits.rows["train"], store)
    parameters = count_trained(model, config)
    steps, state = build_steps(model, config, feeds, make_optimizer, workspace, notices)
    findings = [
        *found_in_states(store, tokens, config.pooler),
        *found_in_labels(spec.task, feeds),
        *small_selection(*selecting_rows(feeds, splits.selected_on)),
    ]
    if not begun:
        notices += [f"health: {finding.text}" for finding in findings]
    plans = {split: feed.outline() for split, feed in feeds.items()}
    require_alike(workspace.mesh.processes, config, store.content, plans)
    # Printed last: after an error there must be no lines about a run that never began.
    for notice in notices:
        display.line(notice)
    return TrainingRun(
        config=config,
        model_spec=spec,
        objective=objective,
        content=store.content,
        recipe=store.recipe,
        feeds=feeds,
        steps=steps,
        state=state,
        metric=metric,
        selected_on=splits.selected_on,
        parameters=parameters,
        findings=tuple(findings),
    )


def open_store(config: TrainConfig) -> HiddenStore:
    """The store of a run, with the layers that it reads.

    Raises:
        UsageError: no store, or layers that cannot be read or mixed.
    """
    opened = functools.partial(
        HiddenStore,
        config.store,
        trust=config.trust_store,
        cache=config.store_cache,
    )
    if config.mix_layers is None:
        return opened(layer=config.layer)
    # `--mix-layers` without a number means every layer there is.
    # Opened twice: which layers there are stands in the manifest only.
    store = opened(layers=config.mix_layers or opened().stored_layers)
    # Again here: -1 and 12 may name one layer.
    if len(set(store.layers)) < len(store.layers):
        raise UsageError(
            rule="--mix-layers must be different from one another",
            got=store.layers,
            fix="Drop the repeats.",
        )
    if len(store.layers) == 1:
        raise UsageError(
            rule="--mix-layers must mix two or more layers",
            got=f"layer {store.layers[0]} alone",
            fix="Extract with --layers, or use --layer.",
        )
    return store


def spec_of(store: HiddenStore, config: TrainConfig, tokens: TokenChoice) -> ModelSpec:
    """What fixes the shapes of a model on this store, and the tokens that it sees."""
    return ModelSpec(
        dim=store.dim,
        layers=store.layers,
        mixed=config.mix_layers is not None,
        kind=store.recipe.kind,
        task=TaskSpec.from_json(store.task),
        tokens=tokens,
    )


def check_names(graph: GraphConfig, pooler: PoolerConfig) -> None:
    """A misspelt name is an error even where the pooler would not read it."""
    lookup(RULES, graph.graph, "graph rule (--graph)")
    lookup(SELECTABLE, graph.backend, "graph backend (--backend)")
    lookup(GNN_LAYERS, pooler.gnn, "GNN layer (--gnn)")


def feed_kind(objective: Objective) -> FeedKind:
    """How the rows of a store become feeds for an objective."""
    return lookup(FEEDS, objective.feeds, "kind of feeds of an objective")


def build(
    store: HiddenStore,
    model: SentenceModel,
    config: TrainConfig,
    splits: Splits,
    workspace: Workspace,
    notices: list[str],
) -> dict[str, Feed]:
    """The feeds of a model's splits; `notices` takes lines for people to read."""
    if config.trust_store:
        notices.append(f"{store.path}: hashes are not checked (--trust-store)")
    # On other threads, while the first shards are copied.
    store.read_ahead(splits.stored)
    feeds = build_feeds(store, config, splits, workspace, notices.append)
    notices += matched_size(model.pooler)
    return feeds


def build_model(spec: ModelSpec, config: TrainConfig) -> SentenceModel:
    """Stem, pooler and head with their initial values."""
    return SentenceModel(
        spec,
        graph=config.graph,
        pooler=config.pooler,
        objective=config.objective,
        rngs=nnx.Rngs(config.seed),
    )


def build_feeds(
    store: HiddenStore,
    config: TrainConfig,
    splits: Splits,
    workspace: Workspace,
    report: Callable[[str], None],
) -> dict[str, Feed]:
    """A feed for each split, in the order of `splits`.

    Raises:
        UsageError: a split that cannot be trained or judged on.
    """
    # The settings decide how many texts a training row has.
    task = TaskSpec.from_json(store.task)
    objective = objective_for(task, config.objective)
    request = FeedRequest(
        store=store,
        splits=splits,
        config=config,
        texts_per_row=objective.texts_per_row,
        states=functools.partial(workspace.states, store, cache=config.cache),
        report=report,
    )
    return feed_kind(objective).build(request)


def optimizer_of(
    config: TrainConfig,
    feeds: Mapping[str, Feed],
) -> OptimizerMaker:
    """The optimizer of a run, whose schedule ends with its last step.

    Raises:
        UsageError: the warm-up is longer than the run.
    """
    steps_per_epoch = _steps_per_epoch(feeds)
    scheduled = _scheduled_steps(config, steps_per_epoch)
    return optimizer_maker(config.optimizer, steps_per_epoch, scheduled)


def _scheduled_steps(config: TrainConfig, steps_per_epoch: int) -> int:
    """Steps after which the schedule, and what is annealed, are at their end."""
    return steps_per_epoch * (config.optimizer.schedule_epochs or config.epochs)


def _steps_per_epoch(feeds: Mapping[str, Feed]) -> int:
    # A trained run is scored on any store; without a train split its schedule changes nothing.
    if "train" not in feeds:
        return 1
    return feeds["train"].plan.steps_per_epoch


def count_trained(model: SentenceModel, config: TrainConfig) -> dict[str, int]:
    """Parameters of `pooler` (the stem included) and `head`.

    Raises:
        UsageError: there are none.
    """
    # A learned threshold, mixing weights and a projection are of the stem.
    parameters = {
        "pooler": count_parameters(model.stem) + count_parameters(model.pooler),
        "head": count_parameters(model.head),
    }
    if sum(parameters.values()) == 0:
        raise UsageError(
            rule="training needs something to train",
            got=f"--pooler {config.pooler.pooler} --embedding-head none, without a parameter",
            fix="Give --embedding-head linear, or a pooler that learns.",
        )
    return parameters


def build_steps(
    model: SentenceModel,
    config: TrainConfig,
    feeds: Mapping[str, Feed],
    make_optimizer: OptimizerMaker,
    workspace: Workspace,
    notices: list[str],
) -> tuple[Steps, TrainState]:
    """The steps of a run, compiled once they meet a shape, and the state they begin with."""
    mesh = workspace.mesh
    # Counted on the graphs of the untrained stem: hard rules read the states alone. Lists of edges
    # are not divided among devices.
    budgets = {} if mesh.several else edge_budgets(model.stem, feeds)
    notices += describe_budgets(budgets)
    graphdef, params, stats = split_model(model)
    steps_per_epoch = _steps_per_epoch(feeds)
    scheduled = _scheduled_steps(config, steps_per_epoch)
    # Runs that differ by nothing that is compiled share their executables: the seeds of a study are
    # traced once.
    decisive = (
        model.spec,
        config.part(PROGRAM),
        # Numbers that are told, but not whether they are read at all.
        config.optimizer.weight_decay > 0,
        config.pooler.dropout > 0,
        steps_per_epoch,
        # Budgets are sizes of arrays in the program; the store's texts decide them.
        sorted(budgets.items()),
    )
    options = config.xla_cpu_options
    build = functools.partial(Steps, graphdef, make_optimizer, budgets, scheduled, options, mesh)
    # By its text, because settings hold dicts and lists, which have no hash.
    steps = workspace.steps(repr(decisive), build)
    numbers = Numbers.from_config(config.optimizer, config.graph, config.pooler)
    return steps, init_state(params, stats, make_optimizer, numbers, config.seed)


def open_folder(
    config: TrainConfig,
    run: TrainingRun,
    resume: bool,
    unused: Mapping[str, Any],
) -> None:
    """Write what a new run is, or make sure that the folder holds this very run.

    Raises:
        UsageError: the folder is taken, or holds a run with other settings.
    """
    folder = RunFolder(
        path=config.out,
        config=config,
        model=run.model_spec,
        store=run.content,
        recipe=run.recipe,
        unused=unused,
        plugins=plugins_of(config, run.task),
    )
    if resume:
        saved = RunFolder.open(config.out)
        longer = config.epochs > saved.config.epochs
        # A run that goes on is the same one; `notices.longer_run` said what becomes of it.
        kept = extended(saved.config, config) if longer else saved.config
        before = _that_decides(dataclasses.replace(saved, config=kept).to_json(), run.task)
        now = _that_decides(folder.to_json(), run.task)
        changed = differences(before, now)
        if changed:
            raise UsageError(
                rule="a run must be resumed with its own settings",
                got="; ".join(changed),
                fix="Resume without them, or start another --out.",
            )
        # What was not read was said when the run began; --resume gives no options.
        folder = dataclasses.replace(folder, unused=saved.unused, temperature=saved.temperature)
        if longer:
            # Of its end so far: it is a run that was stopped until it ends again.
            (config.out / SUMMARY).unlink(missing_ok=True)
        # Written again: what decides no number, such as the place of the store, may have changed.
        folder.write()
        return
    # Again, for whoever was first while this one waited for its turn.
    require_new_folder(config.out)
    folder.write()


def _that_decides(saved: Mapping[str, Any], task: TaskSpec) -> dict[str, Any]:
    """config.json without what changes no number.

    Options of another kind of task are left out too: runs of versions that did not have them can be
    resumed.
    """
    config = part_of(TrainConfig, saved["config"], NUMBERS)
    config["objective"] = _without(config["objective"], read_by_others(task))
    # The temperature is fitted when the run ends, by what it was begun with.
    others = _without(saved, {"unused", "temperature"})
    return {**others, "config": config}


def _without(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
