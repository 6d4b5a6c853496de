"""Adapters: weights that are put on top of a model's own (LoRA and its kin)."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

from glot_jax.backbone_files.model_files import read_settings
from glot_jax.errors import UsageError
from glot_jax.files import file_sha256
from glot_jax.store.identity import canonical_sha256


@dataclasses.dataclass(frozen=True)
class Adapter:
    """An adapter's files, which the package peft reads."""

    location: Path
    """Folder of adapter_config.json and the adapter's weights."""
    alone: bool
    """Whether the model's own weights lie elsewhere."""
    record: dict[str, Any]
    """What the recipe says of it: {type, sha256, base}."""

    @property
    def settings(self) -> Path:
        """Its adapter_config.json."""
        return self.location / "adapter_config.json"

    def base(self) -> tuple[str, str | None]:
        """Return the name or path of the model it is put on, and a revision of it.

        Raises:
            UsageError: its settings do not say, or name another adapter.
        """
        base = self.record["base"]
        if not isinstance(base, str) or not base:
            raise UsageError(
                rule="an adapter must name its base model",
                got=f"{self.settings} without base_model_name_or_path",
                fix="Merge the adapter into its model and pass that folder.",
            )
        # Asked before the base is resolved: two adapters that name each other would never end.
        if (Path(base) / "adapter_config.json").is_file():
            raise self.stacked(base)
        revision = read_settings(self.settings).get("revision")
        # Null where the base was a folder, and absent in files of older versions.
        if not isinstance(revision, str) or Path(base).is_dir():
            return base, None
        return base, revision

    def stacked(self, base: str) -> UsageError:
        """Return the error for an adapter whose base has an adapter itself."""
        return UsageError(
            rule="an adapter must be put on a model, not on another adapter",
            got=f"{self.settings} with {base}, which has an adapter",
            fix="Merge that one into its model first (merge_and_unload).",
        )


def find_adapter(folder: Path, *, allow_bin: bool) -> Adapter | None:
    """Return the adapter in a folder, if there is one.

    Args:
        folder: of a model, or of an adapter alone.
        allow_bin: whether adapter_model.bin may be read.

    Raises:
        UsageError: peft is not installed, or the adapter's weights are missing.
    """
    settings = folder / "adapter_config.json"
    if not settings.is_file():
        return None
    # transformers would load the model without its adapter, and say so in a warning alone.
    if importlib.util.find_spec("peft") is None:
        raise UsageError(
            rule="an adapter needs the package peft",
            got=f"{folder}, which holds adapter_config.json",
            fix="Run: pip install peft. Or merge the adapter into the weights, or take its files"
            " out to run the model without it.",
        )
    # As for a model: .bin only where it is allowed and nothing safer is there.
    weights = folder / "adapter_model.safetensors"
    if allow_bin and not weights.is_file():
        weights = folder / "adapter_model.bin"
    if not weights.is_file():
        raise UsageError(
            rule="an adapter's weights must lie beside its adapter_config.json",
            got=f"{folder}, which has no adapter_model.safetensors",
            fix="Save the adapter again with save_pretrained.",
        )
    values = read_settings(settings)
    # Both files: the same weights give other states with another scale or other target modules.
    record = {
        "type": values.get("peft_type"),
        "sha256": canonical_sha256(
            {settings.name: file_sha256(settings), weights.name: file_sha256(weights)}
        ),
        "base": values.get("base_model_name_or_path"),
    }
    # A whole model, saved with its adapter, has a config of its own beside it.
    has_config = (folder / "config.json").is_file()
    return Adapter(folder, alone=not has_config, record=record)
