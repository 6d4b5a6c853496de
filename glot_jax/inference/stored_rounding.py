"""States as a store would give them back, so that a new text is answered as a stored one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import ml_dtypes
import numpy as np

from glot_jax.store.arrays import DTYPES
from glot_jax.store.scaled_states import decode, float16_bound, is_scaled

if TYPE_CHECKING:
    from glot_jax.backbones.storage_dtypes import States

_FLOAT16_LARGEST = float(np.finfo(np.float16).max)


class RunsTexts(Protocol):
    """What states come from: a `Backbone`."""

    @property
    def dim(self) -> int:
        """Width of a state."""
        ...

    def states(
        self,
        token_ids: Sequence[Sequence[int]],
        dtype: str = "float32",
    ) -> States:
        """States of some texts, in one pass, in a storage dtype."""
        ...


def read_dtypes(storage_dtype: str) -> tuple[str, ...]:
    """Every dtype in which `stored_states` may give states of a storage dtype."""
    if storage_dtype == "auto" or is_scaled(storage_dtype):
        # float32 for states that float16 cannot hold.
        return ("float16", "float32")
    return (storage_dtype,)


def stored_states(
    backbone: RunsTexts, token_ids: Sequence[Sequence[int]], storage_dtype: str
) -> dict[int, np.ndarray]:
    """The states of some texts, rounded as storing and reading them would.

    A store decides by the shard whether `auto` is float16 or bfloat16; here a text does.

    Args:
        backbone: runs them, in one pass.
        token_ids: of each text, at least one token.
        storage_dtype: of the store that a run was trained on, a value of --storage-dtype.

    Returns:
        Layer -> [tokens, dim], the texts one after the other, in the dtype that a reader returns:
        float16, bfloat16 or float32.

    Raises:
        UsageError: as for `Backbone.states`.
    """
    asked = "float16" if storage_dtype == "auto" else storage_dtype
    states = backbone.states(token_ids, asked)
    if is_scaled(asked):
        return _restored(asked, states, backbone.dim)
    if storage_dtype == "auto" and not states.peak <= _FLOAT16_LARGEST:
        lengths = [len(ids) for ids in token_ids]
        return _mixed(backbone.states(token_ids, "float32").layers, lengths)
    # bfloat16 travels as integers, which are its bits.
    return {layer: values.view(DTYPES[asked]) for layer, values in states.layers.items()}


def _restored(
    dtype: str,
    states: States,
    dim: int,
) -> dict[int, np.ndarray]:
    # As a reader of the store would: decoded, and rounded once more.
    layers = {}
    for layer, values in states.layers.items():
        restored = decode(
            dtype,
            values,
            states.scales[layer],
            dim,
        )
        fits = states.peak < float16_bound(dtype)
        layers[layer] = restored.astype(np.float16) if fits else restored
    return layers


def _mixed(layers: Mapping[int, np.ndarray], lengths: Sequence[int]) -> dict[int, np.ndarray]:
    """Texts that float16 can hold rounded to it, the others to bfloat16.

    All as float32, which holds either without another rounding, as where shards differ.
    """
    peaks = np.max([np.abs(states).max(axis=1) for states in layers.values()], axis=0)
    text_of = np.repeat(np.arange(len(lengths)), lengths)
    highest = np.zeros(len(lengths))
    np.maximum.at(highest, text_of, peaks)
    is_loud = (highest > _FLOAT16_LARGEST)[text_of]
    result = {}
    for layer, states in layers.items():
        with np.errstate(over="ignore"):
            narrow = states.astype(np.float16).astype(np.float32)
        wide = states.astype(ml_dtypes.bfloat16).astype(np.float32)
        result[layer] = np.where(is_loud[:, None], wide, narrow)
    return result
