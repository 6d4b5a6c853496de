"""Optimizer and learning-rate schedule, from optax."""

from __future__ import annotations

from typing import cast

import jax
import optax
from jax.tree_util import KeyPath
from jax.typing import ArrayLike
from jaxtyping import PyTree

from glot_jax.config.train import OptimizerConfig
from glot_jax.errors import UsageError
from glot_jax.training.step_functions import Numbers, OptimizerMaker


def warmup_steps(config: OptimizerConfig, steps_per_epoch: int, total_steps: int) -> int:
    """The warm-up in steps, whichever unit it was given in.

    Raises:
        UsageError: it is longer than the run.
    """
    steps = config.warmup_steps or 0
    if config.warmup_epochs is not None:
        steps = round(config.warmup_epochs * steps_per_epoch)
    if config.warmup_fraction is not None:
        steps = round(config.warmup_fraction * total_steps)
    if steps > total_steps:
        raise UsageError(
            rule=f"warm-up must end within the run's {total_steps} steps",
            got=f"{steps} steps",
            fix="Shorten it.",
        )
    return steps


def build_schedule(
    config: OptimizerConfig,
    steps_per_epoch: int,
    total_steps: int,
    lr: ArrayLike | None = None,
) -> optax.Schedule:
    """Linear warm-up from 0 to `lr`, then constant, or a cosine to 0 at the last step.

    Args:
        config: warm-up and shape.
        steps_per_epoch: batches of an epoch.
        total_steps: of the run.
        lr: wins over the config's; it may be traced.
    """
    warmup = warmup_steps(config, steps_per_epoch, total_steps)
    # Optax is typed for Python's numbers and computes with arrays as well.
    peak = cast("float", config.lr if lr is None else lr)
    after = optax.constant_schedule(peak)
    if config.schedule == "cosine":
        # optax refuses a decay over no steps, which is what a warm-up as long as the run leaves.
        decay_steps = max(1, total_steps - warmup)
        after = optax.cosine_decay_schedule(peak, decay_steps)
    if warmup == 0:
        return after
    before = optax.linear_schedule(0.0, peak, warmup)
    return optax.join_schedules([before, after], [warmup])


# Parameters of the stem: decay would pull a threshold to 0, and layers to equal shares.
_NOT_WEIGHTS = {"tau", "layer_scores"}


def _decayed(params: PyTree) -> PyTree[bool]:
    """A tree of bools, True for what is decayed."""

    def is_weight(path: KeyPath, leaf: object) -> bool:
        # `map_with_path` hands over both.
        del leaf
        name = path[-1].key
        return name not in _NOT_WEIGHTS

    return jax.tree.map_with_path(is_weight, params)


def optimizer_maker(
    config: OptimizerConfig, steps_per_epoch: int, total_steps: int
) -> OptimizerMaker:
    """The optimizer of a run, of the rate and the decay that its program is told.

    Args:
        config: all but these two numbers.
        steps_per_epoch: batches of an epoch.
        total_steps: of the run; its schedule ends with the last one.

    Raises:
        UsageError: the warm-up is longer than the run.
    """
    # Before anything is compiled.
    warmup_steps(config, steps_per_epoch, total_steps)

    # Made anew in each trace, of numbers that are traced there.
    def make(numbers: Numbers) -> optax.GradientTransformation:
        schedule = build_schedule(config, steps_per_epoch, total_steps, numbers.lr)
        return build_optimizer(config, schedule, numbers.weight_decay)

    return make


def build_optimizer(
    config: OptimizerConfig,
    schedule: optax.Schedule,
    weight_decay: ArrayLike | None = None,
) -> optax.GradientTransformation:
    """Adam or AdamW, optionally clipped.

    Adam adds weight decay to the gradient, as in PyTorch; AdamW decouples it. Every parameter is
    decayed but a learned threshold and the weights of mixed layers.

    Args:
        config: which one; with a decay of 0 nothing is decayed.
        schedule: learning rate of each step.
        weight_decay: wins over the config's, where that is not 0; it may be traced.
    """
    parts = []
    decay = cast("float", config.weight_decay if weight_decay is None else weight_decay)
    # In this order: the norm that is clipped is the gradient's alone, without decay.
    if config.clip_norm is not None:
        parts.append(optax.clip_by_global_norm(config.clip_norm))
    if config.optimizer == "adam":
        if config.weight_decay:
            parts.append(optax.add_decayed_weights(decay, mask=_decayed))
        parts.append(optax.adam(schedule))
    else:
        adamw = optax.adamw(
            schedule,
            weight_decay=decay,
            mask=_decayed,
        )
        parts.append(adamw)
    return optax.chain(*parts)
