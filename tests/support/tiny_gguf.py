"""A tiny decoder as a GGUF file, and what its bytes are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

DIM = 32
BLOCKS = 2
HEADS = 4
KV_HEADS = 2
WIDTH = 64
WORDS = ("low", "er", "lower", "new", "est", "newest", "wid", "widest")


def tokens() -> list[str]:
    """Special tokens, the bytes of GPT-2's alphabet that the words need, and the words."""
    letters = sorted(set("".join(WORDS)) | set("abcdefghijklmnopqrstuvwxyz.,Ġ"))
    pieces = ["lo", "ne", "wi", "es"]
    return ["<unk>", "<s>", "</s>", *letters, *pieces, *WORDS]


MERGES = (
    "l o",
    "lo w",
    "e r",
    "low er",
    "n e",
    "ne w",
    "e s",
    "es t",
    "new est",
    "w i",
    "wi d",
    "wid est",
)


def write_gguf(
    path: Path,
    *,
    seed: int = 0,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
    architecture: str = "llama",
    add_bos: bool = False,
    settings: Mapping[str, int] | None = None,
    leave_out: str = "",
    scale: float = 1.0,
    parts: int = 1,
) -> Path:
    """Write a llama with random weights.

    Args:
        path: of the file.
        seed: of the weights.
        kind: format of the matrices; vectors are float32.
        architecture: its name in the file.
        add_bos: promise a token before every text.
        settings: of the architecture, in the place of the right ones.
        leave_out: name of a tensor that is not written.
        scale: of the weights.
        parts: how many files the model claims to have.
    """
    rng = np.random.default_rng(seed)
    words = tokens()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("tiny")
    values = {
        "block_count": BLOCKS,
        "context_length": 128,
        "embedding_length": DIM,
        "feed_forward_length": WIDTH,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "rope.dimension_count": DIM // HEADS,
        "vocab_size": len(words),
        **(settings or {}),
    }
    for name, value in values.items():
        writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_float32(f"{architecture}.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_float32(f"{architecture}.rope.freq_base", 10_000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(words)
    writer.add_token_types([3, 3, 3, *[1] * (len(words) - 3)])
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(add_bos)
    if parts > 1:
        writer.add_uint16("split.count", parts)
    writer.add_chat_template("{{ raise_exception('rendered') }}")

    def add(name: str, *shape: int) -> None:
        if name == leave_out:
            return
        array = rng.normal(0, scale * 0.3, shape).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, array + 1)
        else:
            writer.add_tensor(name, gguf.quantize(array, kind), raw_dtype=kind)

    add("token_embd.weight", len(words), DIM)
    add("output_norm.weight", DIM)
    narrow = DIM // HEADS * KV_HEADS
    for block in range(BLOCKS):
        add(f"blk.{block}.attn_norm.weight", DIM)
        add(f"blk.{block}.ffn_norm.weight", DIM)
        add(f"blk.{block}.attn_q.weight", DIM, DIM)
        add(f"blk.{block}.attn_k.weight", narrow, DIM)
        add(f"blk.{block}.attn_v.weight", narrow, DIM)
        add(f"blk.{block}.attn_output.weight", DIM, DIM)
        add(f"blk.{block}.ffn_gate.weight", WIDTH, DIM)
        add(f"blk.{block}.ffn_up.weight", WIDTH, DIM)
        add(f"blk.{block}.ffn_down.weight", DIM, WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
