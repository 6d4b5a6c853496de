"""What of a model goes to PyTorch, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import glot, model_of

from glot_jax.config.train import GraphConfig, PoolerConfig
from glot_jax.errors import UsageError
from glot_jax.export.torch_head import settings_of, torch_head, weights_of
from glot_jax.pooling import POOLERS


def test_a_pooler_without_an_export_is_refused_by_name():
    unexported = [name for name, pooler in POOLERS.items() if not pooler.exportable]
    assert set(unexported) == {"pma", "latent-attention"}
    config = PoolerConfig(pooler="pma")
    with pytest.raises(UsageError, match="must be one of .*; got --pooler pma"):
        settings_of(model_of(config, GraphConfig()), config)


def test_every_weight_finds_its_array():
    config = glot(gnn="gin", virtual_node=True, residual=True, standardise=True)
    model = model_of(config, GraphConfig(learn_tau=True), layers=(0, 2))
    weights = weights_of(model)
    head = torch_head(settings_of(model, config), weights)
    arrays = head.state_dict()
    assert set(arrays) == set(weights)
    for name, array in arrays.items():
        np.testing.assert_array_equal(array.numpy(), weights[name])
    # The classifier stays behind.
    assert not [name for name in weights if name.startswith("head.")]
