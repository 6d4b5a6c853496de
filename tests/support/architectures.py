"""Tiny random models of many architectures.

And what a backbone makes of them, against the model itself.

    # from tests/: the table, a line an architecture
    python -m support.architectures [NAME ...] [--out FILE]

`measure` compares the states of texts in company with those of each text alone, taken by hooks on
the blocks that `ARCHITECTURES` names: nothing of `glot_jax` is asked where the blocks are.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

import numpy as np
import torch
import transformers

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone
from support.tiny_backbones import byte_level

Outputs = torch.Tensor | tuple[torch.Tensor, ...]
"""What a block returns: its states, or these and more."""
PaddingSide = Literal["auto", "left", "right"]

TINY = {
    "vocab_size": 320,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size"), 32),
    **dict.fromkeys(
        (
            "num_hidden_layers",
            "num_layers",
            "n_layers",
            "n_layer",
            "encoder_layers",
            "decoder_layers",
        ),
        3,
    ),
    **dict.fromkeys(("num_attention_heads", "n_heads", "n_head", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    "num_key_value_heads": 2,
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size"), 8),
    **dict.fromkeys(("intermediate_size", "d_ff", "ffn_dim", "hidden_dim"), 64),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 128),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
"""Sizes by the names that configurations give them."""
_STATE_SPACE = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8}
_LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "topk_group": 1,
}


_QWEN_TEXT = {
    "vocab_size": 330,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "layer_types": ["full_attention"] * 3,
    "max_position_embeddings": 128,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
}
_QWEN_VISION = {
    "vision_config": {
        "depth": 1,
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": 32,
    },
    "image_token_id": 321,
    "video_token_id": 322,
    "vision_start_token_id": 323,
    "vision_end_token_id": 324,
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One row: where its blocks are, what the probe must find, and settings beside TINY."""

    blocks: str | None
    """Path of the list of blocks in the part that reads texts; None: its inner layers are not
    compared.
    """
    kind: str
    passes: str = "padded"
    left: bool = True
    """Whether padding on the left is exact; else `--padding-side left` must be refused."""
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    refused: str | None = None
    """What the refusal must say; such a model makes no store."""
    inner: bool = True
    """Whether there are inner layers with a state a token."""


class Expected(TypedDict, total=False):
    """Fields of an `Architecture` that most rows leave out."""

    passes: str
    left: bool
    settings: dict[str, Any]
    refused: str | None
    inner: bool


def _encoder(blocks: str | None = "encoder.layer", **more: Unpack[Expected]) -> Architecture:
    return Architecture(blocks, "encoder", **more)


def _decoder(blocks: str | None = "layers", **more: Unpack[Expected]) -> Architecture:
    return Architecture(blocks, "decoder", **more)


