"""One loop over a split, for outputs and for vectors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.head_runs import config

from glot_jax.errors import UsageError
from glot_jax.run_folders.run_log import Display
from glot_jax.training.forward import run_over
from glot_jax.training.prepare import prepare


def test_every_row_comes_once_and_batches_do_not_matter(stores, tmp_path):
    settings = config(stores["pairs"], tmp_path / "run")
    run = prepare(settings, Display(quiet=True))
    outputs = run_over(run, run.state, "validation")
    assert sorted(outputs.rows.tolist()) == list(range(12))
    assert outputs.values.shape == (12, 2)
    assert outputs.losses.shape == (12,)
    larger = prepare(dataclasses.replace(settings, eval_batch_size=12), Display(quiet=True))
    together = run_over(larger, larger.state, "validation")
    np.testing.assert_allclose(outputs.by_row(), together.by_row(), rtol=1e-4, atol=1e-5)


def test_vectors_are_what_the_head_reads(stores, tmp_path):
    run = prepare(config(stores["pairs"], tmp_path / "run"), Display(quiet=True))
    vectors = run_over(run, run.state, "validation", "vectors")
    outputs = run_over(run, run.state, "validation")
    head = run.state["params"]["head"]["linear"]
    by_hand = vectors.by_row() @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(by_hand, outputs.by_row(), rtol=1e-4, atol=1e-5)
    assert len(vectors.losses) == 0


@pytest.mark.parametrize(
    ("judged_by", "noun"), [("outputs", "output and loss"), ("vectors", "vector")]
)
def test_a_value_that_is_not_finite_names_its_row(stores, tmp_path, judged_by, noun):
    run = prepare(config(stores["classes"], tmp_path / "run"), Display(quiet=True))
    # Every bias: of the pooler for the vectors, of the head for the outputs.
    for part in ("pooler", "head"):
        _poison(run.state["params"][part])
    with pytest.raises(
        UsageError, match=f"every {noun} of the model must be finite; got 12 .* of validation"
    ):
        run_over(run, run.state, "validation", judged_by)


def _poison(tree: dict) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            _poison(value)
        else:
            tree[name] = np.full(value.shape, np.nan, value.dtype)
