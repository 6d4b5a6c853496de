"""Where a backbone runs."""

from __future__ import annotations

import torch

from glot_jax.errors import UsageError


def find_device(name: str) -> torch.device:
    """Return the device of `--device`; auto is a GPU if there is one.

    Raises:
        UsageError: this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # A name alone proves nothing: cuda:7 is made without asking the driver.
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            rule="--device must name a torch device of this machine",
            got=f"{name} ({str(error).splitlines()[0]})",
            fix="Use auto, cpu or cuda.",
        ) from error
    return device


def on_device(
    model: torch.nn.Module,
    device: torch.device,
    name: str,
) -> torch.nn.Module:
    """Return the model in the memory of a device.

    Args:
        model: to be moved.
        device: where to.
        name: of the backbone, for messages.

    Raises:
        UsageError: it does not fit.
    """
    try:
        return model.to(device)
    except torch.OutOfMemoryError as error:
        # Without activations: what a forward pass needs beside this depends on its texts.
        size = sum(parameter.nbytes for parameter in model.parameters())
        raise UsageError(
            rule=f"the memory of {device} must hold the backbone",
            got=f"{name}, {size / 1e9:.1f} GB of weights",
            fix="Use --compute-dtype bfloat16, another --device, or a smaller --backbone.",
        ) from error
