"""The model card of a trained run.

Its parameters by part, what its stem learned, and the token graph it sees.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console

from glot_jax.config.location import Location, StoreUrl, parse_location
from glot_jax.config.train import TrainConfig
from glot_jax.errors import UsageError
from glot_jax.graphs import Stem
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.moved import renamed_keywords
from glot_jax.pooling import Glot
from glot_jax.pooling.options import unread_options
from glot_jax.reporting.graph_census import GraphCensus, LayerNumbers, Spread, census
from glot_jax.reporting.parameters import STAGES, Census, Counts, count_parts
from glot_jax.reporting.tables import Column, Table
from glot_jax.run_folders.run_folder import CheckpointName, RunFolder, SavedCheckpoint
from glot_jax.store import HiddenStore
from glot_jax.training.evaluation import load_model


@dataclasses.dataclass(frozen=True)
class LayerWeight:
    """The softmax weight of one of the mixed layers."""

    layer: int
    weight: float


@dataclasses.dataclass(frozen=True)
class LearnedTau:
    """A threshold that was trained."""

    initial: float
    learned: float


@dataclasses.dataclass(frozen=True)
class Learned:
    """What the stem learned; None where there was nothing to learn."""

    layer_weights: tuple[LayerWeight, ...] | None
    tau: LearnedTau | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        weights = None
        if self.layer_weights is not None:
            weights = [dataclasses.asdict(weight) for weight in self.layer_weights]
        tau = None if self.tau is None else dataclasses.asdict(self.tau)
        return {"layer_weights": weights, "tau": tau}


@dataclasses.dataclass(frozen=True)
class RunCard:
    """The model card of a run."""

    run: str
    checkpoint: str
    task: str
    backbone: str | None
    pooler: str
    dim: int
    """Width of the states."""
    layers_read: tuple[int, ...]
    """Empty: the run does not say."""
    mixed: bool
    parameters: Census
    """Counted from the checkpoint's tree."""
    learned: Learned
    rule: dict[str, Any] | None
    """`graph`, the name of the rule, and the numbers that it reads; tau as learned. None: the
    pooler uses no edges.
    """
    graphs: GraphCensus | None
    """The graphs of a store's texts; None for the reason in `left_out`."""
    left_out: str | None
    """Why graphs are missing, in one line."""
    checkpoints: Mapping[CheckpointName, SavedCheckpoint] = dataclasses.field(default_factory=dict)
    """Where the `best` and the `last` one stand."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values.

        `sample`, `graph` and `layers` are those of `graphs`, or None.
        """
        values: dict[str, Any] = {
            "run": self.run,
            "checkpoint": self.checkpoint,
            "checkpoints": {
                name: dataclasses.asdict(saved) for name, saved in self.checkpoints.items()
            },
            "task": self.task,
            "backbone": self.backbone,
            "pooler": self.pooler,
            "dim": self.dim,
            "layers_read": list(self.layers_read),
            "mixed": self.mixed,
            "parameters": self.parameters.to_json(),
            "learned": self.learned.to_json(),
            "rule": self.rule,
            "sample": None,
            "graph": None,
            "layers": None,
            "left_out": self.left_out,
        }
        if self.graphs is not None:
            # In the places of sample, graph and layers: updating a dict keeps its order.
            values |= self.graphs.to_json()
        return values


@renamed_keywords(which="checkpoint")
def describe_run(
    run: str | os.PathLike[str],
    *,
    store: str | os.PathLike[str] | StoreUrl | None = None,
    texts: int = 512,
    checkpoint: CheckpointName = "best",
) -> RunCard:
    """Describe a run: its parameters, what its stem learned, and the edges of its token graphs.

    Args:
        run: run folder.
        store: store whose texts are looked at, of the run's backbone. Default: the run's own, if it
            is still there.
        texts: at most this many distinct stored texts of all splits, drawn with
            `glot_jax.reporting.graph_census.SAMPLE_SEED`.
        checkpoint: "best" or "last".

    Raises:
        UsageError: not a run folder, no checkpoint, no text to look at, or a `store` that is not
            one or of another backbone.
    """
    if texts < 1:
        raise UsageError(
            rule="--texts must be at least 1",
            got=texts,
            fix="Give for example --texts 512.",
        )
    folder = RunFolder.open(run)
    config = folder.config
    spec = folder.model
    # The checkpoint's own numbers, not those of a new model of its shapes.
    model = load_model(folder.path, checkpoint)
    rule = None
    graphs = None
    left_out = _why_without_edges(model)
    if left_out is None:
        rule = _rule(config, model.stem)
        path = None if store is None else parse_location(store)
        # A store that was asked for has to fit; the run's own may be gone.
        if path is None:
            left_out = _why_without_store(folder)
        else:
            _require_fitting(folder, path)
        if left_out is None:
            graphs = census(path or config.store, model.stem, spec, texts, config)
            # An imported run: any layer may be the one that it was trained on.
            if not spec.layers:
                left_out = (
                    "the run does not say which layer it reads: of its graph there are only those"
                    " of the stored layers"
                )
    return RunCard(
        run=str(folder.path),
        checkpoint=checkpoint,
        task=spec.task.name,
        backbone=folder.backbone,
        pooler=config.pooler.pooler,
        dim=spec.dim,
        layers_read=tuple(spec.layers),
        mixed=spec.mixed,
        parameters=count_parts(model),
        learned=_learned(model.stem, spec, config),
        rule=rule,
        graphs=graphs,
        left_out=left_out,
        checkpoints=folder.saved_checkpoints(),
    )


