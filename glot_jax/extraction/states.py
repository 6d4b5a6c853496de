"""The hidden states of some texts, on the host and in the dtype they are stored in."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from glot_jax.extraction.storage_dtypes import peak_of, quantise, to_host


@dataclasses.dataclass(frozen=True)
class States:
    """Hidden states of some texts, one after the other."""

    layers: dict[int, np.ndarray]
    """Layer -> [sum of lengths, dim] as on disk: float16, float32, uint16 holding bfloat16, or
    int8.
    """
    peak: float
    """Largest magnitude before rounding to the storage dtype; nan or inf if a state is not finite.
    """
    scales: dict[int, np.ndarray]
    """int8: layer -> float16 [sum of lengths]; a state is its int8 values times its token's scale.

    Otherwise empty.
    """
    cosine_errors: np.ndarray
    """int8: float32 [layers x sum of lengths], 1 - cos between a state and what is stored of it.

    Otherwise empty.
    """


def to_states(hidden: dict[int, torch.Tensor], real: torch.Tensor | None, dtype: str) -> States:
    """States of one pass.

    Args:
        hidden: layer -> [batch, longest, dim], on the device.
        real: bool [batch, longest], the tokens that are kept; None for all of them.
        dtype: to store them in.
    """
    picked = {
        layer: states.flatten(0, 1) if real is None else states[real]
        for layer, states in hidden.items()
    }
    peak = peak_of(picked.values())
    if dtype != "int8":
        arrays = {layer: to_host(states, dtype) for layer, states in picked.items()}
        return States(arrays, peak, {}, np.zeros(0, np.float32))
    rounded = {layer: quantise(states) for layer, states in picked.items()}
    return States(
        {layer: values.cpu().numpy() for layer, (values, _, _) in rounded.items()},
        peak,
        {layer: scales.cpu().numpy() for layer, (_, scales, _) in rounded.items()},
        np.concatenate([errors.cpu().numpy() for _, _, errors in rounded.values()]),
    )


def join_states(
    parts: Sequence[States], groups: Sequence[Sequence[int]], lengths: Sequence[int]
) -> States:
    """The states of several passes, in the order of their texts.

    Args:
        parts: a pass each.
        groups: places of a pass's texts among all.
        lengths: stored tokens of every text.
    """
    # Tokens of the passes one after the other -> their places among all.
    starts = np.cumsum([0, *lengths])
    places = np.concatenate(
        [np.arange(starts[text], starts[text + 1]) for group in groups for text in group]
    )

    def ordered(arrays: Sequence[np.ndarray]) -> np.ndarray:
        joint = np.concatenate(arrays)
        result = np.empty_like(joint)
        result[places] = joint
        return result

    return States(
        {layer: ordered([part.layers[layer] for part in parts]) for layer in parts[0].layers},
        # np.max, unlike max, keeps a nan.
        float(np.max([part.peak for part in parts])),
        {layer: ordered([part.scales[layer] for part in parts]) for layer in parts[0].scales},
        np.concatenate([part.cosine_errors for part in parts]),
    )
