"""Hidden states on their way from the device to the disk: kept tokens only, in a storage dtype."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from glot_jax.store.arrays import DTYPES
from glot_jax.store.scaled_states import GROUP, Rotation, is_scaled


@dataclasses.dataclass(frozen=True)
class States:
    """Hidden states of some texts, one after the other, without padding."""

    layers: dict[int, np.ndarray]
    """Layer -> [sum of lengths, dim] as on disk: float16, float32, uint16 holding bfloat16, int8,
    or uint8 [sum of lengths, ceil(dim / 2)] holding int4.
    """
    peak: float
    """Largest magnitude before rounding to the storage dtype; nan or inf if a state is not finite.
    """
    scales: dict[int, np.ndarray]
    """int8: layer -> float16 [sum of lengths]; a state is its int8 values times its token's scale.
    int4: float16 [sum of lengths, groups] of rotated states. Otherwise empty.
    """
    cosine_errors: np.ndarray
    """int8 and int4: float32 [layers x sum of lengths], 1 - cos between a state and what is stored
    of it. Otherwise empty.
    """


def to_states(
    hidden: dict[int, torch.Tensor],
    real: torch.Tensor | None,
    dtype: str,
) -> States:
    """Bring the states of one forward pass to the host.

    Args:
        hidden: layer -> [batch, longest, dim], on the device.
        real: bool [batch, longest], the tokens that are kept; None for all of them.
        dtype: storage dtype.
    """
    kept = {}
    for layer, states in hidden.items():
        kept[layer] = _kept_tokens(states, real)
    peak = largest_magnitude(kept.values())
    if not is_scaled(dtype):
        arrays = {}
        for layer, states in kept.items():
            arrays[layer] = to_host(states, dtype)
        no_errors = np.zeros(0, np.float32)
        return States(
            arrays,
            peak,
            scales={},
            cosine_errors=no_errors,
        )
    arrays = {}
    scales = {}
    errors = []
    for layer, states in kept.items():
        # On the device, so that bytes are copied from it and not floats.
        values, layer_scales, layer_errors = ROUNDINGS[dtype](states)
        arrays[layer] = values.cpu().numpy()
        scales[layer] = layer_scales.cpu().numpy()
        errors.append(layer_errors.cpu().numpy())
        # A rotated state that no scale can hold: as large as a state that no scale can hold.
        if not np.isfinite(scales[layer]).all():
            peak = max(peak, 2 * largest_value(dtype))
    return States(
        arrays,
        peak,
        scales,
        np.concatenate(errors),
    )


def _kept_tokens(states: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
    # Without padding every token is a real one.
    if real is None:
        return states.flatten(0, 1)
    return states[real]


def join_states(
    parts: Sequence[States],
    groups: Sequence[Sequence[int]],
    lengths: Sequence[int],
) -> States:
    """Join the states of several passes, in the order of their texts.

    Args:
        parts: states of each pass.
        groups: texts of each pass, by their index among all.
        lengths: stored tokens of every text.
    """
    # Tokens of the passes one after the other -> their positions among the tokens of all texts.
    starts = np.cumsum([0, *lengths])
    spans = []
    for group in groups:
        for text in group:
            end = starts[text + 1]
            spans.append(np.arange(starts[text], end))
    positions = np.concatenate(spans)

    def ordered(arrays: Sequence[np.ndarray]) -> np.ndarray:
        joint = np.concatenate(arrays)
        result = np.empty_like(joint)
        result[positions] = joint
        return result

    layers = {}
    scales = {}
    for layer in parts[0].layers:
        layers[layer] = ordered([part.layers[layer] for part in parts])
    for layer in parts[0].scales:
        scales[layer] = ordered([part.scales[layer] for part in parts])
    # np.max, unlike max, keeps a nan.
    peak = float(np.max([part.peak for part in parts]))
    # Only their mean and maximum are asked for, so the errors keep the order of the passes.
    errors = np.concatenate([part.cosine_errors for part in parts])
    return States(
        layers,
        peak,
        scales,
        errors,
    )


def to_host(states: torch.Tensor, dtype: str) -> np.ndarray:
    """Return a contiguous NumPy array in the storage dtype, cast before it leaves the device."""
    states = states.to(getattr(torch, dtype))
    states = states.cpu().contiguous()
    if dtype == "bfloat16":
        # NumPy has no bfloat16 of its own: the bits travel as 16-bit integers.
        return states.view(torch.int16).numpy().view(np.uint16)
    return states.numpy()


def quantise(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Round states [tokens, dim] to int8 with a scale per token.

    Returns:
        Values int8 [tokens, dim]; scales float16 [tokens]; and 1 - cos between each token and what
        is left of it, float32 [tokens].
    """
    states = states.float()
    largest = states.abs().amax(-1)
    scales = (largest / 127).half()
    # Rounded up, to the next float16 of a positive one: no value then exceeds 127 of its scale.
    short = scales.float() * 127 < largest
    bits = scales.view(torch.int16)
    next_up = (bits + 1).view(torch.float16)
    scales = torch.where(short, next_up, scales)
    wide = scales.float()[:, None]
    # A token of zeros has a scale of zero, and stays a token of zeros.
    values = torch.where(wide > 0, states / wide, 0)
    values = values.round().clamp(-127, 127)
    # Half the squared distance of the two directions: 1 - cos without the cancellation, nor
    # underflow in tiny states.
    normalize = torch.nn.functional.normalize
    magnitudes = largest.clamp_min(1e-38)[:, None]
    exact = normalize(states / magnitudes, dim=-1)
    rounded = normalize(values, dim=-1)
    errors = (exact - rounded).square().sum(-1) / 2
    return values.to(torch.int8), scales, errors