ARCHITECTURES: dict[str, Architecture] = {
    # Encoders.
    "albert": _encoder("encoder.albert_layer_groups"),
    "bert": _encoder(),
    "big_bird": _encoder(),
    "camembert": _encoder(),
    "canine": _encoder(None, passes="one length", left=False, inner=False),
    "convbert": _encoder(passes="one length", left=False),
    "data2vec-text": _encoder(),
    "deberta": _encoder(),
    "deberta-v2": _encoder(),
    "distilbert": _encoder("transformer.layer"),
    "electra": _encoder(),
    "ernie": _encoder(),
    "esm": _encoder(),
    "eurobert": _encoder("layers"),
    "flaubert": _encoder(None),
    "fnet": _encoder(passes="one length", left=False),
    "ibert": _encoder(),
    "layoutlm": _encoder(),
    "longformer": _encoder(None, settings={"attention_window": 16}),
    "luke": _encoder(settings={"entity_vocab_size": 10, "entity_emb_size": 16}),
    "megatron-bert": _encoder(),
    "mobilebert": _encoder(),
    "modernbert": _encoder("layers"),
    "mpnet": _encoder(),
    "nomic_bert": _encoder("layers"),
    "nystromformer": _encoder(passes="one length", left=False),
    "rembert": _encoder(),
    "roberta": _encoder(),
    "roformer": _encoder(),
    "squeezebert": _encoder(None),
    "xlm": _encoder(None),
    "xlm-roberta": _encoder(),
    "xlnet": _encoder(None),
    "xmod": _encoder(settings={"languages": ["en_XX"], "default_language": "en_XX"}),
    "yoso": _encoder(passes="one length", left=False),
    # Encoders of encoder-decoders.
    "bart": _encoder("layers", left=False),
    "mbart": _encoder("layers", left=False),
    "mt5": _encoder("encoder.block"),
    "pegasus": _encoder("layers", left=False),
    "t5": _encoder("encoder.block"),
    "umt5": _encoder("encoder.block"),
    # Decoders.
    "biogpt": _decoder(),
    "bloom": _decoder("h"),
    "codegen": _decoder("h", settings={"rotary_dim": 8}),
    "cohere2": _decoder(),
    "deepseek_v3": _decoder(settings={**_LATENT, "n_group": 2, "first_k_dense_replace": 1}),
    "falcon": _decoder("h"),
    "gemma": _decoder(),
    "gemma2": _decoder(),
    "gemma3_text": _decoder(),
    "glm4": _decoder(),
    "gpt2": _decoder("h"),
    "gpt_bigcode": _decoder("h"),
    "gpt_neo": _decoder(
        "h", settings={"attention_types": [[["global", "local"], 1], [["global"], 1]]}
    ),
    "gpt_neox": _decoder(),
    "gpt_oss": _decoder(),
    "gptj": _decoder("h", settings={"rotary_dim": 8}),
    "granite": _decoder(),
    "llama": _decoder(),
    "mistral": _decoder(),
    "mixtral": _decoder(),
    "mpt": _decoder("blocks"),
    "nemotron": _decoder(),
    "olmo2": _decoder(),
    "opt": _decoder("decoder.layers"),
    "phi3": _decoder(),
    "qwen2": _decoder(),
    "qwen2_5_vl": _decoder(
        "language_model.layers", settings={"text_config": _QWEN_TEXT, **_QWEN_VISION}
    ),
    "qwen3": _decoder(),
    "qwen3_moe": _decoder(),
    "smollm3": _decoder(),
    "stablelm": _decoder(),
    "starcoder2": _decoder(),
    "xglm": _decoder(),
    # State-space models, recurrent ones and hybrids.
    "bamba": _decoder(settings={**_STATE_SPACE, "attn_layer_indices": [1], "layer_types": None}),
    "falcon_h1": _decoder(settings={**_STATE_SPACE, "mamba_d_ssm": 64, "layer_types": None}),
    "falcon_mamba": _decoder(left=True),
    "granitemoehybrid": _decoder(
        settings={
            **_STATE_SPACE,
            "layer_types": ["mamba", "attention", "mamba"],
            "shared_intermediate_size": 32,
        }
    ),
    "jamba": _decoder(
        settings={
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
            "use_mamba_kernels": False,
            "layer_types": None,
        }
    ),
    "lfm2": _decoder(settings={"layer_types": ["conv", "full_attention", "conv"]}),
    "mamba": _decoder(left=True),
    "mamba2": _decoder(settings={"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1}),
    "qwen3_next": _decoder(
        settings={
            "layer_types": ["linear_attention", "full_attention", "linear_attention"],
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "shared_expert_intermediate_size": 32,
        }
    ),
    "recurrent_gemma": _decoder(
        left=False, settings={"lru_width": 32, "attention_window_size": 64, "layer_types": None}
    ),
    "rwkv": _decoder("blocks", left=False),
    "xlstm": _decoder(
        "blocks",
        left=False,
        settings={"qk_dim_factor": 1.0, "v_dim_factor": 1.0, "embedding_dim": 32, "num_blocks": 3},
    ),
    # Without one stream of states, and what cannot be run.
    "deepseek_v4": _decoder(None, left=False, inner=False),
    "perceiver": _encoder(None, refused="forward pass takes input_ids"),
    "clip": _encoder(None, refused="reads images"),
}
CHOSEN = (
    "albert",
    "bert",
    "canine",
    "convbert",
    "fnet",
    "gpt2",
    "llama",
    "mamba",
    "qwen3_moe",
    "t5",
    "xlnet",
    "bart",
)
"""Those of `make test`; all of them are run by `make test-all`."""
TEXTS = (
    "the cat",
    "a dog ran in the park",
    "nobody",
    "every bird sings before the sun is up",
    "so it goes on",
)


def make_architecture(name: str, folder: Path) -> Path:
    """Save a tiny random model of an architecture, with a tokenizer, and return the folder."""
    folder = Path(folder)
    torch.manual_seed(0)
    config = _config(name, ARCHITECTURES[name].settings)
    model = transformers.AutoModel.from_config(config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            # Zero biases and tiny weights would hide a token that is missed.
            if parameter.ndim >= 2 and parameter.std() < 0.1:
                parameter.mul_(3)
            elif parameter_name.endswith("bias"):
                parameter.normal_(std=0.1)
    model.save_pretrained(folder)
    tokenizer = transformers.CanineTokenizer() if name == "canine" else byte_level("gpt2")
    tokenizer.save_pretrained(folder)
    return folder


def _config(name: str, settings: dict[str, Any]) -> transformers.PreTrainedConfig:
    kind = transformers.CONFIG_MAPPING[name]
    default = kind()
    # A property of the class to pyright, a dict to everybody else.
    sub_configs = cast(dict[str, type], kind.sub_configs)
    known = {*default.to_dict(), *kind.attribute_map} - set(sub_configs)
    values: dict[str, Any] = {key: value for key, value in TINY.items() if key in known}
    if set(settings) & set(sub_configs):
        # Of a model of several parts the sizes are those of its parts.
        return kind(**settings)
    given = getattr(default, "layer_types", None)
    has_setter = getattr(getattr(kind, "layer_types", None), "fset", True) is not None
    if given and has_setter and "layer_types" not in settings:
        # One of each, in three blocks.
        values["layer_types"] = (list(dict.fromkeys(given)) * 3)[:3]
    values |= settings
    if settings.get("layer_types", 0) is None:
        del values["layer_types"]
    return kind(**values)


def measure(name: str, folder: Path, side: PaddingSide = "auto") -> dict[str, Any]:
    """What a backbone makes of an architecture.

    Returns:
        {passes, kind, layers, company, layer_error}: what the probe found; the number of compared
        layers; the largest change of a token's state by company, and the largest difference of a
        layer from the blocks' own states, as shares of the state's norm.

    Raises:
        UsageError: it is refused.
    """
    architecture = ARCHITECTURES[name]
    config = ExtractConfig(
        backbone=str(folder),
        task="custom",
        out=Path("unused"),
        device="cpu",
        padding_side=side,
        max_length=64,
    )
    backbone = Backbone(config)
    if architecture.inner:
        # The probe again, with all layers wanted.
        config = dataclasses.replace(config, layers=tuple(range(backbone.num_layers + 1)))
        backbone = Backbone(config)
    ids = backbone.tokenize(TEXTS).ids
    ends = np.cumsum([len(text) for text in ids])[:-1]
    together = {
        layer: np.split(states, ends) for layer, states in backbone.states(ids).layers.items()
    }
    company = 0.0
    for number, text in enumerate(ids):
        for layer, states in backbone.states([text]).layers.items():
            company = max(company, _change(states, together[layer][number]))
    layer_error = 0.0
    for number, text in enumerate(ids):
        for layer, states in _own_states(folder, architecture, text).items():
            if layer in together:
                layer_error = max(layer_error, _change(states, together[layer][number]))
    return {
        "passes": backbone.probe.passes,
        "kind": backbone.kind,
        "layers": len(backbone.layers),
        "blocks_compared": architecture.blocks is not None,
        "company": company,
        "layer_error": layer_error,
    }


def _own_states(folder: Path, architecture: Architecture, ids: list[int]) -> dict[int, np.ndarray]:
    """Layer -> states of a text by itself, straight from transformers.

    The blocks' own, and what the model returns.
    """
    config = transformers.AutoConfig.from_pretrained(folder)
    if config.model_type in ("t5", "mt5", "umt5"):
        model = transformers.AutoModelForTextEncoding.from_pretrained(folder, dtype=torch.float32)
    else:
        model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
    if config.is_encoder_decoder and hasattr(model, "decoder"):
        model = model.get_encoder()
    model.eval()
    inputs: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []

    def before(
        _block: torch.nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]
    ) -> None:
        states = args[0] if args else kwargs["hidden_states"]
        inputs.append(states.clone())

    def after(_block: torch.nn.Module, _args: object, _kwargs: object, output: Outputs) -> None:
        outputs.append((output if isinstance(output, torch.Tensor) else output[0]).clone())

    for block in model.get_submodule(architecture.blocks).children() if architecture.blocks else ():
        block.register_forward_pre_hook(before, with_kwargs=True)
        block.register_forward_hook(after, with_kwargs=True)
    options = (
        {"use_cache": False} if "use_cache" in inspect.signature(model.forward).parameters else {}
    )
    mask = torch.ones(1, len(ids), dtype=torch.long)
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids]), attention_mask=mask, **options)
    states = {}
    if architecture.blocks:
        states = dict(enumerate([inputs[0], *outputs[:-1]]))
        states[len(outputs)] = found.last_hidden_state
    return {layer: tensor[0].numpy() for layer, tensor in states.items()}


def _change(before: np.ndarray, after: np.ndarray) -> float:
    assert before.shape == after.shape
    norm = np.linalg.norm(before.astype(np.float64), axis=-1)
    return float(
        (np.linalg.norm(before.astype(np.float64) - after, axis=-1) / np.maximum(norm, 1e-12)).max()
    )


def _main(arguments: list[str]) -> None:
    """Print a line an architecture.

    `--out FILE` keeps them all, with the versions that they were measured with.
    """
    out = Path(arguments.pop()) if arguments[-2:-1] == ["--out"] else None
    names = [name for name in arguments if name != "--out"]
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    rows = []
    for name in names or ARCHITECTURES:
        with tempfile.TemporaryDirectory() as folder:
            try:
                make_architecture(name, Path(folder) / name)
                row: dict[str, Any] = measure(name, Path(folder) / name)
            except UsageError as error:
                row = {"refused": f"{error.rule}; {error.got}"}
        rows.append({"architecture": name, **row})
        print(json.dumps(rows[-1]), flush=True)
    if out is not None:
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        out.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
