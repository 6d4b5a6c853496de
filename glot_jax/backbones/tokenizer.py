"""A backbone's tokenizer: loaded, identified, and asked once per text."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from glot_jax.backbone_files.backbone_source import Source
from glot_jax.backbone_files.quiet_loading import quiet_loading
from glot_jax.backbones.load_errors import loading_error
from glot_jax.errors import UsageError
from glot_jax.store.identity import canonical_sha256

Tokenizer = Any
"""A tokenizer of transformers: fast ones and those written in Python share no useful type."""
_RULE = "a backbone must come with its tokenizer"


@dataclasses.dataclass(frozen=True)
class TokenizedTexts:
    """Token ids of some texts, special tokens included, none padded."""

    ids: list[list[int]]
    truncated: np.ndarray
    """bool [texts]: cut to max_length."""
    empty: np.ndarray
    """bool [texts]: nothing but special tokens, or nothing at all."""


def load_tokenizer(source: Source) -> Tokenizer:
    """Return the tokenizer that belongs to a backbone.

    Raises:
        UsageError: there is none, or one that cannot be read.
    """
    folder = source.tokenizer_location
    try:
        with quiet_loading():
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        # tokenizers raises bare Exceptions, and every loader has errors of its own.
        raise loading_error(_RULE, source, Path(folder), error) from error
    # Without its files transformers builds one that knows special tokens alone, and every text is
    # [UNK] or nothing.
    words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if len(words) <= 1:
        raise UsageError(
            rule=_RULE,
            got=f"{folder}, whose tokenizer knows {len(words)} tokens beside the special ones",
            fix="Put tokenizer.json (or vocab.txt, tokenizer.model) there, or download the folder"
            " again.",
        )
    return tokenizer


def encode(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    **options: object,
) -> Mapping[str, Any]:
    """Return the tokenizer's answer for some texts, special tokens included, without padding."""
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
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_length: int,
) -> tuple[list[list[int]], np.ndarray]:
    """Return the ids of each text, cut to `max_length` with its special tokens.

    Returns:
        Token ids of each text, and which texts were cut, bool [texts].
    """
    if not len(texts):
        return [], np.zeros(0, bool)
    if not tokenizer.is_fast:
        return _truncated_slowly(tokenizer, texts, max_length)
    # Each text is tokenised once, and tells by its overflow whether it was cut: a second time, for
    # the whole length of a text of megabytes, would take minutes.
    if _encodes_as_its_backend(tokenizer):
        return _truncated_by_backend(tokenizer, texts, max_length)
    return _truncated_by_transformers(tokenizer, texts, max_length)


_CANARIES = ("", "A b. C-d's \u00c9t\u00e9  1,234!\n", "</s> [SEP] <|endoftext|>", "word " * 40)
"""Texts that show what a tokenizer's class does in Python: capitals, signs, blanks, special tokens,
and one that is cut.
"""
_PLAIN: weakref.WeakKeyDictionary[Tokenizer, bool] = weakref.WeakKeyDictionary()
"""Tokenizers that were asked already, and the answer."""


def _encodes_as_its_backend(tokenizer: Tokenizer) -> bool:
    """Whether transformers adds nothing of its own to what the tokenizer in Rust gives."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return False
    if tokenizer not in _PLAIN:
        # Asked by what it does, once: which methods a class has of its own is its own affair.
        ours, cut = _truncated_by_backend(tokenizer, _CANARIES, 16)
        theirs, cut_too = _truncated_by_transformers(tokenizer, _CANARIES, 16)
        _PLAIN[tokenizer] = ours == theirs and bool((cut == cut_too).all())
    return _PLAIN[tokenizer]


def _truncated_by_transformers(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_length: int,
) -> tuple[list[list[int]], np.ndarray]:
    """Ids, and which texts were cut, by the tokenizer's own call."""
    encoded = encode(
        tokenizer, texts, truncation=True, max_length=max_length, return_overflowing_tokens=True
    )
    ids: list[list[int]] = []
    truncated = np.zeros(len(texts), bool)
    # What was cut off follows its text, as further rows of the same sample.
    parts = zip(encoded["input_ids"], encoded["overflow_to_sample_mapping"], strict=True)
    for part, text in parts:
        if text == len(ids):
            ids.append(part)
        else:
            truncated[text] = True
    return ids, truncated


def _truncated_by_backend(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_length: int,
) -> tuple[list[list[int]], np.ndarray]:
    """The same by the tokenizer in Rust, on all cores.

    What transformers does around it, for each text in Python, is a third of the time of short
    texts, on one core: with many cores it would be nearly all of it.
    """
    tokenizer.set_truncation_and_padding(
        padding_strategy=PaddingStrategy.DO_NOT_PAD,
        truncation_strategy=TruncationStrategy.LONGEST_FIRST,
        max_length=max_length,
        stride=0,
        pad_to_multiple_of=None,
        padding_side=None,
    )
    # Fast: it counts no characters, which nobody asks for here.
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(list(texts))
    truncated = np.array([bool(encoding.overflowing) for encoding in encodings], bool)
    return [encoding.ids for encoding in encodings], truncated


