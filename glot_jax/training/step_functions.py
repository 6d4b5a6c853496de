"""What the programs of a run compute: steps, blocks of steps, and blocks of several runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from glot_jax.batches.planned_batches import PlannedBatches
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.train import GraphConfig, OptimizerConfig, PoolerConfig
from glot_jax.dispatch.pace import MOST
from glot_jax.graphs import StemNumbers
from glot_jax.model import SentenceModel, split_model

TrainState = dict[str, Any]
"""`params`, `stats`: nested dicts of arrays; `opt_state`: optax's; `step`: int32; `key`: PRNG key;
`first_bad_step`: int32, -1 while every loss was finite; `numbers`: Numbers, which no step changes.
`stats` is what a model keeps besides parameters (running averages)."""


class Numbers(NamedTuple):
    """What a program is told of a run, float32 numbers that it is not compiled for.

    Runs that differ by nothing else share their programs, and can be trained in one.
    """

    lr: ArrayLike
    """Peak of the learning rate."""
    weight_decay: ArrayLike
    """Read where the run decays anything at all."""
    stem: StemNumbers

    @classmethod
    def from_config(
        cls, optimizer: OptimizerConfig, graph: GraphConfig, pooler: PoolerConfig
    ) -> Numbers:
        """Those of a run, on the device."""
        # In Python's precision, as a program that was compiled for the share has it.
        kept = 1.0 - pooler.dropout
        stem = StemNumbers(jnp.float32(graph.tau), jnp.float32(kept))
        return cls(jnp.float32(optimizer.lr), jnp.float32(optimizer.weight_decay), stem)


OptimizerMaker = Callable[[Numbers], optax.GradientTransformation]
"""The optimizer of a run, of numbers that may be traced."""

JUDGED_TOGETHER = 16
"""Batches of one evaluating dispatch at most: their outputs lie in memory together."""

T = TypeVar("T")

BlockArrays = tuple[Array, PlannedBatches, Array, Array]
"""What a program takes of a block (see `steps.Block`): tokens, planned, first, size."""


class _Training(NamedTuple):
    """What a forward pass of training has, and one of evaluation has not."""

    progress: ArrayLike
    """Share of the run's steps that are done, in [0, 1]."""
    rngs: nnx.Rngs


def _forward(
    model: SentenceModel,
    batch: TokenBatch,
    edge_budget: int | None,
    numbers: StemNumbers,
    training: _Training | None = None,
) -> tuple[Array, Array, dict, Array]:
    """Outputs, losses of the rows, the model's other state afterwards, edges that did not fit."""
    train = training is not None
    rngs = training.rngs if training else None
    graph = model.graph(
        batch,
        edge_budget=edge_budget,
        train=train,
        progress=training.progress if training else 0.0,
        rngs=rngs,
        numbers=numbers,
    )
    # Without the progress: only the stem anneals.
    outputs = model.outputs(graph, train=train, rngs=rngs)
    losses = model.row_losses(outputs, batch)
    # Read after the forward pass, which has changed running averages inside the model.
    _, _, stats = split_model(model)
    return outputs, losses, stats, graph.dropped_edges


def train_step(
    graphdef: nnx.GraphDef[SentenceModel],
    make_optimizer: OptimizerMaker,
    total_steps: int,
    state: TrainState,
    batch: TokenBatch,
    edge_budget: int | None,
) -> tuple[TrainState, dict[str, Array]]:
    """One update; see `steps.Steps.train`."""
    numbers: Numbers = state["numbers"]

    def mean_loss(params: dict) -> tuple[Array, tuple[dict, Array]]:
        # 1 at the last step, which is number total_steps - 1, and in a run that goes on after it.
        progress = jnp.minimum(state["step"] / max(1, total_steps - 1), 1)
        # The key of a step is a function of its number: a resumed run drops the same entries.
        key = jax.random.fold_in(state["key"], state["step"])
        model: SentenceModel = nnx.merge(graphdef, params, state["stats"])
        training = _Training(progress, nnx.Rngs(dropout=key))
        _, losses, stats, dropped = _forward(model, batch, edge_budget, numbers.stem, training)
        # Rows that only fill the batch have no loss and are not counted either.
        total = jnp.sum(losses)
        rows = jnp.sum(batch.row_mask)
        return total / jnp.maximum(rows, 1), (stats, dropped)

    differentiate = jax.value_and_grad(mean_loss, has_aux=True)
    (loss, (stats, dropped)), gradient = differentiate(state["params"])
    # Named for profilers.
    with jax.named_scope("optimizer"):
        old_params = state["params"]
        optimizer = make_optimizer(numbers)
        updates, opt_state = optimizer.update(gradient, state["opt_state"], old_params)
        params = optax.apply_updates(old_params, updates)
    # After the first loss or gradient that is not finite nothing is updated any more: the host
    # finds the last good state.
    finite_loss = jnp.isfinite(loss)
    # One number for the whole gradient: a norm is finite only if every entry is.
    fine = finite_loss & jnp.isfinite(optax.tree.norm(gradient))
    is_first = (state["first_bad_step"] < 0) & ~fine
    bad_step = jnp.where(is_first, state["step"], state["first_bad_step"])
    after = {"params": params, "stats": stats, "opt_state": opt_state}
    before = {name: state[name] for name in after}

    def new_unless_bad(new: Array, old: Array) -> Array:
        # A select and not a branch: both sides are there already, and XLA fuses it with the update.
        return jnp.where(bad_step < 0, new, old)

    kept = jax.tree.map(new_unless_bad, after, before)
    updated = {
        **state,
        **kept,
        # Counts on even after a bad one, so that the host's count of steps stays right.
        "step": state["step"] + 1,
        "first_bad_step": bad_step,
    }
    return updated, {"loss": loss, "dropped_edges": dropped}


