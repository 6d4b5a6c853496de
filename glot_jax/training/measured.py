"""What the training rows decide before the first step.

Which tokens are left out, the threshold of a wanted density, the statistics that states are
standardised by, how many lengths batches have, and the options of XLA that are the faster ones at
their sizes.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import jax
import numpy as np
from flax import nnx

from glot_jax.batches.bucket_count import cheapest_count
from glot_jax.batches.feed import Feed
from glot_jax.batches.feed_kinds import FeedKind
from glot_jax.batches.plan import BatchPlan, longest_of_batches
from glot_jax.batches.split_rows import SplitRows
from glot_jax.batches.state_statistics import (
    Statistics,
    common_share,
    state_statistics,
    texts_of,
)
from glot_jax.batches.token_choice import TokenChoice
from glot_jax.compile_cache import machine_folder
from glot_jax.config.train import GraphConfig, PoolerConfig, TrainConfig
from glot_jax.errors import UsageError
from glot_jax.graphs import RULES
from glot_jax.health import Finding, large_states, missing_classes
from glot_jax.model import SentenceModel
from glot_jax.objectives import Objective, TaskSpec
from glot_jax.objectives.objective import Weighed
from glot_jax.pooling import count_parameters
from glot_jax.store.norms import POSITIONS, LayerNorms, layer_norms
from glot_jax.store.reader import HiddenStore
from glot_jax.xla.kept_choice import Choice, choose_options
from glot_jax.xla.probe import ProbeShape

_SAMPLE_TEXTS = 512
"""Texts whose pairs a density is measured on, and whose states a common direction."""

COMMON = 0.4
"""Share of the states' mean square that one vector may have before they are standardised: MiniLM's
layers have .05 to .32 of it, SmolLM2's from the tenth on .49 to .74."""


def choose_tokens(store: HiddenStore, config: TrainConfig) -> tuple[TokenChoice, list[str]]:
    """The tokens that graph and pooler see, and a line about those that they do not.

    Sinks are told by the norms that the store counted when it was written: those of its train
    split, or of all splits where it has none.

    Raises:
        UsageError: sinks are to be dropped, and the store did not count norms.
    """
    notices: list[str] = []
    if config.skip_first:
        notices.append(f"the first {config.skip_first} tokens of every text are left out")
    limits: list[float | None] = []
    for layer in store.layers:
        norms = _norms(store, layer)
        if norms is None and config.sinks == "drop":
            raise UsageError(
                rule="--sinks drop needs a store whose norms were counted",
                got=f"{store.path}, written by an earlier version",
                fix="Extract it again, or leave the first tokens out: --skip-first 1.",
            )
        limit = None if norms is None else norms.limit()
        limits.append(limit)
        if norms is not None and limit is not None:
            notices.append(_about_sinks(layer, norms, config.sinks))
    has_sinks = any(limit is not None for limit in limits)
    if config.sinks == "keep" or not has_sinks:
        return TokenChoice(config.skip_first), notices
    return TokenChoice(config.skip_first, tuple(limits)), notices


def found_in_states(store: HiddenStore, tokens: TokenChoice, pooler: PoolerConfig) -> list[Finding]:
    """Findings about how long the states are that a head sees."""
    findings: list[Finding] = []
    # Every state is brought to one length before the head sees it.
    if pooler.token_norm != "none":
        return findings
    limits = tokens.sink_limits or (None,) * len(store.layers)
    for layer, limit in zip(store.layers, limits, strict=True):
        norms = _norms(store, layer)
        # Stores of earlier versions did not count them.
        if norms is None or norms.tokens == 0:
            continue
        sinks = 0
        if limit is None:
            by_slot = norms.sinks()
            sinks = sum(by_slot[slot] for slot in by_slot if slot >= tokens.skip_first)
        # Standardising takes away the size of all states, not that of the sinks.
        median = 0.0 if pooler.standardise and not sinks else norms.median()
        findings += large_states(layer, median, store.dim, sinks)
    return findings


