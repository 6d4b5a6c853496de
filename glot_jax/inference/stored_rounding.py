"""States as a store would give them back, so that a new text is answered as a stored one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ml_dtypes
import numpy as np

_FLOAT16_LARGEST = float(np.finfo(np.float16).max)
_INT8_AS_FLOAT16 = 65_000.0
"""int8 states below it come back as float16 (`store.split_reader`)."""


def rounded(
    layers: Mapping[int, np.ndarray],
    lengths: Sequence[int] | np.ndarray,
    storage_dtype: str,
) -> dict[int, np.ndarray]:
    """Round states as storing and reading them would.

    A store decides by the shard whether `auto` is float16 or bfloat16; here a text does.

    Args:
        layers: layer -> float32 [tokens, dim], the texts one after the other.
        lengths: tokens of each text.
        storage_dtype: of the store that the run was trained on, a value of --storage-dtype.

    Returns:
        The same layers in the dtype that a reader returns: float16, bfloat16 or float32.
    """
    if storage_dtype == "float32":
        return dict(layers)
    if storage_dtype == "int8":
        return _through_int8(layers)
    if storage_dtype == "bfloat16":
        return {layer: states.astype(ml_dtypes.bfloat16) for layer, states in layers.items()}
    is_loud = _exceeding(layers, lengths)
    if not is_loud.any():
        return {layer: states.astype(np.float16) for layer, states in layers.items()}
    # Of both dtypes: float32 holds either without another rounding, as where shards differ.
    result = {}
    for layer, states in layers.items():
        with np.errstate(over="ignore"):
            narrow = states.astype(np.float16).astype(np.float32)
        wide = states.astype(ml_dtypes.bfloat16).astype(np.float32)
        result[layer] = np.where(is_loud[:, None], wide, narrow)
    return result


def _exceeding(layers: Mapping[int, np.ndarray], lengths: Sequence[int] | np.ndarray) -> np.ndarray:
    """The tokens of texts with a state that float16 cannot hold in any layer, bool [tokens]."""
    peaks = np.max([np.abs(states).max(axis=1) for states in layers.values()], axis=0)
    text_of = np.repeat(np.arange(len(lengths)), lengths)
    highest = np.zeros(len(lengths))
    np.maximum.at(highest, text_of, peaks)
    return (highest > _FLOAT16_LARGEST)[text_of]


def _through_int8(layers: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
    import torch

    from glot_jax.backbones.storage_dtypes import quantise

    result = {}
    for layer, states in layers.items():
        values, scales, _ = quantise(torch.from_numpy(np.array(states, np.float32)))
        scale = scales.numpy().astype(np.float32)
        restored = values.numpy() * scale[:, None]
        fits = float(np.abs(states).max(initial=0)) < _INT8_AS_FLOAT16
        result[layer] = restored.astype(np.float16) if fits else restored
    return result
