"""Batches of the shapes that are profiled: synthetic texts, or those of a store by bucket."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from glot_jax.batches.token_batch import TokenBatch
from glot_jax.config.location import Location
from glot_jax.config.profile import ProfileConfig
from glot_jax.config.train import TrainConfig
from glot_jax.run_folders.run_log import Display
from glot_jax.training.prepare import prepare

_BATCHES = 3  # different ones: a step must not be able to remember


def synthetic_batch(
    *,
    dim: int,
    length: int,
    batch_size: int,
    tokens_per_text: float | None = None,
    dtype: str = "float32",
    seed: int = 0,
) -> TokenBatch:
    """Texts whose tokens share a direction.

    `x = 1.2 g + n` with g drawn once a text: a cosine of 0.59 on average.

    Args:
        dim: width of the states.
        length: tokens that each text is padded to.
        batch_size: texts.
        tokens_per_text: real tokens on average; lengths are spread evenly around it, from 1 to
            `length` at most. None: every text is `length` long.
        dtype: of the states.
        seed: of states, lengths and labels.

    Returns:
        hidden [batch_size, length, dim], zeros where padded; labels of two classes.
    """
    # Lengths and labels from NumPy, states from JAX: they are made on the device.
    rng = np.random.default_rng(seed)
    lengths = np.full(batch_size, length)
    if tokens_per_text is not None:
        # Evenly around the average, as far as the shorter side allows.
        reach = min(tokens_per_text - 1, length - tokens_per_text)
        low = round(tokens_per_text - reach)
        high = round(tokens_per_text + reach)
        lengths = rng.integers(low, high + 1, batch_size)
    # True at real tokens, which stand on the left.
    is_real = np.arange(length) < lengths[:, None]
    mask = jnp.asarray(is_real)
    shared_key, own_key = jax.random.split(jax.random.key(seed))
    shared = jax.random.normal(shared_key, (batch_size, 1, dim))
    own = jax.random.normal(own_key, (batch_size, length, dim))
    # Two tokens have the cosine 1.2² / (1.2² + 1) = 0.59, close to the default threshold.
    states = 1.2 * shared + own
    hidden = jnp.where(mask[..., None], states, 0).astype(dtype)
    classes = rng.integers(0, 2, batch_size)
    labels = jnp.asarray(classes, jnp.int32)
    return TokenBatch(hidden, mask, labels, jnp.ones(batch_size, bool))


def profiled_shapes(config: ProfileConfig) -> Iterator[tuple[int, list[TokenBatch]]]:
    """(number, batches) of each shape: that of the config, or every bucket of its store.

    The number is 0 for a synthetic shape and the padded length for a bucket.

    Raises:
        UsageError: a store that cannot be trained on.
    """
    if config.store is None:
        yield 0, _synthetic_batches(config)
    else:
        yield from _store_batches(config, config.store)


def _synthetic_batches(config: ProfileConfig) -> list[TokenBatch]:
    return [
        synthetic_batch(
            dim=config.dim,
            length=config.length,
            batch_size=config.batch_size,
            tokens_per_text=config.tokens_per_text,
            dtype=config.states_dtype or "float32",
            seed=config.seed + number,
        )
        for number in range(_BATCHES)
    ]


def _store_batches(
    config: ProfileConfig,
    store: Location,
) -> Iterator[tuple[int, list[TokenBatch]]]:
    settings = TrainConfig(
        store=store,
        out=Path("unwritten"),
        batch_size=config.batch_size,
        buckets=config.buckets,
        seed=config.seed,
        xla_cpu_options="default",
        # Nothing is trained here, and dense needs no count of the store's edges.
        graph=dataclasses.replace(config.graph, backend="dense"),
        pooler=config.pooler,
    )
    # The trainer's own plan: its buckets, its batches, its order.
    feed = prepare(settings, Display(quiet=True)).feeds["train"]
    steps_of_length: dict[int, list[int]] = {length: [] for length in feed.plan.bounds}
    for step in range(feed.plan.steps_per_epoch):
        length = feed.plan.batch(step).length
        steps_of_length.setdefault(length, []).append(step)

    def is_partial(step: int) -> bool:
        rows = feed.plan.batch(step).rows
        return bool((rows < 0).any())

    for length, steps in steps_of_length.items():
        # Full batches first: the partial one is there for stores and buckets that hold no full one.
        steps.sort(key=is_partial)
        batches = [_one_text_a_row(feed.batch(step)) for step in steps[:_BATCHES]]
        # A bucket of the plan may have no row.
        if batches:
            yield length, batches


def _one_text_a_row(batch: TokenBatch) -> TokenBatch:
    """Every text as a row, of one class or the other: what is measured is the pooling head."""
    hidden = jnp.asarray(batch.hidden)
    mask = jnp.asarray(batch.mask)
    # Both classes occur in every batch, as they do in training.
    labels = jnp.arange(len(mask), dtype=jnp.int32) % 2
    return TokenBatch(hidden, mask, labels, jnp.ones(len(mask), bool))
