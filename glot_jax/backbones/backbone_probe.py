"""What a backbone does, found out by running it when it is loaded, in at most five short passes.

| question | how it is asked |
| --- | --- |
| where are its layers? | its blocks are watched: `blocks.map_layers` |
| does padding change a text's states, on either side? | a text alone, and beside a longer one |
| does it matter what padding holds? | a text beside a longer one, padded with two tokens in turn |
| does company alone change them? | a text beside another one of its length |
| does an earlier token see a later one? | the last token is exchanged |
| which tokens' states are much longer? | norms of the text's states, layer by layer |

What it says is kept in a store's manifest and printed; only what changes stored bytes is part of
the recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
import torch

from glot_jax.backbones.blocks import LayerMap, Outputs, map_layers
from glot_jax.backbones.probe_findings import (
    EQUAL_LENGTH,
    LATER_TOKEN,
    LEFT_PADDING,
    LEFT_WITH_POSITIONS,
    PAD_TOKENS,
    RIGHT_PADDING,
    SECOND_PASS,
    Passes,
    Probe,
)
from glot_jax.errors import UsageError

SENTENCE = (
    "The old lighthouse keeper wrote a letter to his daughter, and nobody has answered it since."
)
LONGER = (
    f"{SENTENCE} It lies on the table by the window, under a stone that he found as a child on the"
    " beach."
)
"""Two texts whose tokens are passed through a backbone: ordinary words, the second begins with the
first.
"""
SHORTEST, LONGEST = 8, 24
"""Tokens of the first text, at least and at most."""
TOLERANCES = {"float32": 2e-4, "bfloat16": 1e-1, "float16": 2e-2}
"""Compute dtype -> largest change of a token's state, as a share of its norm, that is rounding."""
LEAKS = {"float32": 2e-4, "bfloat16": 3e-2, "float16": 4e-3}
"""The same where it is known that what padding holds reaches the text: then a change is rounding
only below this.
"""
MASSIVE = 10.0
"""A state is massive if its norm exceeds this many times the median of its layer (attention sinks).
"""


class Forward(Protocol):
    """One pass of a model over texts, padded to the longest on one side.

    `fills` has a token for the padding of each row, or None for the pad token.
    """

    def __call__(
        self,
        texts: Sequence[Sequence[int]],
        *,
        left: bool = False,
        positions: bool = False,
        fills: Sequence[int | None] = (),
    ) -> Outputs:
        """Return the model's outputs, with `last_hidden_state` [batch, length, dim]."""
        ...


def probe_backbone(
    model: torch.nn.Module,
    forward: Forward,
    texts: tuple[Sequence[int], Sequence[int]],
    *,
    side: Literal["auto", "left", "right"],
    takes_positions: bool,
    tolerance: float,
    leak: float,
    name: str,
) -> Probe:
    """Run the probe.

    Args:
        model: whose blocks are watched.
        forward: runs it.
        texts: token ids of `probe_texts`.
        side: where the user wants padding; `auto` is on the right.
        takes_positions: whether the model's forward pass has position_ids.
        tolerance: of TOLERANCES.
        leak: of LEAKS.
        name: of the backbone, for messages.

    Raises:
        UsageError: padding on the left was asked for and changes states, or a text's states differ
            from pass to pass.
    """
    # The first pass is alone and unpadded: what it gives is the truth that the others are compared
    # with.
    layers, outputs = map_layers(model, lambda: forward([texts[0]]))
    comparison = _Comparison(forward, texts, outputs.last_hidden_state[0], tolerance)
    comparison.run_together()
    right = comparison.right_padding_is_free(leak)
    kind = comparison.kind()
    left = comparison.stays(LEFT_PADDING, [comparison.longer], left=True)
    # Left padding is measured even where it is not used: the manifest keeps what was found.
    positions = False
    # GPT-2 and its kin number tokens from the left edge, so padding there shifts their positions.
    if not left and takes_positions and (right or side == "left"):
        positions = comparison.stays(
            LEFT_WITH_POSITIONS, [comparison.longer], left=True, positions=True
        )
        left = positions
    changes = comparison.changes
    if side == "left" and not left:
        # With positions or without them, whichever came closer.
        gaps = []
        for case, gap in changes.items():
            if case.startswith(LEFT_PADDING):
                gaps.append(gap)
        least = min(gaps)
        raise UsageError(
            rule="left padding must leave the states of a text as they are",
            got=f"{name}, whose states change by {least:.2g} of their norm",
            fix="Use --padding-side right.",
        )
    passes: Passes = "padded"
    if not right:
        # A leak that stays where all texts have one length comes from the texts, not from padding.
        passes = "single texts"
        if comparison.stays(EQUAL_LENGTH, [comparison.other]):
            passes = "one length"
    if side == "left":
        passes = "padded"
    elif passes == "single texts" and not comparison.stays(SECOND_PASS, []):
        raise UsageError(
            rule="a frozen model must give a text the same states in every pass",
            got=f"{name}, whose states change by {changes[SECOND_PASS]:.2g} of their norm from pass"
            " to pass",
            fix="Choose another --backbone.",
        )
    return Probe(
        layers=layers,
        passes=passes,
        left=side == "left",
        positions=side == "left" and positions,
        kind=kind,
        changes=changes,
        massive=_massive(layers, outputs),
    )


