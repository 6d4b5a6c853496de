"""Files of vectors hold what was written, in rows that are numbered from 0."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from glot_jax.inference.vector_files import VECTOR_WRITERS

VECTORS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def write(path, suffix: str) -> None:
    with closing(VECTOR_WRITERS[suffix](path, len(VECTORS), 3)) as writer:
        writer.write(VECTORS[:4], 0)
        writer.write(VECTORS[4:], 4)


def test_npy(tmp_path):
    write(tmp_path / "v.npy", "npy")
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, VECTORS)


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `extract` is not installed")
    write(tmp_path / "v.parquet", "parquet")
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table["row"].to_pylist() == list(range(7))
    assert table.schema.field("vector").type.list_size == 3
    np.testing.assert_array_equal(np.stack(table["vector"].to_numpy()), VECTORS)
