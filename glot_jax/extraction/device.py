"""Where a backbone runs."""

from __future__ import annotations

import torch

from glot_jax.errors import UsageError


def find_device(name: str) -> torch.device:
    """The device of `--device`; auto: a GPU if there is one. UsageError if it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        got = f"{name} ({str(error).splitlines()[0]})"
        raise UsageError(
            "--device names a torch device of this machine", got, "Use auto, cpu or cuda."
        ) from error
    return device


def on_device(model: torch.nn.Module, device: torch.device, name: str) -> torch.nn.Module:
    """The model in the memory of a device. UsageError where it does not fit."""
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        size = sum(parameter.nbytes for parameter in model.parameters())
        raise UsageError(
            f"the memory of {device} must hold the backbone",
            f"{name}, {size / 1e9:.1f} GB of weights",
            "Use --compute-dtype bfloat16, another --device, or a smaller --backbone.",
        ) from error
