"""States on the device to arrays in the storage dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def to_host(states: torch.Tensor, dtype: str) -> np.ndarray:
    """Contiguous NumPy array in the storage dtype, cast before it leaves the device."""
    states = states.to(getattr(torch, dtype)).cpu().contiguous()
    return (
        states.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else states.numpy()
    )


def quantise(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """[tokens, dim] -> int8 [tokens, dim], scale float16 [tokens], and 1 - cos of each token with
    what is left of it, float32 [tokens].
    """
    states = states.float()
    largest = states.abs().amax(-1)
    scales = (largest / 127).half()
    # Rounded up, to the next float16 of a positive one: no value then exceeds 127 of its scale.
    short = scales.float() * 127 < largest
    scales = torch.where(short, (scales.view(torch.int16) + 1).view(torch.float16), scales)
    wide = scales.float()[:, None]
    values = torch.where(wide > 0, states / wide, 0).round().clamp(-127, 127)
    # Half the squared distance of the two directions: 1 - cos without the cancellation, nor
    # underflow in tiny states.
    units = [
        torch.nn.functional.normalize(part, dim=-1)
        for part in (states / largest.clamp_min(1e-38)[:, None], values)
    ]
    return values.to(torch.int8), scales, (units[0] - units[1]).square().sum(-1) / 2


def peak_of(layers: Any) -> float:
    """Largest magnitude; nan and inf come through, so one pass also finds states that are not
    finite.
    """
    return float(
        torch.stack(
            [torch.stack(torch.aminmax(states)).abs().float().amax() for states in layers]
        ).amax()
    )
