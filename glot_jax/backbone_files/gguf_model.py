"""A GGUF file as the folder of a plain model: config, float32 weights, tokenizer.

transformers reads the file, and dequantises it. What it then has cannot be saved as it is: the
weights go into a model that knows of no quantisation.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
import transformers

from glot_jax.backbone_files.gguf_header import Header
from glot_jax.backbone_files.quiet_loading import quiet_loading
from glot_jax.errors import UsageError
from glot_jax.file_formats.quoting import because

Tokenizer = Any
PlainConfig = Any
Model = Any
"""transformers' own: each architecture has a class of its own for them."""


def write_plain_model(file: Path, header: Header, folder: Path) -> None:
    """Write what a GGUF file holds into an empty folder, as `save_pretrained` would.

    It takes the memory of the float32 weights, and as much disk. Templates are left out.

    Args:
        file: the GGUF file.
        header: what `read_header` made of it.
        folder: receives config.json, model.safetensors and the tokenizer's files.

    Raises:
        UsageError: transformers reads no such architecture or quantisation, weights are missing, or
            the tokenizer is another one than the file's.
    """
    _require_known(file, header)
    try:
        # Its bar goes straight to stderr.
        with quiet_loading(), contextlib.redirect_stderr(io.StringIO()):
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                file.parent, gguf_file=file.name, trust_remote_code=False
            )
            _require_tokens(file, header, tokenizer)
            # A stranger's templates are programs, and nothing here has a use for them.
            tokenizer.chat_template = None
            tokenizer.save_pretrained(folder)
            model = _plain_model(file, header)
            model.save_pretrained(folder)
    except UsageError:
        raise
    except Exception as error:  # transformers, gguf, tokenizers and torch have errors of their own
        # The disk's own, which whoever writes the folder explains; transformers' have no number.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise UsageError(
            rule="a GGUF backbone must be a model that transformers can read",
            got=f"{file} ({header.architecture}): {because(error)}",
            fix="Download the file again, or name the model by its folder or Hub name.",
        ) from error


def _require_known(file: Path, header: Header) -> None:
    """Refuse what transformers or gguf could not read, by name and before it is tried."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    known = set(GGUF_SUPPORTED_ARCHITECTURES)
    # Two spellings of one name: llama.cpp's has no underscores.
    spellings = known | {name.replace("_", "") for name in known}
    spellings |= {name.replace("_", "-") for name in known}
    if header.architecture not in spellings:
        raise UsageError(
            rule="the architecture of a GGUF backbone must be one that transformers"
            f" {transformers.__version__} reads: {', '.join(sorted(known))}",
            got=f"{file}, {header.architecture!r}",
            fix="Upgrade transformers, or name the model by its folder or Hub name.",
        )
    for quantisation in sorted({tensor.quantisation for tensor in header.tensors}):
        if not _is_dequantised(quantisation):
            raise UsageError(
                rule="the numbers of a GGUF backbone must be in a format that the package gguf can"
                " dequantise",
                got=f"{file} with tensors in {quantisation}",
                fix="Upgrade gguf, or convert the model to another format, for instance Q8_0.",
            )


def _is_dequantised(quantisation: str) -> bool:
    import numpy as np
    from gguf import GGMLQuantizationType, dequantize
    from gguf.constants import GGML_QUANT_SIZES

    kind = GGMLQuantizationType[quantisation]
    _, size = GGML_QUANT_SIZES[kind]
    numbers = {"F32": np.float32, "F16": np.float16, "F64": np.float64}
    block = np.zeros(size, np.uint8)
    if quantisation in numbers:
        block = np.zeros(1, numbers[quantisation])
    try:
        # One block of zeros: whether there is a way at all.
        dequantize(block, kind)
    except NotImplementedError:
        return False
    return True


def _require_tokens(file: Path, header: Header, tokenizer: Tokenizer) -> None:
    """Require the tokens of the file at their ids: the rows of its embeddings stand in that order.

    Raises:
        UsageError: another token has one of the ids, or the file has no tokens.
    """
    tokens = header.tokens
    fix = "Name the model by its folder or Hub name, where its own tokenizer lies."
    if not tokens:
        raise UsageError(
            rule="a GGUF backbone must hold its tokenizer",
            got=f"{file} without tokenizer.ggml.tokens",
            fix=fix,
        )
    known = tokenizer.convert_ids_to_tokens(list(range(len(tokens))))
    for index, (token, actual) in enumerate(zip(tokens, known, strict=True)):
        # A token that is not UTF-8 cannot be compared.
        if token != actual and "�" not in token:
            raise UsageError(
                rule="the tokenizer that transformers makes of a GGUF file must have its tokens",
                got=f"{file}: id {index} is {token!r} in the file and {actual!r} in the tokenizer",
                fix=fix,
            )


def _plain_model(file: Path, header: Header) -> Model:
    config = transformers.AutoConfig.from_pretrained(
        file.parent, gguf_file=file.name, trust_remote_code=False
    )
    if type(config) not in transformers.MODEL_MAPPING:
        raise UsageError(
            rule="--backbone must be a model with a text encoder or decoder in transformers",
            got=f"{file}, of the type {config.model_type}",
            fix="Choose another --backbone.",
        )
    _require_size(file, header, config)
    loader: Any = transformers.AutoModel
    read, report = loader.from_pretrained(
        file.parent,
        gguf_file=file.name,
        dtype=torch.float32,
        output_loading_info=True,
        trust_remote_code=False,
    )
    missing = sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"]))
    if missing:
        raise UsageError(
            rule="a GGUF backbone must hold every weight of its model",
            got=f"{file} without {len(missing)} of them ({missing[0]} ...)",
            fix="Download the file again, or choose another --backbone.",
        )
    weights = read.state_dict()
    broken = [name for name, array in weights.items() if not torch.isfinite(array).all()]
    if broken:
        raise UsageError(
            rule="the weights of a GGUF backbone must be finite",
            got=f"{file}, whose {broken[0]} is not",
            fix="Download the file again.",
        )
    # Its own class again: the config, read once more, says nothing of GGUF.
    with torch.device("meta"):
        plain = type(read)(_unquantised(config))
    # The arrays themselves, without a second copy.
    plain.load_state_dict(weights, assign=True)
    return plain


def _unquantised(config: PlainConfig) -> PlainConfig:
    """The config of a model that knows of no GGUF file."""
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def _require_size(file: Path, header: Header, config: PlainConfig) -> None:
    """Require a model of about as many weights as the file has, before it is given memory.

    Raises:
        UsageError: its settings ask for more.
    """
    stored = sum(tensor.size for tensor in header.tensors)
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config, trust_remote_code=False)
    asked = sum(parameter.numel() for parameter in model.parameters())
    # Those that are missing are named later; a multiple is not given memory at all.
    if asked > 2 * stored:
        raise UsageError(
            rule="the settings of a GGUF file must describe the weights that it holds",
            got=f"{file}: a model of {asked:,} weights by its settings, {stored:,} in its tensors",
            fix="Download the file again.",
        )