def found_in_labels(task: TaskSpec, feeds: Mapping[str, Feed]) -> list[Finding]:
    """Findings about classes that a split lacks."""
    if task.label_kind not in ("classes", "multilabel"):
        return []
    labels = {split: feed.planned_labels for split, feed in feeds.items()}
    return missing_classes(task.classes, labels)


def selecting_rows(feeds: Mapping[str, Feed], selected_on: str) -> tuple[str, int]:
    """The split that selects the best epoch, and how many rows it has."""
    if selected_on in feeds:
        return selected_on, len(feeds[selected_on].plan.rows)
    # A holdout is reported as "validation" where there is no other.
    if selected_on == "holdout":
        return selected_on, len(feeds["validation"].plan.rows)
    return "last", 0


def _norms(store: HiddenStore, layer: int) -> LayerNorms | None:
    splits = store.manifest.splits
    chosen = [splits["train"]] if "train" in splits else list(splits.values())
    shards = [shard for split in chosen for shard in split.shards]
    return layer_norms(shards, layer)


def _about_sinks(layer: int, norms: LayerNorms, sinks: str) -> str:
    by_slot = norms.sinks()
    positions = [str(slot) for slot in by_slot if slot < POSITIONS]
    if POSITIONS in by_slot:
        positions.append("later")
    states = f"{sum(by_slot.values()):,} of {norms.tokens:,} states"
    done = "are left out (--sinks keep keeps them)"
    if sinks == "keep":
        done = "are kept (--sinks keep)"
    return (
        f"layer {layer}: {states} are attention sinks, more than ten times as long as the median"
        f" ({norms.median():.4g}; positions {', '.join(positions)}); they {done}"
    )


def with_measured(
    config: TrainConfig,
    rows: SplitRows,
    store: HiddenStore,
    tokens: TokenChoice,
) -> tuple[TrainConfig, list[str]]:
    """The settings with what the states of a store decide, and lines about it."""
    config, about_states = with_standardising(config, store, tokens)
    config, about_tau = with_measured_tau(config, rows, store, tokens)
    return config, [*about_states, *about_tau]


def with_standardising(
    config: TrainConfig,
    store: HiddenStore,
    tokens: TokenChoice,
) -> tuple[TrainConfig, list[str]]:
    """The settings that say whether states are standardised, and a line if they are unasked.

    They are where one vector, the mean of all tokens' states, has more than `COMMON` of their mean
    square. Of training rows that are held out as well: it must be one program for all seeds.
    """
    pooler = config.pooler
    if pooler.standardise is not None:
        return config, []
    reader = store["train"]
    # The first ones: of a large store few files are read, and checked, before training begins.
    texts = texts_of(reader, np.arange(len(reader)))[:_SAMPLE_TEXTS]
    states = [tokens.of_text(reader.states(int(text))) for text in texts]
    common = common_share(states, pooler.token_norm)
    decided = dataclasses.replace(pooler, standardise=common > COMMON)
    notices = []
    if decided.standardise:
        notices.append(
            f"one vector has {common:.2f} of the states' mean square: they are standardised"
            " (--no-standardise keeps them as they are)"
        )
    return dataclasses.replace(config, pooler=decided), notices


