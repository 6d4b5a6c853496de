"""The frozen model itself: the part that reads texts, with every weight it needs.

No code but transformers' own is run.
"""

from __future__ import annotations

import inspect
import json
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch
import transformers

from glot_jax.backbone_files.backbone_source import Source
from glot_jax.backbone_files.quiet_loading import quiet_loading
from glot_jax.backbones.device import first_device, is_placed, on_device
from glot_jax.backbones.load_errors import loading_error
from glot_jax.backbones.weights import quantisation_notices, require_adapter, require_weights
from glot_jax.errors import UsageError, require_extra

DeviceMap = str | dict[str, Any]
"""What accelerate takes: "auto", or a device, "cpu" or "disk" for the name of each module."""

_RULE = "--backbone must name a model that transformers can load"


def load_model(
    source: Source,
    dtype: torch.dtype,
    device: torch.device,
    device_map: DeviceMap | None = None,
) -> tuple[torch.nn.Module, torch.device]:
    """Return the model of a backbone, frozen and in its place, and where its inputs go.

    Of an encoder-decoder it is the encoder.

    Args:
        source: where it lies.
        dtype: of its weights.
        device: where it runs.
        device_map: "auto" to spread it over all devices instead, or a device for each of its
            modules, as accelerate takes them.

    Raises:
        UsageError: it cannot be loaded, lacks weights, has some of other shapes than its config
            says, or does not fit the device.
    """
    adapter = source.adapter
    if device_map is not None:
        require_extra("offload", "--device-map")
    try:
        # Transformers prints a report of missing weights, which is checked here instead.
        with quiet_loading():
            model, part, report = _load(source, dtype, device, device_map)
            require_weights(source, model, part, report)
            # An adapter that lies beside its model's weights was loaded with them.
            if adapter is not None and adapter.alone:
                is_safe = (adapter.location / "adapter_model.safetensors").is_file()
                model.load_adapter(str(adapter.location), use_safetensors=is_safe)
    except UsageError:
        raise
    except Exception as error:  # each architecture, and every library below, has errors of its own
        raise loading_error(_RULE, source, Path(source.location), error) from error
    if adapter is not None:
        require_adapter(source, adapter, model)
    # Dropout off, and no graph of gradients: the model is only read.
    frozen = part.eval().requires_grad_(False)
    # Of the whole model: its encoder alone does not say that it was spread.
    if is_placed(model):
        return frozen, first_device(model, device)
    return on_device(frozen, device, source.name), device


def is_taken_out(source: Source) -> bool:
    """Whether the backbone is the encoder of a model that has a decoder too."""
    config = transformers.AutoConfig.from_pretrained(source.location, trust_remote_code=False)
    _, takes_encoder = _loader(config)
    return takes_encoder


def code_notices(source: Source) -> list[str]:
    """Return a line for each file that names code of the model's own, which is never run."""
    model = Path(source.location) / "config.json"
    tokenizer = Path(source.tokenizer_location) / "tokenizer_config.json"
    lines = []
    for path in (model, tokenizer):
        values = {}
        if path.is_file():
            values = json.loads(path.read_bytes())
        named = values.get("auto_map") if isinstance(values, dict) else None
        if not named:
            continue
        classes = named.values() if isinstance(named, dict) else [named]
        code = set()
        for entry in classes:
            # Another repository's code is named with a prefix: organisation/model--module.Class.
            _, _, name = str(entry).rpartition("--")
            code.add(name)
        names = ", ".join(sorted(code))
        lines.append(
            f"{path.name} names code of the model's own ({names}), which is not run;"
            " transformers' own runs instead, and its states may be other ones"
        )
    return [*lines, *quantisation_notices(source)]


def _load(
    source: Source,
    dtype: torch.dtype,
    device: torch.device,
    device_map: DeviceMap | None,
) -> tuple[Any, Any, dict[str, Any]]:
    """The model, the part of it that reads texts, and what the loader reports of its weights."""
    location = source.location
    config = transformers.AutoConfig.from_pretrained(location, trust_remote_code=False)
    # AutoModel's own error would list the hundreds of classes that it knows.
    if type(config) not in transformers.MODEL_MAPPING:
        raise UsageError(
            rule="--backbone must be a model with a text encoder or decoder in transformers",
            got=f"{source.name}, of the type {config.model_type}",
            fix="Choose another --backbone.",
        )
    # Which class, by the config alone: no weights are read yet.
    loader, takes_encoder = _loader(config)
    # Without this its missing weights would be reported as missing.
    options: dict[str, Any] = {"add_pooling_layer": False} if _takes_pooler(config) else {}
    offload = None
    is_quantised = getattr(config, "quantization_config", None) is not None
    if device_map is None and is_quantised and device.type != "cpu":
        # Its package may forbid that it is moved afterwards.
        require_extra("offload", "a quantised backbone on a GPU")
        device_map = {"": device}
    if device_map is not None:
        options["device_map"] = device_map
        # Weights that no memory has room for are read from their own files, but for those that
        # transformers converts.
        offload = tempfile.TemporaryDirectory(prefix="glot-jax-offload-")
        options["offload_folder"] = offload.name
    model, report = loader.from_pretrained(
        location,
        config=config,
        dtype=dtype,
        use_safetensors=not source.bin,
        weights_only=True,
        # Refused afterwards, by name: transformers refers to a report that it has printed.
        ignore_mismatched_sizes=True,
        output_loading_info=True,
        trust_remote_code=False,
        **options,
    )
    if offload is not None:
        weakref.finalize(model, offload.cleanup)
    # Only now: the report and the adapter speak of the whole model's names.
    part = model.get_encoder() if takes_encoder else model
    return model, part, report


def _loader(config: transformers.PretrainedConfig) -> tuple[Any, bool]:
    """The class that loads a text encoder or decoder, and whether to take an encoder out of it.

    T5 and its kin have an encoder of their own in transformers, which checkpoints without a decoder
    fit (sentence-t5).
    """
    whole = transformers.MODEL_MAPPING[type(config)]
    alone = transformers.MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    name = str(getattr(alone, "__name__", ""))
    if alone is not None and alone is not whole and name.endswith("EncoderModel"):
        return transformers.AutoModelForTextEncoding, False
    return transformers.AutoModel, bool(getattr(config, "is_encoder_decoder", False))


def _takes_pooler(config: transformers.PretrainedConfig) -> bool:
    """Whether a model can be built without BERT's pooler.

    It is a trained layer that is not used here, and that many checkpoints lack.
    """
    model_class = transformers.MODEL_MAPPING[type(config)]
    if not inspect.isclass(model_class):
        return False
    return "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
