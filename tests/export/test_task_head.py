"""Which heads are exported, and which are refused by one error."""

from __future__ import annotations

import numpy as np
import pytest
from flax import nnx

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import DIM, PLAIN, ROW_TASKS, TAU, make_run, model_of, randomised
from support.typed import present

from glot_jax.errors import UsageError
from glot_jax.export import export_onnx, export_sentence_transformers, export_stablehlo
from glot_jax.export.task_head import ExportedTask
from glot_jax.model import ModelSpec
from glot_jax.objectives.heads import FeatureHead
from glot_jax.texts.tasks import TASKS

# One process makes the runs and folders that these tests share.
pytestmark = pytest.mark.xdist_group("export")


class Doubled(FeatureHead):
    """A plugin's head, which computes something else with the same arrays."""


def test_every_array_of_the_head_is_exported():
    spec = ModelSpec(DIM, (2,), False, "encoder", ROW_TASKS["similarity"][0])
    model = randomised(spec, PLAIN, TAU)
    task = ExportedTask.of_model(model)
    assert task.settings == {"kind": "cosine", "texts": 2, "scale": [1.0, 5.0]}
    arrays = [np.asarray(value[...]) for _, value in nnx.to_flat_state(nnx.state(model.head))]
    assert len(arrays) == len(task.weights) == 2
    for array in arrays:
        assert any(np.array_equal(array, other) for other in task.weights.values())


def test_a_head_of_another_class_is_refused():
    model = model_of(PLAIN, TAU)
    head = present(model.head)
    model.head = Doubled(model.pooler.pooled_dim, 1, 2, rngs=nnx.Rngs(0))
    with pytest.raises(UsageError, match="a head of this package; got Doubled"):
        ExportedTask.of_model(model)
    model.head = head
    assert ExportedTask.of_model(model).settings["classes"] == ["no", "yes"]


def test_a_run_that_ranks_texts_has_no_scores(place, tmp_path):
    run = make_run(tmp_path / "run", place / "bert", task=TASKS["embedding"])
    for export, out in (
        (export_onnx, tmp_path / "head.onnx"),
        (export_stablehlo, tmp_path / "program"),
        (export_sentence_transformers, tmp_path / "folder"),
    ):
        with pytest.raises(UsageError, match="--with-head needs a run .* labels of kind ranking"):
            export(run, out, with_head=True)
        assert not out.exists()
