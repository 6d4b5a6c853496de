"""A backbone's tokenizer: loaded, identified, and asked once per text."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from glot_jax.errors import UsageError, require
from glot_jax.extraction.backbone_source import Source
from glot_jax.extraction.load_errors import loading_error, quiet_loading
from glot_jax.store.identity import canonical_sha256


@dataclasses.dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of some texts, special tokens included, none padded."""

    ids: list[list[int]]
    truncated: np.ndarray
    """bool [texts]: cut to max_length."""
    empty: np.ndarray
    """bool [texts]: nothing but special tokens, or nothing at all."""


def load_tokenizer(source: Source) -> Any:
    """The tokenizer that belongs to a backbone.

    Raises:
        UsageError: there is none, or one that cannot be read.
    """
    folder = source.tokenizer_location
    try:
        with quiet_loading():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (
        Exception
    ) as error:  # tokenizers raises bare Exceptions, and every loader has errors of its own
        raise loading_error(
            "a backbone must come with its tokenizer", source, Path(folder), error
        ) from error
    # Without its files transformers builds one that knows special tokens alone, and every text is
    # [UNK] or nothing.
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    require(
        len(words) > 1,
        "a backbone must come with its tokenizer",
        f"{folder}, whose tokenizer knows {len(words)} tokens beside the special ones",
        "Put tokenizer.json (or vocab.txt, tokenizer.model) there, or download the folder again.",
    )
    return tokenizer


def encode(tokenizer: Any, texts: Sequence[str], **options: Any) -> Any:
    """The tokenizer's answer for some texts, special tokens included, without padding."""
    return tokenizer(
        list(texts),
        add_special_tokens=True,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
        **options,
    )


def truncated_ids(
    tokenizer: Any, texts: Sequence[str], max_length: int
) -> tuple[list[list[int]], np.ndarray]:
    """Ids of each text, cut to `max_length` with its special tokens, and which were cut (bool
    [texts]).

    A text is tokenised once: of a long one that is minutes.
    """
    if not len(texts):
        return [], np.zeros(0, bool)
    if not tokenizer.is_fast:
        return _truncated_slowly(tokenizer, texts, max_length)
    found = encode(
        tokenizer, texts, truncation=True, max_length=max_length, return_overflowing_tokens=True
    )
    ids: list[list[int]] = []
    truncated = np.zeros(len(texts), bool)
    # What was cut off follows its text, as further rows of the same sample.
    for part, text in zip(found["input_ids"], found["overflow_to_sample_mapping"], strict=True):
        if text == len(ids):
            ids.append(part)
        else:
            truncated[text] = True
    return ids, truncated


def _truncated_slowly(
    tokenizer: Any, texts: Sequence[str], max_length: int
) -> tuple[list[list[int]], np.ndarray]:
    """The same of a tokenizer written in Python, which does not say what it cut."""
    ids = encode(tokenizer, texts, truncation=False)["input_ids"]
    truncated = np.array([len(whole) > max_length for whole in ids], bool)
    for text in np.flatnonzero(truncated).tolist():
        cut = encode(tokenizer, [texts[text]], truncation=True, max_length=max_length)
        ids[text] = cut["input_ids"][0]
    return ids, truncated


def kept_texts(tokenizer: Any, texts: Sequence[str], max_length: int) -> list[str]:
    """What is left of each text when it is cut to `max_length` tokens, special tokens included."""
    spans = tokenizer(
        list(texts), truncation=True, max_length=max_length, return_offsets_mapping=True
    )["offset_mapping"]
    ends = [[end for start, end in span if end > start] for span in spans]
    return [text[: max(end, default=0)] for text, end in zip(texts, ends, strict=True)]


def vocabulary(tokenizer: Any) -> list[str]:
    """The tokenizer's tokens in the order of their ids."""
    tokens = tokenizer.get_vocab()
    return sorted(tokens, key=tokens.__getitem__)


def tokenizer_sha256(tokenizer: Any) -> str:
    """Hash of everything that decides a text's ids; padding and truncation are set anew for each
    call and left out.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        values = json.loads(backend.to_str())
        return canonical_sha256(
            {key: value for key, value in values.items() if key not in ("truncation", "padding")}
        )
    state = {
        "class": type(tokenizer).__name__,
        "vocabulary": vocabulary(tokenizer),
        "special": {key: str(token) for key, token in tokenizer.special_tokens_map.items()},
    }
    model = tokenizer.vocab_file if getattr(tokenizer, "vocab_file", None) else None
    if model:
        with open(model, "rb") as file:
            state["file"] = hashlib.file_digest(file, "sha256").hexdigest()
    return canonical_sha256(state)


def promised_tokens(tokenizer: Any, folder: Path) -> list[str]:
    """Special tokens that tokenizer_config.json promises and the tokenizer does not add, a line
    each.
    """
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return []
    ids = encode(tokenizer, ["a"])["input_ids"][0]
    lines = []
    for flag, token, place in (
        ("add_bos_token", "bos_token", 0),
        ("add_eos_token", "eos_token", -1),
    ):
        wanted = getattr(tokenizer, f"{token}_id")
        if settings.get(flag) is True and wanted is not None and (not ids or ids[place] != wanted):
            name = getattr(tokenizer, token)
            lines.append(
                f"tokenizer_config.json says {flag}: true, but the tokenizer, as transformers reads"
                f" it, adds no {name}; states are those of texts without it"
            )
    return lines


def pad_id(tokenizer: Any, config: Any, vocabulary_size: int | None) -> int:
    """Any id will do where the mask is zero, but RoBERTa counts positions by its own pad id, so
    that comes first.
    """
    candidates = (
        tokenizer.pad_token_id,
        getattr(config, "pad_token_id", None),
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
    )
    below = vocabulary_size or 1 << 31
    return next((token for token in candidates if isinstance(token, int) and 0 <= token < below), 0)


def require_room(max_length: int, taken: int, noun: str) -> None:
    """UsageError unless a text of `max_length` tokens has some beside the `taken` ones."""
    if max_length <= taken:
        raise UsageError(
            f"--max-length leaves room beside the {taken} {noun}",
            max_length,
            f"Give {taken + 1} or more.",
        )
