"""Prompt templates: a sentence is put into a question to the model, and one token of the answer's
place is its vector.

| name          | where it comes from                     | token |
|---------------|-----------------------------------------|-------|
| promptbert    | PromptBERT                              | mask  |
| prompteol     | PromptEOL                               | last  |
| pretended-cot | pretended chain of thought              | last  |
| knowledge     | knowledge enhancement                   | last  |

These are the rows that the paper's Table 13 compares GLOT with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glot_jax.errors import UsageError, require

TEXT, MASK = "[X]", "[MASK]"
_ONE_WORD = f'this sentence : "{TEXT}" means in one word:"'
PROMPTS: dict[str, str] = {
    "promptbert": f'This sentence : "{TEXT}" means {MASK} .',
    "prompteol": f"T{_ONE_WORD[1:]}",
    "pretended-cot": f"After thinking step by step , {_ONE_WORD}",
    "knowledge": (
        "The essence of a sentence is often captured by its main subjects and actions, while"
        " descriptive terms provide additional but less central details. With this in mind ,"
        f" {_ONE_WORD}"
    ),
}
"""[X] stands for the text; [MASK], if there is one, for the token whose state is wanted, else that
is the last one of the template.
"""


class Prompt:
    """A template with the tokens of one tokenizer.

    A text's tokens are those up to and with the one that the template names, so that this one is
    the last. What the model reads after it, `tail`, is the same for every text.

    Args:
        name: of PROMPTS, or a template of one's own, with [X] and perhaps [MASK].
        tokenizer: of the backbone.

    Raises:
        UsageError: neither, a template without [X], or [MASK] for a tokenizer without a mask token.
    """

    def __init__(self, name: str, tokenizer: Any):
        self.template = PROMPTS.get(name, name)
        known = (
            f"one of {', '.join(sorted(PROMPTS))}, or a template of your own with one {TEXT}, and"
            f" at most one {MASK} after it"
        )
        before, _, after = self.template.partition(TEXT)
        right = self.template.count(TEXT) == 1 and after.count(MASK) <= 1 and MASK not in before
        require(
            right,
            f"--prompt is {known}",
            name,
            f"""Give for example --prompt prompteol, or --prompt '"{TEXT}" is about'.""",
        )
        masked = MASK in after
        if masked:
            require(
                tokenizer.mask_token is not None,
                f"a template with {MASK} needs a tokenizer with a mask token",
                name,
                "Use one that asks for the last token: --prompt prompteol.",
            )
            after = after.replace(MASK, tokenizer.mask_token)
        self._before, self._after, self._tokenizer = before, after, tokenizer
        ids = self._encode([f"{before}{after}"])[0]
        if masked:
            named = len(ids) - 1 - ids[::-1].index(tokenizer.mask_token_id)
        else:
            # Those that the tokenizer adds; an unknown token of the template is none of them.
            added = tokenizer(f"{before}{after}", return_special_tokens_mask=True)[
                "special_tokens_mask"
            ]
            named = max((place for place, special in enumerate(added) if not special), default=-1)
        self.tail: list[int] = ids[named + 1 :]
        """Tokens after the named one."""
        self.overhead = len(ids)
        """Tokens of the template without a text, the tail included."""

    def ids(self, texts: Sequence[str], max_length: int) -> tuple[list[list[int]], np.ndarray]:
        """Tokens of each text in its template, without the tail; and which texts were cut, bool
        [texts].

        With the tail there are at most `max_length`: a text is cut at its own end, and the template
        stays whole.
        """
        found = self._encode([self._before + text + self._after for text in texts])
        cut = np.array([len(whole) > max_length for whole in found], bool)
        for place in np.flatnonzero(cut).tolist():
            room = max_length - self.overhead
            while len(found[place]) > max_length and room >= 0:
                found[place] = self._encode(
                    [self._before + self._first_tokens(texts[place], room) + self._after]
                )[0]
                # should the text's last token and the template's next be other ones when they meet
                room -= 1
        for whole, text in zip(found, texts, strict=True):
            if whole[len(whole) - len(self.tail) :] != self.tail:
                raise UsageError(
                    "a template ends alike after every text",
                    f"{self.template!r} after {text[:40]!r}",
                    "Choose another --prompt.",
                )
        return [whole[: len(whole) - len(self.tail)] for whole in found], cut

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer(
            list(texts),
            add_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]

    def _first_tokens(self, text: str, count: int) -> str:
        spans = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        return text[: max((end for _, end in spans[:count]), default=0)] if count else ""
