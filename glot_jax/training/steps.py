"""The compiled training and evaluation steps: one executable per shape, counted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from glot_jax.batches.planned_batches import PlannedBatches
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.dispatch.executables import Executables
from glot_jax.dispatch.pace import MOST
from glot_jax.graphs import Stem
from glot_jax.model import SentenceModel, split_model
from glot_jax.xla.cpu_options import XlaCpuOptions, compiled

TrainState = dict[str, Any]
"""`params`, `stats`: nested dicts of arrays; `opt_state`: optax's; `step`: int32; `key`: PRNG key;
`first_bad_step`: int32, -1 while every loss was finite. `stats` is what a model keeps besides
parameters (running averages)."""

StepName = Literal["train", "evaluate", "features"]

JUDGED_TOGETHER = 16
"""Batches of one evaluating dispatch at most: their outputs lie in memory together."""


def edge_counter(stem: Stem) -> Callable[[Any, Any], Array]:
    """`stem.count_edges`, compiled once per shape."""
    return jax.jit(stem.count_edges)


def init_state(
    params: dict, stats: dict, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """Step 0 of a run."""
    return {
        "params": params,
        "stats": stats,
        "opt_state": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
        "key": jax.random.key(seed),
        "first_bad_step": jnp.full((), -1, jnp.int32),
    }


class Block(NamedTuple):
    """Consecutive steps of one shape, whose batches the program gathers itself."""

    tokens: Array | jax.ShapeDtypeStruct
    """[tokens, (layers,) dim] of the split, on the device."""
    planned: PlannedBatches
    """Of an epoch, on the device."""
    length: int
    """Padded length of all batches of the block."""
    first: Array | jax.ShapeDtypeStruct
    """[] int32: index of the first batch within the epoch, on the device."""
    size: Array | jax.ShapeDtypeStruct
    """[] int32: batches, on the device; from 1 to MOST to train, to JUDGED_TOGETHER otherwise."""


# What a program takes of a block: its length is part of the program.
_BlockArrays = tuple[Array, PlannedBatches, Array, Array]


def _arrays_of(block: Block) -> tuple:
    return (block.tokens, block.planned, block.first, block.size)


class Steps:
    """The steps of a run, compiled ahead of time for each shape that they meet.

    Where token states wait on the device, consecutive steps are one program that gathers their
    batches (`train_block`, `judge_block`); elsewhere a step takes a batch. Both compute the same
    digits.

    Args:
        graphdef: structure of the SentenceModel, from `split_model`.
        optimizer: optax transformation.
        edge_budgets: (texts, length) of a batch -> edges it may hold, for the sparse backend; empty
            for the others.
        total_steps: steps of the run; what is annealed ends there.
        xla_options: who multiplies matrices on a CPU; see `xla.cpu_options`.

    Attributes:
        executables: the compiled steps; a key begins with the name of the step.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef[SentenceModel],
        optimizer: optax.GradientTransformation,
        edge_budgets: dict[tuple, int],
        total_steps: int,
        xla_options: XlaCpuOptions = "default",
    ):
        self._xla_options: XlaCpuOptions = xla_options
        # Static in each program: a budget is the size of its list of edges.
        self.edge_budgets = edge_budgets
        self.executables = Executables()
        # Of the run that these steps trained last, as numbers.
        self._key: Array | None = None
        self._key_data: Array | None = None
        train = functools.partial(_train_step, graphdef, optimizer, total_steps)
        judge = {
            "evaluate": functools.partial(_evaluate_step, graphdef),
            "features": functools.partial(_features_step, graphdef),
        }
        # Static is the edge budget, by its place among the arguments that are left.
        # Donated: the old state's buffers hold the new one, so that a step needs no second copy.
        self._train = jax.jit(train, static_argnums=2, donate_argnums=0)
        self._train_block = jax.jit(
            functools.partial(_train_block, train), static_argnums=(3, 4), donate_argnums=0
        )
        self._judge = {}
        self._judge_block = {}
        for name, step in judge.items():
            self._judge[name] = jax.jit(step, static_argnums=3)
            # The jitted one, which a block meets twice and traces once.
            block = functools.partial(_judge_block, self._judge[name])
            self._judge_block[name] = jax.jit(block, static_argnums=(3, 4))

    @property
    def compile_seconds(self) -> float:
        """How long this process has waited for programs."""
        return self.executables.compile_seconds

    def train(
        self,
        state: TrainState,
        batch: TokenBatch,
    ) -> tuple[TrainState, dict[str, Array]]:
        """One update.

        The state's buffers are donated. Logs: loss (mean over the batch's real rows),
        dropped_edges.
        """
        update = self._executable("train", state, batch)
        # What the host has made of a batch is moved here and nowhere else: under a transfer guard
        # an array that slips into a step is an error.
        return update(state, jax.device_put(batch))

    def train_block(self, state: TrainState, block: Block) -> tuple[TrainState, dict[str, Array]]:
        """An update for every batch of a block, in one dispatch.

        The state's buffers are donated.

        Returns:
            The state after the last one; logs as of `train`, each [MOST], of which the first
            `block.size` are those of the block, and next: [] int32, `first` of the block that
            follows.
        """
        key = _block_key("train", block)
        build = functools.partial(self._compile_block, "train", state, block)
        update = self.executables.get(key, build)
        run_key: Array = state["key"]
        if run_key is not self._key:
            self._key = run_key
            self._key_data = jax.random.key_data(run_key)
        arrays = _without_key(state)
        # A program that returns a typed key is dispatched by Python instead of C++, which takes
        # longer than a small step; and the key of a run never changes.
        updated, logs = update(arrays, self._key_data, _arrays_of(block))
        return {**updated, "key": run_key}, logs

    def evaluate(
        self,
        state: TrainState,
        batch: TokenBatch,
    ) -> dict[str, Array]:
        """Outputs and losses of a batch; no randomness, nothing donated.

        Returns:
            outputs [batch, out], loss [batch], dropped_edges [].
        """
        return self.judge("evaluate", state, batch)

    def features(
        self,
        state: TrainState,
        batch: TokenBatch,
    ) -> dict[str, Array]:
        """What the head multiplies, such as the pooled vectors of a row side by side.

        Returns:
            features [batch, width], dropped_edges [].
        """
        return self.judge("features", state, batch)

    def judge(self, name: StepName, state: TrainState, batch: TokenBatch) -> dict[str, Array]:
        """`evaluate` or `features`, by name."""
        run = self._executable(name, state, batch)
        return run(state["params"], state["stats"], jax.device_put(batch))

    def judge_block(self, name: StepName, state: TrainState, block: Block) -> dict[str, Array]:
        """`evaluate` or `features` of every batch of a block, in one dispatch.

        Returns:
            What the step returns, with an axis in front: [JUDGED_TOGETHER, ...], of which the first
            `block.size` are those of the block.
        """
        key = _block_key(name, block)
        build = functools.partial(self._compile_block, name, state, block)
        run = self.executables.get(key, build)
        return run(state["params"], state["stats"], _arrays_of(block))

    def compile_ahead(
        self,
        name: StepName,
        state: TrainState,
        tokens: Array,
        planned: PlannedBatches,
        length: int,
    ) -> None:
        """Have the program for blocks of this shape compiled on another thread."""
        # Shapes alone: by the time they are traced the state may have been donated.
        shapes = jax.tree.map(_shape_of, state)
        number = jax.ShapeDtypeStruct((), jnp.int32)
        steps = jax.tree.map(_shape_of, planned)
        block = Block(_shape_of(tokens), steps, length, number, number)
        key = _block_key(name, block)
        self.executables.ahead(key, functools.partial(self._compile_block, name, shapes, block))

    def lower(
        self,
        name: StepName,
        state: TrainState,
        batch: TokenBatch,
        platforms: tuple[str, ...] | None = None,
    ) -> jax.stages.Lowered:
        """The step for this shape, not yet compiled: a `jax.stages.Lowered`.

        Args:
            name: train, evaluate or features.
            state: of the run.
            batch: gives the shape.
            platforms: what it is lowered for; default: this machine's.
        """
        budget = self.budget(batch)
        if name == "train":
            traced = self._train.trace(state, batch, budget)
        else:
            traced = self._judge[name].trace(state["params"], state["stats"], batch, budget)
        return traced.lower(lowering_platforms=platforms)

    def lower_block(
        self,
        name: StepName,
        state: TrainState,
        block: Block,
        platforms: tuple[str, ...] | None = None,
    ) -> jax.stages.Lowered:
        """As `lower`, for blocks of this shape."""
        texts = block.planned.starts.shape[1]
        budget = self.edge_budgets.get((texts, block.length))
        arrays = _arrays_of(block)
        if name == "train":
            key_data = jax.eval_shape(jax.random.key_data, state["key"])
            parts = (_without_key(state), key_data)
            traced = self._train_block.trace(*parts, arrays, block.length, budget)
        else:
            judge = self._judge_block[name]
            traced = judge.trace(state["params"], state["stats"], arrays, block.length, budget)
        return traced.lower(lowering_platforms=platforms)

    def budget(self, batch: TokenBatch) -> int | None:
        """Edges that a batch of this shape may hold; None where it is not computed sparse."""
        return self.edge_budgets.get(batch.mask.shape)

    def _executable(self, name: StepName, state: TrainState, batch: TokenBatch) -> Callable:
        # Ahead of time and by hand: jax.jit would compile silently, and nobody could count or time
        # it.
        hidden = batch.hidden
        # The dtype too: an executable refuses arrays of another, where jax.jit would trace again.
        key = (name, hidden.shape, str(hidden.dtype))

        def build() -> jax.stages.Compiled:
            lowered = self.lower(name, state, batch)
            return compiled(lowered, batch.mask.shape, self._xla_options)

        return self.executables.get(key, build)

    def _compile_block(
        self, name: StepName, state: TrainState, block: Block
    ) -> jax.stages.Compiled:
        lowered = self.lower_block(name, state, block)
        texts = (block.planned.starts.shape[1], block.length)
        return compiled(lowered, texts, self._xla_options)


