"""Are a model's weights the ones that its config describes, all of them, and read as they were
written?
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from glot_jax.errors import UsageError, require
from glot_jax.extraction.backbone_source import Adapter, Source

_PACKED = {"I8", "U8", "F8_E4M3", "F8_E5M2", "F4", "F8_E8M0"}
"""safetensors' names of dtypes that weights have only where they are quantised."""
_SCALES = re.compile(
    r".*\b(\w*_scale(_inv)?|scales|qweight|qzeros|absmax|quant_map|quant_state\S*|SCB)"
)


def require_weights(source: Source, model: Any, part: Any, report: dict[str, Any]) -> None:
    """UsageError unless the file holds the weights that config.json asks for, and no others of the
    same blocks.

    Args:
        source: of the model.
        model: as it was loaded.
        part: the part that reads texts; of other parts weights may be missing.
        report: of `from_pretrained(output_loading_info=True)`.
    """
    _require_all(source, model, part, report["missing_keys"])
    _require_shapes(source, report["mismatched_keys"])
    _require_no_more_blocks(source, model, report["unexpected_keys"])
    _require_unpacked(source, model, report["unexpected_keys"])


def require_adapter(source: Source, adapter: Adapter, model: Any) -> None:
    """UsageError unless every array of an adapter's file became part of the model, and every part
    came from there.
    """
    from safetensors import safe_open

    path = adapter.location / "adapter_model.safetensors"
    if not path.is_file():
        return
    with safe_open(path, framework="pt") as file:
        stored = {name.removeprefix("base_model.model.") for name in file.keys()}  # noqa: SIM118
    applied = {
        name.replace(".default.", ".")
        for name, _ in model.named_parameters()
        if ".default." in name
    }
    # The file's names may have the prefix of a model with a head.
    missing = [name for name in sorted(applied) if not any(_ends_with(key, name) for key in stored)]
    require(
        bool(applied) and not missing,
        "an adapter's file must hold every weight of the adapter",
        f"{path} without {', '.join(missing[:3]) or 'any that fits ' + source.name}",
        "Save the adapter again with save_pretrained, or choose the model that it was trained on.",
    )


def quantisation_notices(source: Source) -> list[str]:
    """A line where config.json names a quantisation that the weights do not have."""
    config = Path(source.location) / "config.json"
    values = json.loads(config.read_bytes()) if config.is_file() else {}
    asked = values.get("quantization_config") if isinstance(values, dict) else None
    if not asked or any(dtype in _PACKED for dtype in _stored_dtypes(source)):
        return []
    method = asked.get("quant_method", "unknown") if isinstance(asked, dict) else "unknown"
    return [
        f"config.json names a quantisation ({method}), and the weights are not quantised; they are"
        " used as they are"
    ]


def _require_all(source: Source, model: Any, part: Any, names: Iterable[str]) -> None:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    used = {id(parameter) for parameter in part.parameters()}
    missing = []
    for name in sorted(names):
        unused = name in parameters and id(parameters[name]) not in used
        # States do not pass through a pooler either.
        if not unused and not name.startswith("pooler."):
            missing.append(name)
    require(
        not missing,
        "the checkpoint must hold every weight of the model",
        f"{source.name} without"
        f" {', '.join(missing[:3])}{' and others' if len(missing) > 3 else ''}",
        "Use a complete checkpoint.",
    )


def _require_shapes(source: Source, mismatched: Iterable[Any]) -> None:
    others = sorted(mismatched)
    if not others:
        return
    name, stored, wanted = others[0]
    raise UsageError(
        "the checkpoint's weights must have the shapes that its config.json asks for",
        f"{source.name}: {name} is {tuple(stored)} in the file and {tuple(wanted)} by config.json,"
        f" {len(others)} such in all",
        "Use the config.json that the weights were saved with.",
    )


def _require_no_more_blocks(source: Source, model: Any, unexpected: Iterable[str]) -> None:
    """A config.json with fewer blocks than the file would make another layer the last one."""
    lists = {
        path: len(blocks)
        for path, blocks in model.named_modules()
        if isinstance(blocks, torch.nn.ModuleList)
    }
    for key in sorted(unexpected):
        for path, count in lists.items():
            match = re.search(rf"(?:^|\.){re.escape(path)}\.(\d+)\.", key)
            if match and int(match[1]) >= count > 0:
                raise UsageError(
                    "config.json must ask for every block that the checkpoint holds",
                    f"{source.name}: {key} in the file, {count} blocks in {path} by config.json",
                    "Use the config.json that the weights were saved with.",
                )


def _require_unpacked(source: Source, model: Any, unexpected: Iterable[str]) -> None:
    """Quantised weights that nobody unpacks would be read as if their integers were the weights."""
    if getattr(model, "is_quantized", False) or getattr(model, "hf_quantizer", None) is not None:
        return
    scales = [key for key in sorted(unexpected) if _SCALES.fullmatch(key)]
    packed = sorted(set(_stored_dtypes(source)) & _PACKED)
    if not scales and not packed:
        return
    seen = f"arrays of {', '.join(packed)}" if packed else f"scales such as {scales[0]}"
    raise UsageError(
        "quantised weights must come with a quantization_config that transformers applies",
        f"{source.name}, whose file holds {seen}",
        "Use the unquantised model, or the config.json and the package of its quantisation.",
    )


def _stored_dtypes(source: Source) -> Iterator[str]:
    """safetensors' name of the dtype of every array; only the files' headers are read."""
    from safetensors import safe_open

    for path in sorted(Path(source.location).glob("model*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                yield file.get_slice(name).get_dtype()


def _ends_with(key: str, name: str) -> bool:
    return key == name or key.endswith(f".{name}") or name.endswith(f".{key}")
