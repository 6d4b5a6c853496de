"""Texts to token ids: a backbone's tokenizer with its template, its added tokens and its length.

It needs no weights, so that a process which only hands out texts can cut them as the model's own
process would.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np

from glot_jax.backbones.prompts import Prompt
from glot_jax.backbones.tokenizer import (
    TokenizedTexts,
    Tokenizer,
    encode,
    missing_bos,
    require_room,
    truncated_ids,
)
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError


class TextCutter:
    """Cuts texts into token ids; threads may ask at the same time.

    Attributes:
        tokenizer: of the backbone.
        prompt: the template that texts are put into, or None.
        bos: token that `--add-bos` puts before every text; empty without it.
        special: what is added to every text, `bos` included: a text of these alone is empty.
        max_length: tokens of a text, special tokens included.
    """

    def __init__(
        self,
        config: ExtractConfig,
        tokenizer: Tokenizer,
        name: str,
    ):
        """Settle what is added to a text.

        Args:
            config: settings of the extraction.
            tokenizer: of the backbone.
            name: of the backbone, for messages.

        Raises:
            UsageError: a template or a beginning-of-text token that the tokenizer does not have.
        """
        self.tokenizer = tokenizer
        self.prompt = _prompt(config, tokenizer)
        # Most tokenizers add it by themselves.
        self.bos: list[int] = []
        if config.add_bos:
            self.bos = missing_bos(tokenizer, name)
        self.special: list[int] = [*self.bos, *tokenizer("")["input_ids"]]
        # Known when the model is: `set_length`.
        self.max_length = 0
        self._busy = threading.Lock()

    @property
    def tail(self) -> list[int]:
        """What the model reads after the token that a template names; empty without a template."""
        return [] if self.prompt is None else self.prompt.tail

    def set_length(self, max_length: int) -> None:
        """Settle the tokens of a text.

        Raises:
            UsageError: they leave no room beside what is added to every text.
        """
        # A template leaves less room than special tokens do.
        if self.prompt is None:
            require_room(
                max_length,
                len(self.special),
                "special tokens of a text",
            )
        else:
            require_room(
                max_length,
                self.prompt.overhead,
                "tokens of the prompt",
            )
        self.max_length = max_length

    def sample(self, text: str) -> list[int]:
        """The ids of one text, not cut and without a template."""
        return [*self.bos, *encode(self.tokenizer, [text])["input_ids"][0]]

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """Return token ids with special tokens, cut to `max_length`.

        With a prompt these are the tokens up to the one that it names. A text is then cut at its
        own end, and the prompt stays whole.
        """
        # A fast tokenizer keeps the length it cuts to, and refuses to be told a second one while
        # it is at work in another thread.
        with self._busy:
            return self._tokenize(texts)

    def _tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        if self.prompt is not None:
            ids, truncated = self.prompt.ids(texts, self.max_length)
            empty = np.array([not text for text in texts], bool)
            return TokenizedTexts(ids, truncated, empty)
        room = self.max_length - len(self.bos)
        ids, truncated = truncated_ids(self.tokenizer, texts, room)
        if self.bos:
            ids = [[*self.bos, *text] for text in ids]
        # An empty text of BERT has [CLS] and [SEP], one of GPT-2 nothing.
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        return TokenizedTexts(
            ids,
            truncated,
            lengths <= len(self.special),
        )


def _prompt(config: ExtractConfig, tokenizer: Tokenizer) -> Prompt | None:
    if config.prompt is None:
        return None
    prompt = Prompt(config.prompt, tokenizer)
    if config.kind == "encoder":
        raise UsageError(
            rule="--kind must be decoder with --prompt: cls is the token that it names, the last"
            " one",
            got=f"--kind {config.kind}",
            fix="Leave it out.",
        )
    return prompt
