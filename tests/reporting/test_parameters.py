"""The census of a model's tree: parts, their order, their sums."""

from __future__ import annotations

import jax
import pytest
from flax import nnx

from glot_jax.config.train import GraphConfig, ObjectiveConfig, PoolerConfig
from glot_jax.model import ModelSpec, SentenceModel
from glot_jax.reporting.parameters import STAGES, count_parts
from glot_jax.texts.tasks import TaskSpec

TASK = TaskSpec("custom", ("text",), ("text",), "label", "classes", ("no", "yes"))


def model(**pooler) -> SentenceModel:
    return SentenceModel(
        ModelSpec(8, (2,), False, "encoder", TASK),
        graph=GraphConfig(),
        pooler=PoolerConfig(hidden_dim=6, **pooler),
        objective=ObjectiveConfig(),
        rngs=nnx.Rngs(0),
    )


@pytest.mark.parametrize("gnn", ["gat", "gin"])
def test_every_number_of_the_tree_is_counted_once(gnn):
    built = model(gnn=gnn, residual=True, projection_dim=4)
    census = count_parts(built)
    _, trained, others = nnx.split(built, nnx.Param, ...)
    assert census.total.trained == sum(leaf.size for leaf in jax.tree.leaves(trained))
    assert census.total.statistics == sum(leaf.size for leaf in jax.tree.leaves(others))
    stages = [census.stage(name) for name in STAGES]
    assert sum(stage.trained for stage in stages) == census.total.trained


def test_layer_10_comes_after_layer_9():
    names = [part.name for part in count_parts(model(num_layers=11)).parts]
    layers = [name for name in names if name.startswith("pooler.gnn.layers.")]
    assert layers == [f"pooler.gnn.layers.{number}" for number in range(11)]


def test_a_part_has_the_class_that_it_is_made_of():
    types = {part.name: part.type for part in count_parts(model(projection_dim=4)).parts}
    assert types["pooler.gnn.layers.0"] == "GAT"
    assert types["head.linear"] == "Linear"


def test_its_values_are_a_list_of_parts_and_four_sums():
    census = count_parts(model())
    values = census.to_json()
    assert list(values) == ["parts", *STAGES, "total"]
    assert values["total"] == {"trained": census.total.trained, "statistics": 0}
