"""Batches that are profiled: synthetic texts, and the buckets of a store."""

from __future__ import annotations

import numpy as np
from support.synthetic_stores import PAIRS, make_store

from glot_jax.config.profile import ProfileConfig
from glot_jax.profiling.shapes import profiled_shapes, synthetic_batch


def test_synthetic_texts_share_a_direction():
    batch = synthetic_batch(dim=512, length=64, batch_size=8, tokens_per_text=20, seed=1)
    hidden, lengths = np.asarray(batch.hidden), np.asarray(batch.mask).sum(1)
    assert (hidden[~np.asarray(batch.mask)] == 0).all()
    assert lengths.min() >= 1
    assert 10 < lengths.mean() < 30
    first = hidden[lengths.argmax()][: lengths.max()]
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    cosines = (first @ first.T)[~np.eye(len(first), dtype=bool)]
    assert abs(cosines.mean() - 1.44 / 2.44) < 0.02


def test_a_synthetic_shape_has_batches_that_differ():
    config = ProfileConfig(dim=8, length=4, batch_size=2, states_dtype="bfloat16")
    ((number, batches),) = profiled_shapes(config)
    assert number == 0
    assert {batch.hidden.shape for batch in batches} == {(2, 4, 8)}
    assert {str(batch.hidden.dtype) for batch in batches} == {"bfloat16"}
    assert not np.array_equal(batches[0].hidden, batches[1].hidden)


def test_every_text_of_a_stores_row_is_a_row_of_its_own(tmp_path):
    store = make_store(tmp_path / "store", PAIRS, rows={"train": 16, "validation": 8})
    shapes = dict(profiled_shapes(ProfileConfig(store=store, batch_size=4, buckets=2)))
    assert len(shapes) == 2
    for length, batches in shapes.items():
        for batch in batches:
            texts, padded, _ = batch.hidden.shape
            assert (texts, padded) == (2 * 4, length)
            assert batch.labels.shape == batch.row_mask.shape == (texts,)
            assert batch.row_mask.all()