def quantise_rotated(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rotate states [tokens, dim], round them to four bits with a scale for 64 values, and pack.

    Returns:
        Values uint8 [tokens, ceil(dim / 2)]; scales float16 [tokens, ceil(dim / 64)]; and 1 - cos
        between each token and what is left of it, float32 [tokens]: `scaled_states`.
    """
    rotated = _rotate(states.float())
    tokens, dim = rotated.shape
    groups = -(-dim // GROUP)
    # Behind the last value stand zeros, which decide no scale.
    missing = groups * GROUP - dim
    padded = torch.nn.functional.pad(rotated, (0, missing))
    by_group = padded.reshape(tokens, groups, GROUP)
    largest = by_group.abs().amax(-1)
    scales = largest / 7
    scales = scales.half()
    wide = scales.float()[..., None]
    # A group of zeros has a scale of zero, and stays a group of zeros.
    values = torch.where(wide > 0, by_group / wide, 0)
    # The scale may have been rounded down by half a float16's step, a value be 7.003 of them.
    values = values.round().clamp(-7, 7)
    restored = values * wide
    restored = restored.reshape(tokens, -1)
    restored = restored[:, :dim]
    errors = _cosine_errors(rotated, restored)
    return _packed(values.reshape(tokens, -1), dim), scales, errors


def _packed(values: torch.Tensor, dim: int) -> torch.Tensor:
    """`scaled_states.pack` on the device."""
    # An odd width has a byte whose second half is a zero's.
    even = dim + dim % 2
    halves = values[:, :even] + 8
    halves = halves.to(torch.uint8)
    lower = halves[:, 0::2]
    upper = halves[:, 1::2]
    return lower | (upper << 4)


def _cosine_errors(exact: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """1 - cos between states and what is left of them, float32 [tokens].

    Half the squared distance of the two directions: without the cancellation of 1 - cos, and
    without underflow in tiny states.
    """
    magnitudes = exact.abs().amax(-1)
    # A token of zeros has no direction, before and after.
    magnitudes = magnitudes.clamp_min(1e-38)
    magnitudes = magnitudes[:, None]
    before = torch.nn.functional.normalize(exact / magnitudes, dim=-1)
    after = torch.nn.functional.normalize(rounded / magnitudes, dim=-1)
    apart = before - after
    return apart.square().sum(-1) / 2


def _rotate(states: torch.Tensor) -> torch.Tensor:
    """`Rotation.rotate` on the device."""
    rotation = Rotation.of_width(states.shape[1])
    device = states.device
    matrix = torch.from_numpy(rotation.matrix).to(device)
    signs = torch.from_numpy(rotation.signs).to(device)
    flipped = states * signs
    by_block = flipped.reshape(len(states), -1, rotation.block)
    mixed = by_block @ matrix
    return mixed.reshape(states.shape)


ROUNDINGS = {"int8": quantise, "int4": quantise_rotated}
"""Storage dtype with scales -> what rounds to it."""


def largest_magnitude(layers: Iterable[torch.Tensor]) -> float:
    """Return the largest magnitude in some layers' states.

    nan and inf come through, so the same pass over the states also finds those that are not finite.
    """
    peaks = []
    for states in layers:
        extremes = torch.stack(torch.aminmax(states))
        peaks.append(extremes.abs().float().amax())
    # One number leaves the device, however many layers there are: each transfer waits for the pass.
    return float(torch.stack(peaks).amax())


def largest_value(dtype: str) -> float:
    """Return the largest magnitude that a storage dtype can hold."""
    if dtype == "int8":
        return 127 * float(np.finfo(np.float16).max)  # 127 of the largest scale
    if dtype == "int4":
        return 7 * float(np.finfo(np.float16).max)
    if dtype == "bfloat16":
        # Its largest number by its bits: NumPy's finfo does not know bfloat16.
        bits = np.array(0x7F7F, np.uint16)
        return float(bits.view(DTYPES["bfloat16"]))
    return float(np.finfo(DTYPES[dtype]).max)
