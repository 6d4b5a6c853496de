"""Prompt templates: a text is put into a question, and one token of the answer is its vector.

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

import numpy as np

from glot_jax.backbones.tokenizer import Tokenizer
from glot_jax.errors import UsageError

TEXT = "[X]"
MASK = "[MASK]"
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
"""[X] stands for the text; [MASK], if there is one, for the token whose state is the vector.

Without it that is the last token of the template.
"""


class Prompt:
    """A template with the tokens of one tokenizer.

    A text's tokens are those up to and with the one that the template names, so that this one is
    the last. What the model reads after it, `tail`, is the same for every text.

    Attributes:
        template: with [X], and perhaps [MASK].
        tail: tokens after the named one.
        overhead: tokens of the template without a text, the tail included.
    """

    def __init__(self, name: str, tokenizer: Tokenizer):
        """Settle which token of a template is named.

        Args:
            name: of PROMPTS, or a template of one's own, with [X] and perhaps [MASK].
            tokenizer: of the backbone.

        Raises:
            UsageError: neither, a template without [X], or [MASK] for a tokenizer without a mask
                token.
        """
        self.template = PROMPTS.get(name, name)
        self._tokenizer = tokenizer
        before, after = _parts(name, self.template)
        is_masked = MASK in after
        if is_masked:
            if tokenizer.mask_token is None:
                raise UsageError(
                    rule=f"a template with {MASK} needs a tokenizer with a mask token",
                    got=name,
                    fix="Use one that asks for the last token: --prompt prompteol.",
                )
            after = after.replace(MASK, tokenizer.mask_token)
        self._before = before
        self._after = after
        ids = self._encode([f"{before}{after}"])[0]
        # Settled on the template alone: its end has the same tokens after every text (checked in
        # `ids`), so the tail can be cut off by its length.
        if is_masked:
            # From the end: the template may spell out the tokenizer's mask before the text.
            from_the_end = ids[::-1].index(tokenizer.mask_token_id)
            named = len(ids) - 1 - from_the_end
        else:
            named = self._last_own_token()
        self.tail: list[int] = ids[named + 1 :]
        self.overhead = len(ids)

    def _last_own_token(self) -> int:
        """Index of the template's last token that the tokenizer did not add; -1 without any."""
        # Asked of the tokenizer: an unknown token of the template has a special token's id as well.
        added = self._tokenizer(f"{self._before}{self._after}", return_special_tokens_mask=True)
        is_special = np.array(added["special_tokens_mask"], bool)
        return int(np.flatnonzero(~is_special).max(initial=-1))

    def ids(
        self,
        texts: Sequence[str],
        max_length: int,
    ) -> tuple[list[list[int]], np.ndarray]:
        """Return the tokens of each text in its template, without the tail.

        With the tail there are at most `max_length`: a text is cut at its own end, and the template
        stays whole.

        Args:
            texts: to be put into the template.
            max_length: tokens, the tail included.

        Returns:
            Token ids of each text, and which texts were cut, bool [texts].

        Raises:
            UsageError: the template's end has other tokens after one of the texts.
        """
        filled = [self._before + text + self._after for text in texts]
        ids = self._encode(filled)
        truncated = np.array([len(whole) > max_length for whole in ids], bool)
        for index in np.flatnonzero(truncated).tolist():
            ids[index] = self._cut(texts[index], ids[index], max_length)
        # A tokenizer may merge the template's first letters with the text's last ones.
        for whole, text in zip(ids, texts, strict=True):
            tail = whole[len(whole) - len(self.tail) :]
            if tail != self.tail:
                raise UsageError(
                    rule="a template must end in the same tokens after every text",
                    got=f"{self.template!r} after {text[:40]!r}",
                    fix="Choose another --prompt.",
                )
        tail = len(self.tail)
        return [whole[: len(whole) - tail] for whole in ids], truncated

    def _cut(
        self,
        text: str,
        ids: list[int],
        max_length: int,
    ) -> list[int]:
        """The tokens of as much of a text as fits into its template; `ids` are those of all."""
        # What the template leaves to the text; `require_room` has seen to it that it is positive.
        room = max_length - self.overhead
        while len(ids) > max_length and room >= 0:
            kept = self._first_tokens(text, room)
            filled = self._before + kept + self._after
            ids = self._encode([filled])[0]
            # One less the next time: the text's last token and the template's next may be other
            # ones where they meet.
            room -= 1
        return ids

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer(
            list(texts),
            add_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]

    def _first_tokens(self, text: str, count: int) -> str:
        """The beginning of a text that its first `count` tokens stand for."""
        tokens = self._tokenizer(
            text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )
        ends = [end for _, end in tokens["offset_mapping"][:count]]
        return text[: max(ends, default=0)]


def _parts(name: str, template: str) -> tuple[str, str]:
    """A template before and after its text."""
    before, _, after = template.partition(TEXT)
    if template.count(TEXT) != 1 or after.count(MASK) > 1 or MASK in before:
        raise UsageError(
            rule=f"--prompt must be one of {', '.join(sorted(PROMPTS))}, or a template of your own"
            f" with one {TEXT}, and at most one {MASK} after it",
            got=name,
            fix=f"""Give for example --prompt prompteol, or --prompt '"{TEXT}" is about'.""",
        )
    return before, after
