"""Files of vectors hold what was written; a .npy file the vectors alone."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from glot_jax.inference.row_files import Survey
from glot_jax.inference.vector_files import VECTOR, added_columns, open_writer

VECTORS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def test_npy(tmp_path):
    survey = Survey(len(VECTORS))
    with closing(open_writer(tmp_path / "v.tmp", "npy", survey)) as writer:
        writer.write([{}] * 4, {VECTOR: VECTORS[:4]})
        writer.write([{}] * 3, {VECTOR: VECTORS[4:]})
    vectors = np.load(tmp_path / "v.tmp")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, VECTORS)


def test_rows_are_numbered_in_parquet_unless_the_file_has_a_column_of_that_name():
    assert added_columns("parquet", Survey()) == ("row", "vector")
    assert added_columns("parquet", Survey(columns={"row": None})) == ("vector",)
    assert added_columns("jsonl", Survey()) == ("vector",)
