"""The names that are known without jax are those of the tables."""

from __future__ import annotations

import typing

from glot_jax.config import names
from glot_jax.config.base import type_hints
from glot_jax.config.train import PoolerConfig
from glot_jax.graphs import RULES, SELECTABLE
from glot_jax.pooling import GNN_LAYERS, POOLERS


def test_names_are_those_of_the_tables():
    assert set(names.POOLERS) == set(POOLERS)
    assert set(names.GNN_LAYERS) == set(GNN_LAYERS)
    assert set(names.RULES) == set(RULES)
    assert set(names.BACKENDS) == set(SELECTABLE)
    jumping_knowledge = typing.get_args(type_hints(PoolerConfig)["jk"])
    assert jumping_knowledge == names.JUMPING_KNOWLEDGE