def train_block(
    train: Callable,
    state: TrainState,
    key_data: Array,
    arrays: BlockArrays,
    length: int,
    edge_budget: int | None,
) -> tuple[TrainState, dict[str, Array]]:
    """An update for every batch of a block; see `steps.Steps.train_block`."""
    tokens, planned, first, size = arrays
    key = jax.random.wrap_key_data(key_data)

    def update(index: Array, carry: tuple[TrainState, dict]) -> tuple[TrainState, dict]:
        state, logs = carry
        batch = planned.gather(tokens, first + index, length)
        updated, entry = train({**state, "key": key}, batch, edge_budget)
        return without_key(updated), _with_entry(logs, entry, index)

    # A count that the program is told, not one that it was compiled for: blocks of all sizes share
    # one program.
    logs = {"loss": jnp.zeros(MOST), "dropped_edges": jnp.zeros(MOST, jnp.int32)}
    state, logs = jax.lax.fori_loop(0, size, update, (state, logs))
    return state, {**logs, "next": first + size}


def train_blocks(
    train: Callable,
    states: Sequence[TrainState],
    keys: Array,
    arrays: tuple[Array, tuple[PlannedBatches, ...], Array, Array],
    length: int,
    edge_budget: int | None,
) -> list[tuple[TrainState, dict[str, Array]]]:
    """`train_block` of several runs at once, whose batches have one length.

    Args:
        train: as in `train_block`.
        states: of the runs, without their keys.
        keys: [runs, ...], the numbers of their keys.
        arrays: as in `train_block`, with planned batches for each run.
        length: as in `train_block`.
        edge_budget: as in `train_block`.
    """
    tokens, planned, first, size = arrays

    def block(state: TrainState, key: Array, planned: PlannedBatches) -> tuple[TrainState, dict]:
        return train_block(
            train,
            state,
            key,
            (tokens, planned, first, size),
            length,
            edge_budget,
        )

    # The block's size is one for all of them: the loop stays a loop, and its body has an axis more.
    results = jax.vmap(block)(_stacked(states), keys, _stacked(planned))
    return [_entry(results, run) for run in range(len(states))]


def _stacked(trees: Sequence[T]) -> T:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _entry(tree: T, index: int) -> T:
    return jax.tree.map(lambda values: values[index], tree)


def without_key(state: TrainState) -> TrainState:
    """The state less the key, which no step changes."""
    return {name: part for name, part in state.items() if name != "key"}


def judge_block(
    judge: Callable,
    params: dict,
    stats: dict,
    numbers: StemNumbers,
    arrays: BlockArrays,
    length: int,
    edge_budget: int | None,
) -> dict[str, Array]:
    """What `judge` gives for every batch of a block; see `steps.Steps.judge_block`."""
    tokens, planned, first, size = arrays

    def result_of(index: Array) -> dict[str, Array]:
        batch = planned.gather(tokens, first + index, length)
        return judge(params, stats, numbers, batch, edge_budget)

    def empty(shape: jax.ShapeDtypeStruct) -> Array:
        return jnp.zeros((JUDGED_TOGETHER, *shape.shape), shape.dtype)

    def write(index: Array, results: dict[str, Array]) -> dict[str, Array]:
        return _with_entry(results, result_of(index), index)

    shapes = jax.eval_shape(result_of, jnp.zeros((), jnp.int32))
    return jax.lax.fori_loop(0, size, write, jax.tree.map(empty, shapes))


def _with_entry(arrays: dict[str, Array], entry: dict[str, Array], index: Array) -> dict:
    # Not `.at[index].set`, which is a scatter: on GPUs it may be far slower than a slice.
    written = {}
    for name, values in arrays.items():
        written[name] = jax.lax.dynamic_update_index_in_dim(values, entry[name], index, axis=0)
    return written


def evaluate_step(
    graphdef: nnx.GraphDef[SentenceModel],
    params: dict,
    stats: dict,
    numbers: StemNumbers,
    batch: TokenBatch,
    edge_budget: int | None,
) -> dict[str, Array]:
    """Outputs and losses of a batch; see `steps.Steps.evaluate`."""
    model: SentenceModel = nnx.merge(graphdef, params, stats)
    outputs, losses, _, dropped = _forward(model, batch, edge_budget, numbers)
    # Running averages that the forward pass made are dropped: evaluation changes nothing.
    return {"outputs": outputs, "loss": losses, "dropped_edges": dropped}


def look_step(
    graphdef: nnx.GraphDef[SentenceModel],
    params: dict,
    stats: dict,
    numbers: StemNumbers,
    batch: TokenBatch,
    edge_budget: int | None,
) -> dict[str, Array]:
    """Readout weights and degrees of a batch's tokens; see `steps.Steps.look`."""
    model: SentenceModel = nnx.merge(graphdef, params, stats)
    graph = model.graph(batch, edge_budget=edge_budget, numbers=numbers)
    # In the batch's layout, less the last axis that degrees have for products.
    degrees = graph.to_padded(graph.degree().astype(jnp.float32))[..., 0]
    weights = model.pooler.token_weights(graph)
    return {"readout_weights": weights, "degrees": degrees, "mask": batch.mask}


def features_step(
    graphdef: nnx.GraphDef[SentenceModel],
    params: dict,
    stats: dict,
    numbers: StemNumbers,
    batch: TokenBatch,
    edge_budget: int | None,
) -> dict[str, Array]:
    """What the head multiplies; see `steps.Steps.features`."""
    model: SentenceModel = nnx.merge(graphdef, params, stats)
    graph = model.graph(batch, edge_budget=edge_budget, numbers=numbers)
    return {"features": model.features(graph), "dropped_edges": graph.dropped_edges}
