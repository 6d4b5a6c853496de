"""`glot profile`: a head and its variants, each at every shape."""

from __future__ import annotations

import dataclasses

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.profile import ProfileConfig
from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.dispatch.memory import keep_memory
from glot_jax.errors import UsageError
from glot_jax.graphs import SELECTABLE
from glot_jax.pooling import POOLERS
from glot_jax.profiling.head import Profile, profile_head
from glot_jax.profiling.shapes import profiled_shapes
from glot_jax.training.prepare import check_names

_DTYPES = ("float32", "bfloat16")


def run_profile(config: ProfileConfig) -> list[Profile]:
    """Profile the config's head and the variants it names.

    At its shape, or at every bucket of its store.

    Raises:
        UsageError: unknown names, or a store without rows enough for a batch.
    """
    keep_memory()  # as the trainer does
    # The head itself first: JSON has its values at the top.
    variants = [(config.graph, config.pooler)]
    variants += [vary(config, name) for name in config.compare]
    # All of them now: a misspelt one ends here, not after minutes of measurements.
    for graph, pooler in variants:
        check_names(graph, pooler)
    profiles = []
    for shape, batches in profiled_shapes(config):
        for number, (graph, pooler) in enumerate(variants):
            # The first keeps the folder that was asked for; others get one below it.
            trace = config.trace
            if trace is not None and (shape or number):
                trace = trace / f"{shape}-{number}"
            profile = profile_head(
                graph,
                pooler,
                _in_states_dtype(config, batches, pooler),
                repeats=config.repeats,
                forward_only=config.forward_only,
                trace=trace,
                xla_options=config.xla_cpu_options,
            )
            profiles.append(profile)
    if not profiles:
        raise UsageError(
            rule="--store must hold rows enough for a batch",
            got=config.store,
            fix="Give a smaller --batch-size.",
        )
    return profiles


def _in_states_dtype(
    config: ProfileConfig,
    batches: list[TokenBatch],
    pooler: PoolerConfig,
) -> list[TokenBatch]:
    """Synthetic states in the dtype of the head, unless the user chose theirs.

    A store's stay as they are stored.
    """
    if config.store is not None or config.states_dtype:
        return batches
    cast = []
    for batch in batches:
        hidden = batch.hidden.astype(pooler.dtype)
        cast.append(dataclasses.replace(batch, hidden=hidden))
    return cast


def vary(config: ProfileConfig, name: str) -> tuple[GraphConfig, PoolerConfig]:
    """The config's head with one thing changed.

    Args:
        config: its graph and pooler.
        name: what the one thing becomes: a backend, a dtype or a pooler.

    Raises:
        UsageError: a name that is none of these.
    """
    if name in SELECTABLE:
        return dataclasses.replace(config.graph, backend=name), config.pooler
    if name in _DTYPES:
        return config.graph, dataclasses.replace(config.pooler, dtype=name)
    if name in POOLERS:
        return config.graph, dataclasses.replace(config.pooler, pooler=name)
    raise UsageError(
        rule="--compare must name backends, dtypes and poolers",
        got=repr(name),
        fix=f"Known: {', '.join([*SELECTABLE, *_DTYPES, *POOLERS])}.",
    )