def _truncated_slowly(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_length: int,
) -> tuple[list[list[int]], np.ndarray]:
    """The same for a tokenizer written in Python, which does not say what it cut."""
    ids = encode(tokenizer, texts, truncation=False)["input_ids"]
    is_long = [len(whole) > max_length for whole in ids]
    truncated = np.array(is_long, bool)
    for text in np.flatnonzero(truncated).tolist():
        cut = encode(
            tokenizer,
            [texts[text]],
            truncation=True,
            max_length=max_length,
        )
        ids[text] = cut["input_ids"][0]
    return ids, truncated


def kept_texts(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    max_length: int,
) -> list[str]:
    """Return what is left of each text when it is cut to `max_length` tokens.

    Special tokens are among the `max_length`.
    """
    encoded = tokenizer(
        list(texts), truncation=True, max_length=max_length, return_offsets_mapping=True
    )
    kept = []
    for text, spans in zip(texts, encoded["offset_mapping"], strict=True):
        # Special tokens have empty spans.
        ends = [end for start, end in spans if end > start]
        kept.append(text[: max(ends, default=0)])
    return kept


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return the tokenizer's tokens in the order of their ids."""
    tokens = tokenizer.get_vocab()
    return sorted(tokens, key=tokens.__getitem__)


def tokenizer_sha256(tokenizer: Tokenizer) -> str:
    """Return the hash of everything that decides a text's ids.

    Padding and truncation are set anew for each call and left out.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        values = json.loads(backend.to_str())
        # Every call of the tokenizer leaves its own settings here.
        values.pop("truncation", None)
        values.pop("padding", None)
        return canonical_sha256(values)
    state = {
        "class": type(tokenizer).__name__,
        "vocabulary": vocabulary(tokenizer),
        # A tokenizer written in Python has no serialised form: this is what can be known of it.
        "special": {key: str(token) for key, token in tokenizer.special_tokens_map.items()},
    }
    vocabulary_file = getattr(tokenizer, "vocab_file", None)
    if vocabulary_file:
        with open(vocabulary_file, "rb") as file:
            state["file"] = hashlib.file_digest(file, "sha256").hexdigest()
    return canonical_sha256(state)


def promised_tokens(tokenizer: Tokenizer, folder: Path) -> list[str]:
    """Return a line for each special token that a tokenizer promises and does not add.

    Args:
        tokenizer: as transformers reads it.
        folder: with tokenizer_config.json, which makes the promises.
    """
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return []
    # Any text shows what is added at its ends.
    ids = encode(tokenizer, ["a"])["input_ids"][0]
    first = ids[0] if ids else None
    last = ids[-1] if ids else None
    lines = []
    for name, token, actual in (("bos", "bos_token", first), ("eos", "eos_token", last)):
        flag = f"add_{name}_token"
        promised = getattr(tokenizer, f"{token}_id")
        if settings.get(flag) is True and promised is not None and actual != promised:
            lines.append(
                f"tokenizer_config.json says {flag}: true, but the tokenizer, as transformers reads"
                f" it, adds no {getattr(tokenizer, token)}; states are those of texts without it"
            )
    return lines


def missing_bos(tokenizer: Tokenizer, name: str) -> list[int]:
    """Return the beginning-of-text token if the tokenizer does not add it; nothing if it does.

    Raises:
        UsageError: the tokenizer has none.
    """
    token = tokenizer.bos_token_id
    if token is None:
        raise UsageError(
            rule="--add-bos needs a tokenizer with a beginning-of-text token",
            got=f"{name}, whose tokenizer has none",
            fix="Leave it out.",
        )
    # Any text shows what stands at its beginning.
    ids = encode(tokenizer, ["a"])["input_ids"][0]
    return [] if ids[:1] == [token] else [token]


def pad_id(tokenizer: Tokenizer, config: object, vocabulary_size: int | None) -> int:
    """Return a token to pad with: any id will do where the mask is zero.

    RoBERTa counts positions by its own pad id, so that comes first.
    """
    candidates = (
        tokenizer.pad_token_id,
        getattr(config, "pad_token_id", None),
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
    )
    # A model without a table of tokens takes any id.
    size = vocabulary_size or 1 << 31
    for token in candidates:
        if isinstance(token, int) and 0 <= token < size:
            return token
    return 0


def require_room(max_length: int, taken: int, noun: str) -> None:
    """Raise UsageError unless a text of `max_length` tokens has some beside the `taken` ones."""
    if max_length <= taken:
        raise UsageError(
            rule=f"--max-length must leave room beside the {taken} {noun}",
            got=max_length,
            fix=f"Give {taken + 1} or more.",
        )