def with_measured_tau(
    config: TrainConfig,
    rows: SplitRows,
    store: HiddenStore,
    tokens: TokenChoice,
) -> tuple[TrainConfig, list[str]]:
    """The settings with the tau that links `tau_density` of the pairs, and a line about it.

    The pairs are those of different tokens in a sample of the training texts. Only a holdout makes
    it another sample for another seed of the run.
    """
    graph = config.graph
    # Another rule has no threshold to choose.
    if graph.tau_density is None or "tau_density" not in RULES[graph.graph].reads:
        return config, []
    reader = store[rows.split]
    texts = texts_of(reader, rows.rows)
    rng = np.random.default_rng(0)
    if len(texts) > _SAMPLE_TEXTS:
        texts = np.sort(rng.choice(texts, _SAMPLE_TEXTS, replace=False))
    statistics = _graph_statistics(graph, rows, store, tokens)
    cosines = [np.zeros(0)]
    for text in texts.tolist():
        states = tokens.of_text(reader.states(text)).astype(np.float64)
        cosines.append(_pairs(states, graph, statistics))
    joint = np.concatenate(cosines)
    if not len(joint):
        raise UsageError(
            rule="--tau-density needs texts of two tokens and more",
            got=f"none among {len(texts)} training texts",
            fix="Give --tau instead.",
        )
    # Four digits, so that what is printed is what is used.
    tau = round(float(np.quantile(joint, 1 - graph.tau_density)), 4)
    tau = min(max(tau, -1.0), 1.0)
    actual = float(np.mean(joint > tau))
    notice = (
        f"tau {tau} links {actual:.3f} of the pairs of different tokens in {len(texts)} training"
        f" texts (--tau-density {graph.tau_density})"
    )
    return dataclasses.replace(config, graph=dataclasses.replace(graph, tau=tau)), [notice]


def with_class_weights(
    config: TrainConfig, rows: SplitRows, store: HiddenStore, objective: Objective
) -> tuple[TrainConfig, list[str]]:
    """The settings with a weight for every class, and a line about them.

    Balanced as the objective does it, over the training rows; an objective that weighs nothing
    leaves the settings as they are.

    Raises:
        UsageError: weights were given, and not one for each class.
    """
    if not isinstance(objective, Weighed):
        return config, []
    settings = config.objective
    classes = objective.task.classes
    if settings.class_weight == "none":
        if settings.class_weights and len(settings.class_weights) != len(classes):
            raise UsageError(
                rule=f"--class-weights must be {len(classes)} numbers, one for each class",
                got=settings.class_weights,
                fix=f"Give them in the order of {', '.join(classes)}.",
            )
        return config, []
    labels = store[rows.split].labels
    assert labels is not None  # a task with classes is stored with labels
    balanced = objective.balanced_weights(labels[rows.rows])
    # Six digits, so that what is printed is what is used.
    weights = tuple(round(float(weight), 6) for weight in balanced)
    spelled = [f"{name} {weight:g}" for name, weight in zip(classes, weights, strict=True)]
    notice = f"class weights in the loss: {', '.join(spelled)} (--class-weight balanced)"
    settings = dataclasses.replace(settings, class_weights=weights)
    return dataclasses.replace(config, objective=settings), [notice]


def _pairs(states: np.ndarray, graph: GraphConfig, statistics: Statistics | None) -> np.ndarray:
    """Cosines of the pairs of different tokens of one text, each pair once."""
    if statistics is not None:
        states = states - statistics.mean
        if graph.graph_states == "standardised":
            states = states / np.where(statistics.deviation > 0, statistics.deviation, 1)
    if states.ndim == 3:
        # Mixing weights begin as equals.
        states = states.mean(axis=1)
    norms = np.linalg.norm(states, axis=1, keepdims=True)
    unit = states / np.where(norms > 0, norms, 1)
    first, second = np.triu_indices(len(states), 1)
    return np.sum(unit[first] * unit[second], axis=1)


def set_statistics(
    model: SentenceModel,
    config: TrainConfig,
    rows: SplitRows,
    store: HiddenStore,
) -> None:
    """Give a model the statistics of the rows that it is trained on.

    Those held out must not shape what they are judged by.
    """
    tokens = model.spec.tokens
    if config.pooler.standardise:
        statistics = state_statistics(
            store[rows.split], rows.rows, tokens=tokens, token_norm=config.pooler.token_norm
        )
        model.stem.set_statistics(*statistics)
    # Not of every config: a pooler that reads no edges links no states.
    if model.stem.graph_mean is not None:
        statistics = _graph_statistics(config.graph, rows, store, tokens)
        assert statistics is not None  # there is a mean because the config asks for one
        model.stem.set_graph_statistics(*statistics)


