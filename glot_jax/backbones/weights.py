"""Checks of a model's weights: are they all those that its config describes, read as written?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from glot_jax.backbone_files.adapters import Adapter
from glot_jax.backbone_files.backbone_source import Source
from glot_jax.backbones.model_facts import Model
from glot_jax.errors import UsageError

_PACKED = {"I8", "U8", "F8_E4M3", "F8_E5M2", "F4", "F8_E8M0"}
"""safetensors' names of dtypes that weights have only where they are quantised."""
_SCALES = re.compile(
    r".*\b(\w*_scale(_inv)?|scales|qweight|qzeros|absmax|quant_map|quant_state\S*|SCB)"
)
"""Names of arrays that only quantised weights come with."""


def require_weights(
    source: Source,
    model: Model,
    part: Model,
    report: dict[str, Any],
) -> None:
    """Raise UsageError unless the file holds the weights that config.json asks for.

    It may hold others, but none of further blocks, and none that are still packed.

    Args:
        source: of the model.
        model: as it was loaded.
        part: the part that reads texts; weights of other parts may be missing.
        report: of `from_pretrained(output_loading_info=True)`.
    """
    _require_all(source, model, part, report["missing_keys"])
    _require_shapes(source, report["mismatched_keys"])
    _require_no_more_blocks(source, model, report["unexpected_keys"])
    _require_unpacked(source, model, report["unexpected_keys"])


def require_adapter(source: Source, adapter: Adapter, model: Model) -> None:
    """Raise UsageError unless an adapter's file holds every weight of the adapter.

    Args:
        source: of the model, for messages.
        adapter: whose file is compared.
        model: with the adapter in it. peft leaves weights that the file lacks at random values.
    """
    from safetensors import safe_open

    path = adapter.location / "adapter_model.safetensors"
    if not path.is_file():
        return
    with safe_open(path, framework="pt") as file:
        # As the file has them; peft wraps the model in two levels of its own names.
        stored = {name.removeprefix("base_model.model.") for name in file.keys()}  # noqa: SIM118
    applied = set()
    for name, _ in model.named_parameters():
        # peft calls the adapter "default", and puts this into the names of its weights.
        if ".default." in name:
            applied.add(name.replace(".default.", "."))
    missing = []
    for name in sorted(applied):
        # The file's names may have the prefix of a model with a head.
        if not any(_ends_with(key, name) for key in stored):
            missing.append(name)
    if missing or not applied:
        lacks = ", ".join(missing[:3]) or f"any that fits {source.name}"
        raise UsageError(
            rule="an adapter's file must hold every weight of the adapter",
            got=f"{path} without {lacks}",
            fix="Save the adapter again with save_pretrained, or choose the model that it was"
            " trained on.",
        )


def quantisation_notices(source: Source) -> list[str]:
    """Return a line where config.json names a quantisation that the weights do not have."""
    config = Path(source.location) / "config.json"
    values = {}
    if config.is_file():
        values = json.loads(config.read_bytes())
    quantisation = values.get("quantization_config") if isinstance(values, dict) else None
    if not quantisation or any(dtype in _PACKED for dtype in _stored_dtypes(source)):
        return []
    method = "unknown"
    if isinstance(quantisation, dict):
        method = quantisation.get("quant_method", "unknown")
    return [
        f"config.json names a quantisation ({method}), and the weights are not quantised; they are"
        " used as they are"
    ]


def _require_all(
    source: Source,
    model: Model,
    part: Model,
    names: Iterable[str],
) -> None:
    # With duplicates: tied weights stand under each of their names.
    parameters = dict(model.named_parameters(remove_duplicate=False))
    # By identity: of an encoder-decoder the part's names are other ones than the model's.
    used = {id(parameter) for parameter in part.parameters()}
    missing = []
    for name in sorted(names):
        is_unused = name in parameters and id(parameters[name]) not in used
        # States do not pass through a pooler either.
        if not is_unused and not name.startswith("pooler."):
            missing.append(name)
    if missing:
        more = " and others" if len(missing) > 3 else ""
        raise UsageError(
            rule="the checkpoint must hold every weight of the model",
            got=f"{source.name} without {', '.join(missing[:3])}{more}",
            fix="Use a complete checkpoint.",
        )


def _require_shapes(source: Source, mismatched: Iterable[Any]) -> None:
    # Sorted, so that the same weight is named in every run.
    others = sorted(mismatched)
    if not others:
        return
    name, stored, expected = others[0]
    raise UsageError(
        rule="the checkpoint's weights must have the shapes that its config.json asks for",
        got=f"{source.name}: {name} is {tuple(stored)} in the file and {tuple(expected)} by"
        f" config.json, {len(others)} such in all",
        fix="Use the config.json that the weights were saved with.",
    )


def _require_no_more_blocks(
    source: Source,
    model: Model,
    unexpected: Iterable[str],
) -> None:
    """A config.json with fewer blocks than the file would make another layer the last one."""
    # The lists that hold blocks, by the path that their weights' names begin with.
    counts = {}
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList):
            counts[path] = len(module)
    for key in sorted(unexpected):
        for path, count in counts.items():
            match = re.search(rf"(?:^|\.){re.escape(path)}\.(\d+)\.", key)
            if match and int(match[1]) >= count > 0:
                raise UsageError(
                    rule="config.json must ask for every block that the checkpoint holds",
                    got=f"{source.name}: {key} in the file, {count} blocks in {path} by"
                    " config.json",
                    fix="Use the config.json that the weights were saved with.",
                )


def _require_unpacked(
    source: Source,
    model: Model,
    unexpected: Iterable[str],
) -> None:
    """Quantised weights that nobody unpacks would be read as if their integers were the weights."""
    # transformers unpacks these itself.
    is_quantized = getattr(model, "is_quantized", False)
    if is_quantized or getattr(model, "hf_quantizer", None) is not None:
        return
    # Either is a sign: packed integers, or the scales that belong to them.
    scales = [key for key in sorted(unexpected) if _SCALES.fullmatch(key)]
    packed = sorted(set(_stored_dtypes(source)) & _PACKED)
    if packed:
        held = f"arrays of {', '.join(packed)}"
    elif scales:
        held = f"scales such as {scales[0]}"
    else:
        return
    raise UsageError(
        rule="quantised weights must come with a quantization_config that transformers applies",
        got=f"{source.name}, whose file holds {held}",
        fix="Use the unquantised model, or the config.json and the package of its quantisation.",
    )


def _stored_dtypes(source: Source) -> Iterator[str]:
    """Names, by safetensors, of the dtype of every array; only the files' headers are read."""
    from safetensors import safe_open

    for path in sorted(Path(source.location).glob("model*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                yield file.get_slice(name).get_dtype()


def _ends_with(key: str, name: str) -> bool:
    return key == name or key.endswith(f".{name}") or name.endswith(f".{key}")