def _learned(
    stem: Stem,
    spec: ModelSpec,
    config: TrainConfig,
) -> Learned:
    weights = stem.layer_weights()
    layer_weights = None
    if weights is not None:
        pairs = []
        # The stem weighs layers in the order in which the run reads them.
        for layer, weight in zip(spec.layers, np.asarray(weights), strict=True):
            pairs.append(LayerWeight(layer, float(weight)))
        layer_weights = tuple(pairs)
    tau = None
    if stem.tau is not None:
        # A variable of Flax: [...] reads its array.
        learned = float(stem.tau[...])
        tau = LearnedTau(float(config.graph.tau), learned)
    return Learned(layer_weights, tau)


def _rule(config: TrainConfig, stem: Stem) -> dict[str, Any]:
    """Name of the rule and the numbers it reads."""
    unread = unread_options(config.graph, config.pooler)
    rule: dict[str, Any] = {"graph": config.graph.graph}
    # Of the options of all rules, those that this one reads.
    for name in ("tau", "k", "window", "graph_seed"):
        if name not in unread:
            rule[name] = getattr(config.graph, name)
    # What cosines are taken of, where that is not the states as they are stored.
    if config.graph.graph_states != "raw" and "graph_states" not in unread:
        rule["graph_states"] = config.graph.graph_states
    if config.graph.control != "none":
        rule["control"] = config.graph.control
    if stem.tau is not None:
        # As it was learned, not as it was when training began.
        rule["tau"] = float(stem.tau[...])
    return rule


def _why_without_edges(model: SentenceModel) -> str | None:
    pooler = model.pooler
    if not pooler.uses_edges:
        return f"pooler {type(pooler).__name__} uses no edges: no graph is computed"
    if isinstance(pooler, Glot) and not pooler.gnn.layers:
        return "a glot of 0 layers hears along no edge: no graph is computed"
    return None


def _why_without_store(folder: RunFolder) -> str | None:
    """Why the run's own store cannot be looked at; it may be gone, or another one by now."""
    if not folder.store:
        return "the run was made without a store: name one of its backbone with --store"
    path = folder.config.store
    if not isinstance(path, StoreUrl) and not path.exists():
        return f"the run's store is not at {path} any more: name it, or one like it, with --store"
    try:
        # Not hashed: the content is compared, the bytes are `glot store verify`'s to check.
        content = HiddenStore(path, trust=True).content
    except UsageError as error:
        return f"the run's store cannot be read: {error}"
    if content != folder.store:
        return (
            f"{path} holds another store than the one trained on: give it as --store to look at it"
            " all the same"
        )
    return None


def _require_fitting(folder: RunFolder, path: Location) -> None:
    """Refuse a store of another backbone."""
    # An imported run knows neither its layers nor their recipe, and can only be compared by its
    # width.
    layers = folder.model.layers or None
    store = HiddenStore(path, layers=layers, trust=True)
    changed = folder.fits(store.recipe)
    if store.dim != folder.model.dim:
        changed = [f"dim: {folder.model.dim} -> {store.dim}", *changed]
    if changed:
        raise UsageError(
            rule="the store must hold states of the run's backbone",
            got="; ".join(changed),
            fix="Use the store the head was trained on, or one like it.",
        )


def print_description(card: RunCard, console: Console | None = None) -> None:
    """Print a card as tables.

    Args:
        card: from `describe_run`.
        console: default stdout.
    """
    # Without highlights: rich colours numbers and paths by what they look like.
    console = console or Console(highlight=False)
    # An imported run does not know its layers.
    layers = ", ".join(map(str, card.layers_read))
    read = f"layers {layers} mixed" if card.mixed else f"layer {layers or 'unknown'}"
    backbone = f" of {card.backbone}" if card.backbone else ""
    _line(
        console,
        f"{card.run} ({card.checkpoint} checkpoint): {card.pooler} for {card.task}, on"
        f" {read}{backbone}, width {card.dim}",
    )
    if card.checkpoints:
        texts = [f"{name}: {_where(saved)}" for name, saved in card.checkpoints.items()]
        _line(console, f"Checkpoints: {'; '.join(texts)}")
    _print_parameters(card.parameters, console)
    if card.learned.layer_weights is not None:
        _print_table(
            console,
            "Learned weights of the mixed layers",
            _WEIGHTS,
            card.learned.layer_weights,
        )
    if card.learned.tau is not None:
        tau = card.learned.tau
        _line(console, f"\nLearned tau: {tau.learned:.4f}, from {tau.initial:g}")
    if card.graphs is not None:
        _print_graphs(card.graphs, _rule_text(card.rule or {}), console)
    if card.left_out is not None:
        _line(console, f"\n{card.left_out}")


