"""Where a backbone runs."""

from __future__ import annotations

import torch

from glot_jax.backbones.model_facts import Model
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


def is_placed(model: Model) -> bool:
    """Whether a model was put where it runs while it was loaded, and must not be moved.

    So are models that are spread over devices, and quantised ones, whose packages forbid it.
    """
    is_quantised = getattr(model, "hf_quantizer", None) is not None
    return is_quantised or getattr(model, "hf_device_map", None) is not None


def first_device(model: Model, device: torch.device) -> torch.device:
    """Return where the inputs of a model go, and its states come back to.

    Args:
        model: in its place.
        device: of a model that is not spread.
    """
    device_map = getattr(model, "hf_device_map", None)
    if device_map is None:
        return device
    # The host and the disk hold what the others have no room for; it is brought to a GPU to run.
    offloaded = ("cpu", "disk")
    gpus = [name for name in device_map.values() if name not in offloaded]
    if not gpus:
        return torch.device("cpu")
    # accelerate names a GPU by its number alone.
    return torch.device("cuda", gpus[0]) if isinstance(gpus[0], int) else torch.device(gpus[0])


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
            fix="Use --compute-dtype bfloat16, --device-map auto, another --device, or a smaller"
            " --backbone.",
        ) from error