class _Comparison:
    """Compares the states that a text has alone with those that it has in company.

    Attributes:
        other: a text of the same length, whose last token is another one.
        longer: a longer text.
        changes: case -> largest change of a token's state, as a share of its norm.
    """

    def __init__(
        self,
        forward: Forward,
        texts: tuple[Sequence[int], Sequence[int]],
        alone: torch.Tensor,
        tolerance: float,
    ):
        self._forward = forward
        self._text, self.longer = texts
        last = _another(self._text)
        self.other = [*self._text[:-1], last]
        self._alone = alone
        self._tolerance = tolerance
        self.changes: dict[str, float] = {}

    def run_together(self) -> None:
        """Ask three questions in one pass: the text twice, another one, and a longer one."""
        text = self._text
        # The third row is padded with one of the text's own tokens instead of the pad token.
        rows = [text, self.other, text, self.longer]
        fills = (None, None, text[1], None)
        together = self._forward(rows, fills=fills)
        states = together.last_hidden_state[:, : len(text)]
        self.changes[RIGHT_PADDING] = _change(self._alone, states[0])
        # In one pass the same operations make both rows: what differs is no rounding, whatever the
        # dtype.
        self.changes[PAD_TOKENS] = _change(states[0], states[2])
        # The exchanged token itself, the last one, is left out.
        earlier = states[:, :-1]
        self.changes[LATER_TOKEN] = _change(earlier[0], earlier[1])

    def right_padding_is_free(self, leak: float) -> bool:
        # MobileBERT reads its neighbours' embeddings, and that of its own pad token is zero: it
        # differs and does not leak.
        reaches = self.changes[PAD_TOKENS] > self._tolerance / 50
        allowed = leak if reaches else self._tolerance
        return self.changes[RIGHT_PADDING] <= allowed

    def kind(self) -> Literal["encoder", "decoder"]:
        # Rounding does not cross from one token to another: what is causal changes by nothing, or
        # next to it.
        if self.changes[LATER_TOKEN] <= self._tolerance / 100:
            return "decoder"
        return "encoder"

    def stays(
        self,
        case: str,
        company: Sequence[Sequence[int]],
        *,
        left: bool = False,
        positions: bool = False,
    ) -> bool:
        """Whether the text's states stay what they are in this company."""
        texts = [self._text, *company]
        outputs = self._forward(texts, left=left, positions=positions)
        states = outputs.last_hidden_state[0]
        length = len(self._text)
        # Its own tokens only, wherever the padding stands.
        states = states[-length:] if left else states[:length]
        self.changes[case] = _change(self._alone, states)
        return self.changes[case] <= self._tolerance


def probe_texts(
    tokenize: Callable[[str], Sequence[int]],
    limit: int | None,
    vocabulary: int | None,
) -> tuple[list[int], list[int]]:
    """Return the token ids of two texts for the probe, the second one longer.

    Args:
        tokenize: a text's ids, special tokens included.
        limit: of the model's positions; None if there is none.
        vocabulary: ids are below it; None if the model has no table of tokens.

    Raises:
        UsageError: the tokenizer gives ids that the model has no row for.
    """
    text = list(tokenize(SENTENCE))
    longer = list(tokenize(LONGER))
    # Before any pass: outside the table most models end in an IndexError without a name.
    largest = max([*text, *longer], default=0)
    if vocabulary is not None and largest >= vocabulary:
        raise UsageError(
            rule=f"tokens must be 0 .. {vocabulary - 1}, as many as the model has embeddings",
            got=f"id {largest} from the tokenizer",
            fix="Use the tokenizer that belongs to the model.",
        )
    # A tokenizer may know none of the words, or take the whole sentence for one.
    tokens = range(vocabulary or 256)
    filler = [token for token in tokens if token > 5][:LONGEST]
    if len(text) < SHORTEST:
        text = [*text, *filler[: SHORTEST - len(text)]]
    # Five tokens less than there is room for: the longer text has to have some more.
    longest = min(LONGEST, (limit or LONGEST) - 5)
    text = text[: max(2, longest)]
    longer = longer[:limit]
    if len(longer) < len(text) + 3:
        longer = [*text, *filler[:5]]
    return text, longer[:limit]


def _another(text: Sequence[int]) -> int:
    """A token of the text that is not its last; the next id where all are alike."""
    others = (token for token in reversed(text) if token != text[-1])
    return next(others, text[-1] + 1)


def _change(before: torch.Tensor, after: torch.Tensor) -> float:
    """Largest difference of a token's states [tokens, dim], as a share of its norm.

    It is inf where a state is not finite.
    """
    before = before.float()
    difference = (before - after.float()).norm(dim=-1)
    # The smallest norm only keeps a state of zeros from dividing by it.
    norms = before.norm(dim=-1).clamp_min(1e-12)
    share = float((difference / norms).max())
    return share if np.isfinite(share) else float("inf")


def _massive(layers: LayerMap, outputs: Outputs) -> dict[int, dict[int, float]]:
    """Layer -> position -> norm over the median, where it exceeds MASSIVE.

    Only layers that the model lists are looked at.
    """
    top = len(layers.sources) - 1
    listed = getattr(outputs, "hidden_states", None) or ()
    states = {}
    # Where layers are read at the blocks, the list holds other tensors.
    if layers.blocks is None:
        for layer in range(top):
            if layers.widths[layer]:
                states[layer] = listed[layer][0]
    states[top] = outputs.last_hidden_state[0]
    massive = {}
    for layer, tokens in states.items():
        norms = tokens.float().norm(dim=-1)
        # The median, not the mean: one massive token would raise the mean itself.
        ratios = norms / norms.median().clamp_min(1e-12)
        positions = torch.nonzero(ratios > MASSIVE)
        if len(positions):
            massive[layer] = {}
            for position in positions:
                massive[layer][int(position)] = float(ratios[position])
    return massive