def _where(saved: SavedCheckpoint) -> str:
    if saved.epoch is None:
        return f"step {saved.step:,}"
    return f"epoch {saved.epoch}, step {saved.step:,}"


@dataclasses.dataclass(frozen=True)
class _CountRow:
    name: str
    type: str
    counts: Counts


def _print_parameters(parameters: Census, console: Console) -> None:
    rows = [_CountRow(part.name, part.type, part.counts) for part in parameters.parts]
    # A line between the parts and their sums.
    parts = len(rows)
    for stage in STAGES:
        rows.append(_CountRow(stage, "", parameters.stage(stage)))
    rows.append(_CountRow("total", "", parameters.total))
    _print_table(console, "Parameters", _COUNTS, rows, ruled_after=parts - 1)


def _print_graphs(
    graphs: GraphCensus,
    rule: str,
    console: Console,
) -> None:
    sample = graphs.sample
    _line(
        console,
        f"\nOf {graphs.store}: {len(sample.locations):,} of {sample.stored:,} texts,"
        f" {graphs.tokens:,} tokens",
    )
    # Lengths first: what a token hears depends on how many there are.
    spreads = [("tokens per text", graphs.tokens_per_text)]
    if graphs.edges_per_token is not None:
        spreads.append(("edges per token", graphs.edges_per_token))
    _print_table(console, f"Token graph: {rule}", _SPREADS, spreads)
    if graphs.graph is not None:
        _line(
            console,
            f"density {_share(graphs.graph.density)}; {_share(graphs.graph.isolated)} of the tokens"
            " hear no token but themselves",
        )
    title = f"Density by layer: {rule}; → read by the run"
    _print_table(console, title, _LAYERS, graphs.layers)


def _rule_text(rule: Mapping[str, Any]) -> str:
    """The rule and its numbers in words, as in `threshold tau 0.6`."""
    words = [rule["graph"]]
    for name, value in rule.items():
        if isinstance(value, str):
            # The rule itself, and what puts its edges elsewhere.
            words += [] if name == "graph" else [name, value]
        else:
            words.append(f"{name} {value:.4g}")
    return " ".join(words)


def _print_table(
    console: Console,
    title: str,
    columns: Sequence[Column[Any]],
    rows: Sequence[Any],
    *,
    ruled_after: int | None = None,
) -> None:
    table = Table.by_columns(columns, rows)
    rules = () if ruled_after is None else (ruled_after,)
    # A table's own title would be broken at the table's width.
    _line(console, f"\n{title}")
    console.print(table.to_console(ruled_after=rules, wrap=False))


def _line(console: Console, text: str) -> None:
    # Paths may hold brackets, which are no markup, and stay on one line so that they can be copied.
    console.print(text, markup=False, soft_wrap=True)


def _number(value: float | None) -> str:
    # No text decides it: a 0 would be a finding.
    if value is None:
        return "-"
    return f"{value:.2f}"


def _share(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}"


def _layer(layer: LayerNumbers) -> str:
    # Two characters in any case, so that the numbers stand below one another.
    return f"{'→ ' if layer.own else '  '}{layer.layer}"


_COUNTS: list[Column[_CountRow]] = [
    Column("part", lambda row: row.name, align="left"),
    Column("type", lambda row: row.type, align="left"),
    Column("trained", lambda row: f"{row.counts.trained:,}"),
    Column("statistics", lambda row: f"{row.counts.statistics:,}"),
]
_WEIGHTS: list[Column[LayerWeight]] = [
    Column("layer", lambda row: str(row.layer), align="left"),
    Column("weight", lambda row: f"{row.weight:.4f}"),
]
_SPREADS: list[Column[tuple[str, Spread]]] = [
    Column("over texts", lambda row: row[0], align="left"),
    Column("mean", lambda row: _number(row[1].mean)),
    Column("5 %", lambda row: _number(row[1].q05)),
    Column("50 %", lambda row: _number(row[1].q50)),
    Column("95 %", lambda row: _number(row[1].q95)),
]
_LAYERS: list[Column[LayerNumbers]] = [
    Column("layer", _layer, align="left"),
    Column("density", lambda row: _share(row.numbers.density)),
    Column("edges per token", lambda row: _number(row.numbers.edges_per_token)),
    Column("tokens alone", lambda row: _share(row.numbers.isolated)),
]