def _graph_statistics(
    graph: GraphConfig,
    rows: SplitRows,
    store: HiddenStore,
    tokens: TokenChoice,
) -> Statistics | None:
    if graph.graph_states == "raw":
        return None
    return state_statistics(store[rows.split], rows.rows, tokens=tokens)


def with_xla_options(
    config: TrainConfig,
    model: SentenceModel,
    plan: BatchPlan,
    notices: list[str],
) -> TrainConfig:
    """The settings with the options of XLA that the run's steps are compiled with.

    Args:
        config: of the run; what it names stays.
        model: a pooler without a parameter multiplies nothing, and gets the default.
        plan: of the training rows.
        notices: takes a line about what was measured.
    """
    if config.xla_cpu_options != "auto":
        return config
    choice = Choice("default")
    if count_parameters(model.pooler):
        shape = ProbeShape(
            texts=config.batch_size * model.texts_per_row,
            length=_main_length(plan),
            dim=model.spec.dim,
            hidden=config.pooler.hidden_dim,
            linked=model.pooler.uses_edges,
        )
        choice = choose_options(shape, machine_folder())
    if choice.reason is not None:
        notices.append(choice.reason)
    # Never "auto" from here on: config.json says what the programs were compiled with.
    return dataclasses.replace(config, xla_cpu_options=choice.options)


def _main_length(plan: BatchPlan) -> int:
    """The padded length in which most tokens are trained."""
    # Of the rows and not of an epoch's batches, which the seed of a run shuffles.
    bucket = np.searchsorted(plan.bounds, plan.lengths)
    rows = np.bincount(bucket, minlength=len(plan.bounds))
    tokens = rows * np.asarray(plan.bounds)
    return plan.bounds[int(np.argmax(tokens))]


def with_bucket_count(
    config: TrainConfig, store: HiddenStore, model: SentenceModel, kind: FeedKind
) -> TrainConfig:
    """The settings with a number of buckets, if they leave it open.

    It follows from the store, the settings and the constants here alone, so that equal runs have
    equal batches on every machine. Of the whole stored split, whatever is held out of it: seeds of
    a run have the same number.
    """
    if config.buckets is not None:
        return config
    reader = store["train"]
    # Rows of a ranking have different numbers of texts, from one on.
    texts = reader.text_lengths[reader.row_texts]
    lengths = np.maximum.reduceat(texts, reader.row_offsets[:-1])
    repeats = float(config.epochs)
    if config.batches != "by-length" or kind.unit != "rows":
        # A batch of any rows is as long as its longest, each of them in its stead.
        lengths = longest_of_batches(lengths, config.batch_size)
        repeats *= config.batch_size
    arrays = len(jax.tree.leaves(nnx.state(model, nnx.Param)))
    count = cheapest_count(
        lengths,
        repeats=repeats,
        row_seconds=functools.partial(_row_seconds, model),
        compile_seconds=_COMPILE_SECONDS * arrays,
    )
    return dataclasses.replace(config, buckets=count)


# Measured with MiniLM's CoLA on two cores of a server, the steps of two buckets compiled at once:
# the programs of a bucket take 1.8 s of a core for the mean (2 arrays of parameters) and 7.3 s for
# two layers of GAT (14); a step of the latter runs at a good half of 84 GFLOP/s.
_COMPILE_SECONDS = 0.26
_FLOPS = 5e10
_BYTES = 1e10
_PASSES = 6  # over a batch's states, what is not a product


def _row_seconds(model: SentenceModel, lengths: np.ndarray) -> np.ndarray:
    """Seconds of a training row padded to each length, one text a row: only shares matter."""
    tokens = lengths.astype(np.float64)
    dim = model.stem.dim
    # Of parameters alone, so that it holds for a plugin's pooler too: every token meets nearly all
    # of them in a product, once forward and twice backward.
    flops = 3 * 2 * tokens * count_parameters(model.pooler)
    if model.pooler.uses_edges:
        flops += 2 * np.square(tokens) * dim
    touched = 4 * _PASSES * tokens * dim
    return flops / _FLOPS + touched / _BYTES
