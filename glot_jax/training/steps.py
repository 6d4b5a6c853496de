"""The compiled training and evaluation steps: one executable per shape, counted."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax import Array
from jax.typing import ArrayLike

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.graphs import Stem
from glot_jax.model import SentenceModel, split_model
from glot_jax.training.xla_options import compiled

TrainState = dict[str, Any]
"""`params`, `stats`: nested dicts of arrays; `opt_state`: optax's; `step`: int32; `key`: PRNG key;
`first_bad_step`: int32, -1 while every loss was finite. `stats` is what a model keeps besides
parameters (running averages)."""

_Name = Literal["train", "evaluate", "features"]


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


class Steps:
    """The steps of a run, compiled ahead of time for each shape that they meet.

    Args:
        graphdef: structure of the SentenceModel, from `split_model`.
        optimizer: optax transformation.
        edge_budgets: (texts, length) of a batch -> edges it may hold, for the sparse backend; empty
            for the others.
        total_steps: steps of the run; what is annealed ends there.

    Attributes:
        executables: the compiled steps by (name, shape of the states, their dtype).
        compile_seconds: spent on them.
    """

    def __init__(
        self,
        graphdef: nnx.GraphDef[SentenceModel],
        optimizer: optax.GradientTransformation,
        edge_budgets: dict[tuple, int],
        total_steps: int,
    ):
        # Static in each program: a budget is the size of its list of edges.
        self.edge_budgets = edge_budgets
        self.executables: dict[tuple, Callable] = {}
        self.compile_seconds = 0.0
        train = functools.partial(_train_step, graphdef, optimizer, total_steps)
        evaluate = functools.partial(_evaluate_step, graphdef)
        features = functools.partial(_features_step, graphdef)
        # Static is the edge budget, by its place among the arguments that are left.
        # Donated: the old state's buffers hold the new one, so that a step needs no second copy.
        self._train = jax.jit(train, static_argnums=2, donate_argnums=0)
        self._evaluate = jax.jit(evaluate, static_argnums=3)
        self._features = jax.jit(features, static_argnums=3)

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

    def evaluate(
        self,
        state: TrainState,
        batch: TokenBatch,
    ) -> dict[str, Array]:
        """Outputs and losses of a batch; no randomness, nothing donated.

        Returns:
            outputs [batch, out], loss [batch], dropped_edges [].
        """
        run = self._executable("evaluate", state, batch)
        return run(state["params"], state["stats"], jax.device_put(batch))

    def features(
        self,
        state: TrainState,
        batch: TokenBatch,
    ) -> dict[str, Array]:
        """What the head multiplies, such as the pooled vectors of a row side by side.

        Returns:
            features [batch, width], dropped_edges [].
        """
        run = self._executable("features", state, batch)
        return run(state["params"], state["stats"], jax.device_put(batch))

    def lower(
        self,
        name: _Name,
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
            step = self._evaluate if name == "evaluate" else self._features
            traced = step.trace(state["params"], state["stats"], batch, budget)
        return traced.lower(lowering_platforms=platforms)

    def budget(self, batch: TokenBatch) -> int | None:
        """Edges that a batch of this shape may hold; None where it is not computed sparse."""
        return self.edge_budgets.get(batch.mask.shape)

    def _executable(self, name: _Name, state: TrainState, batch: TokenBatch) -> Callable:
        # Ahead of time and by hand: jax.jit would compile silently, and nobody could count or time
        # it.
        hidden = batch.hidden
        # The dtype too: an executable refuses arrays of another, where jax.jit would trace again.
        shape = (name, hidden.shape, str(hidden.dtype))
        if shape not in self.executables:
            begin = time.perf_counter()
            lowered = self.lower(name, state, batch)
            self.executables[shape] = compiled(lowered, batch.mask.shape)
            self.compile_seconds += time.perf_counter() - begin
        return self.executables[shape]


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