def _block_key(name: StepName, block: Block) -> tuple:
    tokens = block.tokens
    # The planned steps too: how many an epoch has is the size of its arrays.
    return (name, tokens.shape, str(tokens.dtype), block.planned.starts.shape, block.length)


def _shape_of(array: Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _forward(
    graphdef: nnx.GraphDef[SentenceModel],
    params: dict,
    stats: dict,
    batch: TokenBatch,
    edge_budget: int | None,
    *,
    train: bool = False,
    progress: ArrayLike = 0.0,
    rngs: nnx.Rngs | None = None,
) -> tuple[Array, Array, dict, Array]:
    """Outputs, losses of the rows, the model's other state afterwards, edges that did not fit."""
    model: SentenceModel = nnx.merge(graphdef, params, stats)
    graph = model.graph(
        batch,
        edge_budget=edge_budget,
        train=train,
        progress=progress,
        rngs=rngs,
    )
    # Without the progress: only the stem anneals.
    outputs = model.outputs(graph, train=train, rngs=rngs)
    losses = model.row_losses(outputs, batch)
    # Read after the forward pass, which has changed running averages inside the model.
    _, _, stats = split_model(model)
    return outputs, losses, stats, graph.dropped_edges


def _train_step(
    graphdef: nnx.GraphDef[SentenceModel],
    optimizer: optax.GradientTransformation,
    total_steps: int,
    state: TrainState,
    batch: TokenBatch,
    edge_budget: int | None,
) -> tuple[TrainState, dict[str, Array]]:
    def mean_loss(params: dict) -> tuple[Array, tuple[dict, Array]]:
        # 1 at the last step, which is number total_steps - 1.
        progress = state["step"] / max(1, total_steps - 1)
        # The key of a step is a function of its number: a resumed run drops the same entries.
        key = jax.random.fold_in(state["key"], state["step"])
        _, losses, stats, dropped = _forward(
            graphdef,
            params,
            state["stats"],
            batch,
            edge_budget,
            train=True,
            progress=progress,
            rngs=nnx.Rngs(dropout=key),
        )
        # Rows that only fill the batch have no loss and are not counted either.
        total = jnp.sum(losses)
        rows = jnp.sum(batch.row_mask)
        return total / jnp.maximum(rows, 1), (stats, dropped)

    differentiate = jax.value_and_grad(mean_loss, has_aux=True)
    (loss, (stats, dropped)), gradient = differentiate(state["params"])
    # Named for profilers.
    with jax.named_scope("optimizer"):
        old_params = state["params"]
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


def _train_block(
    train: Callable,
    state: TrainState,
    key_data: Array,
    arrays: _BlockArrays,
    length: int,
    edge_budget: int | None,
) -> tuple[TrainState, dict[str, Array]]:
    tokens, planned, first, size = arrays
    key = jax.random.wrap_key_data(key_data)

    def update(index: Array, carry: tuple[TrainState, dict]) -> tuple[TrainState, dict]:
        state, logs = carry
        batch = planned.gather(tokens, first + index, length)
        updated, entry = train({**state, "key": key}, batch, edge_budget)
        return _without_key(updated), _with_entry(logs, entry, index)

    # A count that the program is told, not one that it was compiled for: blocks of all sizes share
    # one program.
    logs = {"loss": jnp.zeros(MOST), "dropped_edges": jnp.zeros(MOST, jnp.int32)}
    state, logs = jax.lax.fori_loop(0, size, update, (state, logs))
    return state, {**logs, "next": first + size}


def _without_key(state: TrainState) -> TrainState:
    return {name: part for name, part in state.items() if name != "key"}


def _judge_block(
    judge: Callable,
    params: dict,
    stats: dict,
    arrays: _BlockArrays,
    length: int,
    edge_budget: int | None,
) -> dict[str, Array]:
    tokens, planned, first, size = arrays

    def result_of(index: Array) -> dict[str, Array]:
        batch = planned.gather(tokens, first + index, length)
        return judge(params, stats, batch, edge_budget)

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


def _evaluate_step(
    graphdef: nnx.GraphDef[SentenceModel],
    params: dict,
    stats: dict,
    batch: TokenBatch,
    edge_budget: int | None,
) -> dict[str, Array]:
    outputs, losses, _, dropped = _forward(graphdef, params, stats, batch, edge_budget)
    # Running averages that the forward pass made are dropped: evaluation changes nothing.
    return {"outputs": outputs, "loss": losses, "dropped_edges": dropped}


def _features_step(
    graphdef: nnx.GraphDef[SentenceModel],
    params: dict,
    stats: dict,
    batch: TokenBatch,
    edge_budget: int | None,
) -> dict[str, Array]:
    model: SentenceModel = nnx.merge(graphdef, params, stats)
    graph = model.graph(batch, edge_budget=edge_budget)
    return {"features": model.features(graph), "dropped_edges": graph.dropped_edges}
