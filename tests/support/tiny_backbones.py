"""Tiny random backbones with their tokenizers, built on the spot: no network, no stored weights.

folder = make_backbone("bert", tmp_path / "bert")      # a local folder for `--backbone`
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

Tokens = transformers.PreTrainedTokenizerFast
Config = TypeVar("Config", bound=transformers.PreTrainedConfig)

CORPUS = (
    "the cat sat on the mat",
    "a dog ran in the park",
    "every bird sings before the sun is up",
    "nobody saw the green train leave the old station at night",
)
MODEL_TYPES = ("bert", "roberta", "distilbert", "gpt2", "llama", "mistral", "qwen2")
ENCODERS = ("bert", "roberta", "distilbert")
MAX_POSITIONS = 64
"""Longest text, in tokens, that every tiny backbone takes."""


def make_backbone(
    model_type: str,
    folder: Path,
    *,
    pad_token: bool = True,
    dim: int = 32,
    num_layers: int = 2,
    seed: int = 0,
    scale: float = 1.0,
) -> Path:
    """Save a random `model_type` model and its tokenizer to `folder` and return the folder.

    `pad_token=False` leaves the pad token out of tokenizer and config, as GPT-2 and Llama do.
    `scale` multiplies the last block's final norm, so that states can be made to exceed float16.
    Every model has `num_layers` blocks, width `dim`, 4 heads and takes texts of `MAX_POSITIONS`
    tokens.
    """
    tokenizer = (
        _wordpiece(model_type, pad_token)
        if model_type in ("bert", "distilbert")
        else byte_level(model_type, pad_token)
    )
    torch.manual_seed(seed)
    model = transformers.AutoModel.from_config(CONFIGS[model_type](tokenizer, dim, num_layers))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Initial position and bias values are near zero, which would hide a wrong position or a
            # lost bias.
            if "position" in name or "wpe" in name or name.endswith("bias"):
                parameter.normal_(std=0.5)
            if scale != 1.0 and name in FINAL_NORMS[model_type](num_layers):
                parameter.mul_(scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def _special(tokenizer: transformers.PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _encoder(
    cls: type[Config], tokenizer: Tokens, dim: int, num_layers: int, **more: int
) -> Config:
    return cls(
        **{
            **_special(tokenizer),
            "hidden_size": dim,
            "num_hidden_layers": num_layers,
            "num_attention_heads": 4,
            "intermediate_size": 2 * dim,
            "max_position_embeddings": MAX_POSITIONS,
            **more,
        }
    )


def _rotary(cls: type[Config], tokenizer: Tokens, dim: int, num_layers: int) -> Config:
    return _encoder(cls, tokenizer, dim, num_layers, num_key_value_heads=2)


CONFIGS: dict[str, Callable[[Tokens, int, int], transformers.PreTrainedConfig]] = {
    "bert": lambda tokenizer, dim, layers: _encoder(
        transformers.BertConfig, tokenizer, dim, layers
    ),
    # RoBERTa's positions start after the pad token's id 1, so its table is two rows longer.
    "roberta": lambda tokenizer, dim, layers: _encoder(
        transformers.RobertaConfig,
        tokenizer,
        dim,
        layers,
        type_vocab_size=1,
        max_position_embeddings=MAX_POSITIONS + 2,
        pad_token_id=1,
    ),
    "distilbert": lambda tokenizer, dim, layers: transformers.DistilBertConfig(
        **_special(tokenizer),
        dim=dim,
        n_layers=layers,
        n_heads=4,
        hidden_dim=2 * dim,
        max_position_embeddings=MAX_POSITIONS,
    ),
    "gpt2": lambda tokenizer, dim, layers: transformers.GPT2Config(
        **_special(tokenizer),
        n_embd=dim,
        n_layer=layers,
        n_head=4,
        n_positions=MAX_POSITIONS,
    ),
    "llama": lambda tokenizer, dim, layers: _rotary(
        transformers.LlamaConfig, tokenizer, dim, layers
    ),
    "mistral": lambda tokenizer, dim, layers: _rotary(
        transformers.MistralConfig, tokenizer, dim, layers
    ),
    "qwen2": lambda tokenizer, dim, layers: _rotary(
        transformers.Qwen2Config, tokenizer, dim, layers
    ),
}

FINAL_NORMS: dict[str, Callable[[int], tuple[str, ...]]] = {
    "bert": lambda layers: (f"encoder.layer.{layers - 1}.output.LayerNorm.weight",),
    "roberta": lambda layers: (f"encoder.layer.{layers - 1}.output.LayerNorm.weight",),
    "distilbert": lambda layers: (f"transformer.layer.{layers - 1}.output_layer_norm.weight",),
    "gpt2": lambda _layers: ("ln_f.weight",),
    "llama": lambda _layers: ("norm.weight",),
    "mistral": lambda _layers: ("norm.weight",),
    "qwen2": lambda _layers: ("norm.weight",),
}


def _wordpiece(model_type: str, pad_token: bool) -> transformers.PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.WordPieceTrainer(vocab_size=160, special_tokens=special, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.decoder = decoders.WordPiece()
    inputs = (
        ["input_ids", "token_type_ids", "attention_mask"]
        if model_type == "bert"
        else ["input_ids", "attention_mask"]
    )
    pad = {"pad_token": "[PAD]"} if pad_token else {}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=inputs,
        **pad,
    )


def byte_level(model_type: str, pad_token: bool = True) -> transformers.PreTrainedTokenizerFast:
    """Byte-level BPE.

    RoBERTa adds <s> and </s>, Llama and Mistral add <s>, GPT-2 and Qwen2 add nothing.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    if model_type == "roberta":
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    if model_type in ("llama", "mistral"):
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 0)]
        )
    pad = {"pad_token": "<pad>"} if pad_token else {}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", **pad
    )
