"""The compiled training and evaluation steps: one executable per shape, counted."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from glot_jax.batches.packed_states import Tokens
from glot_jax.batches.planned_batches import PlannedBatches
from glot_jax.batches.token_batch import TokenBatch
from glot_jax.dispatch.executables import Executables
from glot_jax.graphs import Stem
from glot_jax.mesh.device_mesh import ONE, Mesh
from glot_jax.model import SentenceModel
from glot_jax.training import step_functions
from glot_jax.training.step_functions import Numbers, OptimizerMaker, TrainState
from glot_jax.xla.cpu_options import XlaCpuOptions, compiled

StepName = Literal["train", "evaluate", "features"]


def edge_counter(stem: Stem) -> Callable[[Any, Any], Array]:
    """`stem.count_edges`, compiled once per shape."""
    return jax.jit(stem.count_edges)


def init_state(
    params: dict,
    stats: dict,
    make_optimizer: OptimizerMaker,
    numbers: Numbers,
    seed: int,
) -> TrainState:
    """Step 0 of a run."""
    optimizer = make_optimizer(numbers)
    return {
        "params": params,
        "stats": stats,
        "numbers": numbers,
        "opt_state": optimizer.init(params),
        "step": jnp.zeros((), jnp.int32),
        "key": jax.random.key(seed),
        "first_bad_step": jnp.full((), -1, jnp.int32),
    }


class Block(NamedTuple):
    """Consecutive steps of one shape, whose batches the program gathers itself."""

    tokens: Any  # an array, packed states, or what describes their shapes
    """[tokens, (layers,) dim] of the split, on the device."""
    planned: PlannedBatches
    """Of an epoch, on the device."""
    length: int
    """Padded length of all batches of the block."""
    first: Array | jax.ShapeDtypeStruct
    """[] int32: index of the first batch within the epoch, on the device."""
    size: Array | jax.ShapeDtypeStruct
    """[] int32: batches, on the device; from 1 to MOST to train, to JUDGED_TOGETHER otherwise."""


def _judged(state: TrainState) -> tuple:
    """What an evaluating step takes of a state."""
    return (state["params"], state["stats"], state["numbers"].stem)


def _arrays_of(block: Block) -> tuple:
    return (block.tokens, block.planned, block.first, block.size)


class Steps:
    """The steps of a run, compiled ahead of time for each shape that they meet.

    Where token states wait on the device, consecutive steps are one program that gathers their
    batches (`train_block`, `judge_block`); elsewhere a step takes a batch. Both compute the same
    digits.

    Args:
        graphdef: structure of the SentenceModel, from `split_model`.
        make_optimizer: the optax transformation of the numbers of a run.
        edge_budgets: (texts, length) of a batch -> edges it may hold, for the sparse backend; empty
            for the others.
        total_steps: steps of the run; what is annealed ends there.
        xla_options: who multiplies matrices on a CPU; see `xla.cpu_options`.
        mesh: the devices that batches are divided among; states and results lie on all of them.

    Attributes:
        executables: the compiled steps; a key begins with the name of the step.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef[SentenceModel],
        make_optimizer: OptimizerMaker,
        edge_budgets: dict[tuple, int],
        total_steps: int,
        xla_options: XlaCpuOptions = "default",
        mesh: Mesh = ONE,
    ):
        self._xla_options: XlaCpuOptions = xla_options
        self.mesh = mesh
        # Static in each program: a budget is the size of its list of edges.
        self.edge_budgets = edge_budgets
        self.executables = Executables()
        # Of the run that these steps trained last, as numbers.
        self._key: Array | None = None
        self._key_data: Array | None = None
        train = functools.partial(step_functions.train_step, graphdef, make_optimizer, total_steps)
        judge = {
            "evaluate": functools.partial(step_functions.evaluate_step, graphdef),
            "features": functools.partial(step_functions.features_step, graphdef),
        }
        # Static is the edge budget, by its place among the arguments that are left.
        # Donated: the old state's buffers hold the new one, so that a step needs no second copy.
        self._train = jax.jit(train, static_argnums=2, donate_argnums=0, **mesh.jit_options)
        self._train_block = jax.jit(
            functools.partial(step_functions.train_block, train),
            static_argnums=(3, 4),
            donate_argnums=0,
            **mesh.jit_options,
        )
        self._train_blocks = jax.jit(
            functools.partial(step_functions.train_blocks, train),
            static_argnums=(3, 4),
            donate_argnums=0,
        )
        look = functools.partial(step_functions.look_step, graphdef)
        self._look = jax.jit(look, static_argnums=4)
        self._judge = {}
        self._judge_block = {}
        for name, step in judge.items():
            self._judge[name] = jax.jit(step, static_argnums=4, **mesh.jit_options)
            # The jitted one, which a block meets twice and traces once.
            block = functools.partial(step_functions.judge_block, self._judge[name])
            self._judge_block[name] = jax.jit(block, static_argnums=(4, 5), **mesh.jit_options)

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
        # What the host has made of a batch is moved here and nowhere else: under a transfer guard
        # an array that slips into a step is an error.
        moved = self.mesh.place_rows(batch)
        update = self._executable("train", state, moved)
        return update(state, moved)

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
        arrays = step_functions.without_key(state)
        # A program that returns a typed key is dispatched by Python instead of C++, which takes
        # longer than a small step; and the key of a run never changes.
        updated, logs = update(arrays, self._key_data, _arrays_of(block))
        return {**updated, "key": run_key}, logs

    def train_blocks(
        self, states: Sequence[TrainState], keys: Array, blocks: Sequence[Block]
    ) -> list[tuple[TrainState, dict[str, Array]]]:
        """`train_block` of several runs that share these steps, in one dispatch.

        The states' buffers are donated. Numbers of a run differ from those that it has alone by
        rounding; those of the others change none of its digits.

        Args:
            states: of the runs.
            keys: [runs, ...], `jax.random.key_data` of their keys.
            blocks: of each of them; they differ by `planned` alone.

        Returns:
            What `train_block` returns, for each run.
        """
        build = functools.partial(self._compile_blocks, states, keys, blocks)
        update = self.executables.get(_blocks_key(blocks), build)
        results = update(*_arguments_of(states, keys, blocks))
        joined = []
        for state, (updated, logs) in zip(states, results, strict=True):
            joined.append(({**updated, "key": state["key"]}, logs))
        return joined

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
        moved = self.mesh.place_rows(batch)
        run = self._executable(name, state, moved)
        return run(*_judged(state), moved)

    def look(self, state: TrainState, batch: TokenBatch) -> dict[str, Array]:
        """How much each token of a batch counts in the readout, and its degree in the graph.

        For people who follow a run: compiled when it is first asked for, and not counted.

        Returns:
            readout_weights, degrees and mask, [texts, length].
        """
        moved = self.mesh.place_rows(batch)
        return self._look(*_judged(state), moved, self.budget(moved))

    def judge_block(self, name: StepName, state: TrainState, block: Block) -> dict[str, Array]:
        """`evaluate` or `features` of every batch of a block, in one dispatch.

        Returns:
            What the step returns, with an axis in front: [JUDGED_TOGETHER, ...], of which the first
            `block.size` are those of the block.
        """
        key = _block_key(name, block)
        build = functools.partial(self._compile_block, name, state, block)
        run = self.executables.get(key, build)
        return run(*_judged(state), _arrays_of(block))

    def compile_ahead(
        self,
        name: StepName,
        state: TrainState,
        tokens: Tokens,
        planned: PlannedBatches,
        length: int,
    ) -> None:
        """Have the program for blocks of this shape compiled on another thread."""
        # Shapes alone: by the time they are traced the state may have been donated.
        shapes = self.mesh.described(state)
        block = self._block_of_shapes(tokens, planned, length)
        key = _block_key(name, block)
        compile_block = functools.partial(
            self._compile_block,
            name,
            shapes,
            block,
        )
        self.executables.ahead(key, compile_block)

    def compile_blocks_ahead(
        self, states: Sequence[TrainState], tokens: Tokens, planned: PlannedBatches, length: int
    ) -> None:
        """Have the program of `train_blocks` for these runs compiled on another thread."""
        shapes = [self.mesh.described(state) for state in states]
        numbers = jax.eval_shape(jax.random.key_data, shapes[0]["key"])
        keys = jax.ShapeDtypeStruct((len(states), *numbers.shape), numbers.dtype)
        blocks = [self._block_of_shapes(tokens, planned, length)] * len(states)
        build = functools.partial(self._compile_blocks, shapes, keys, blocks)
        self.executables.ahead(_blocks_key(blocks), build)

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
            traced = self._judge[name].trace(*_judged(state), batch, budget)
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
            parts = (step_functions.without_key(state), key_data)
            traced = self._train_block.trace(*parts, arrays, block.length, budget)
        else:
            judge = self._judge_block[name]
            traced = judge.trace(*_judged(state), arrays, block.length, budget)
        return traced.lower(lowering_platforms=platforms)

    def budget(self, batch: TokenBatch) -> int | None:
        """Edges that a batch of this shape may hold; None where it is not computed sparse."""
        return self.edge_budgets.get(batch.mask.shape)

    def _block_of_shapes(self, tokens: Tokens, planned: PlannedBatches, length: int) -> Block:
        number = self.mesh.described(jax.ShapeDtypeStruct((), jnp.int32))
        # The first axis of what is planned counts steps, the second what is divided.
        steps = self.mesh.described(planned, axis=1)
        return Block(self.mesh.described(tokens), steps, length, number, number)

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

    def _compile_blocks(
        self,
        states: Sequence[TrainState],
        keys: Array | jax.ShapeDtypeStruct,
        blocks: Sequence[Block],
    ) -> jax.stages.Compiled:
        texts = (blocks[0].planned.starts.shape[1], blocks[0].length)
        budget = self.edge_budgets.get(texts)
        arguments = _arguments_of(states, keys, blocks)
        traced = self._train_blocks.trace(*arguments, blocks[0].length, budget)
        return compiled(traced.lower(), texts, self._xla_options)


def _arguments_of(
    states: Sequence[TrainState], keys: Array | jax.ShapeDtypeStruct, blocks: Sequence[Block]
) -> tuple:
    """What `step_functions.train_blocks` takes."""
    planned = tuple(block.planned for block in blocks)
    tokens, _, first, size = _arrays_of(blocks[0])
    without_keys = [step_functions.without_key(state) for state in states]
    return without_keys, keys, (tokens, planned, first, size)


def _block_key(name: StepName, block: Block) -> tuple:
    tokens = block.tokens
    # The planned steps too: how many an epoch has is the size of its arrays.
    # Packed states are two arrays.
    leaves = tuple((leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(tokens))
    return (name, leaves, block.planned.starts.shape, block.length)


def _blocks_key(blocks: Sequence[Block]) -> tuple:
    return (*_block_key("train", blocks[0]), len(blocks))
