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

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import torch

from glot_jax.errors import UsageError
from glot_jax.extraction.blocks import LayerMap, map_layers

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

Passes = Literal["padded", "one length", "single texts"]
"""What may share a forward pass without changing a state: any texts, texts of one length, none."""


class Forward(Protocol):
    """One pass of a model over texts, padded to the longest on one side, row by row with the token
    of `fills`.

    Returns the model's outputs, with `last_hidden_state` [batch, length, dim].
    """

    def __call__(
        self,
        texts: Sequence[Sequence[int]],
        *,
        left: bool = False,
        positions: bool = False,
        fills: Sequence[int | None] = (),
    ) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Probe:
    """Findings about a backbone.

    Attributes:
        layers: where layers 0 .. L are.
        passes: what may share a forward pass.
        left: whether that pass is padded on the left.
        positions: whether position_ids have to be given with it.
        kind: decoder if no state depends on a later token, else encoder.
        changes: test -> largest change of a token's state, as a share of its norm.
        massive: layer -> position -> norm over the layer's median, for the massive states of the
            first text.
    """

    layers: LayerMap
    passes: Passes
    left: bool
    positions: bool
    kind: Literal["encoder", "decoder"]
    changes: dict[str, float]
    massive: dict[int, dict[int, float]]

    def summary(self, kind: str) -> str:
        """The findings in a line; `kind` is what the store will say, which may be the user's
        word.
        """
        said = "" if kind == self.kind else f" (measured: {self.kind})"
        states = set(self.layers.widths[:-1]) != {None}
        parts = [f"{kind}{said}"]
        if states:
            parts[0] += f", {len(self.layers.sources) - 1} blocks"
        if self.passes == "padded":
            parts.append(
                f"padding on the {'left' if self.left else 'right'} leaves its states as they are"
            )
        else:
            gap = self.changes["right padding"]
            share = {
                "one length": "texts of one length share a pass",
                "single texts": "each text has a pass of its own",
            }
            parts.append(
                f"padding changes its states by {gap:.2g} of their norm, so {share[self.passes]}"
            )
        if not states:
            parts.append("its inner layers have no state a token, so only the last can be stored")
        elif self.layers.blocks is not None:
            parts.append(
                "its hidden_states are not its blocks' outputs in order, so inner layers are read"
                " at the blocks"
            )
        elif not self.layers.verified:
            parts.append(
                "inner layers are its hidden_states, which could not be compared with its blocks"
            )
        if self.massive:
            layers = sorted(self.massive)
            largest = max(max(positions.values()) for positions in self.massive.values())
            places = sorted(
                {position for positions in self.massive.values() for position in positions}
            )
            parts.append(
                f"token {', '.join(map(str, places))} of a text has states of up to {largest:.0f}"
                f" times the median norm in layers {layers[0]} .. {layers[-1]} (attention sinks)"
            )
        return "; ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """What a manifest keeps of it, beside recipe and content. It does not depend on how the
        passes were asked for, and rounding (below 1e-6) is 0: the same extraction writes the same
        bytes.
        """
        cases = [
            "right padding",
            "what padding holds",
            "left padding",
            "equal length",
            "a later token",
        ]
        return {
            "kind": self.kind,
            "passes": self.passes,
            "changes": {
                case: _rounded(self.changes[case]) for case in cases if case in self.changes
            },
            "inner_layers": "blocks" if self.layers.blocks else "hidden_states",
            "inner_layers_compared": self.layers.verified,
            "massive": {
                str(layer): {
                    str(position): _rounded(ratio) for position, ratio in positions.items()
                }
                for layer, positions in self.massive.items()
            },
        }


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
        side: where the user wants padding. `auto`: on the right.
        takes_positions: whether the model's forward pass has position_ids.
        tolerance: of TOLERANCES.
        leak: of LEAKS.
        name: of the backbone, for messages.

    Raises:
        UsageError: padding on the left was asked for and changes states, or a text's states differ
            from pass to pass.
    """
    text, longer = texts
    other = [*text[:-1], _another(text)]
    layers, outputs = map_layers(model, lambda: forward([text]))
    alone = outputs.last_hidden_state[0]
    changes: dict[str, float] = {}

    def change(
        case: str, company: Sequence[Sequence[int]], *, left: bool = False, positions: bool = False
    ) -> bool:
        """Whether the text's states stay what they are in this company."""
        states = forward([text, *company], left=left, positions=positions).last_hidden_state[0]
        states = states[-len(text) :] if left else states[: len(text)]
        changes[case] = _change(alone, states)
        return changes[case] <= tolerance

    together = forward([text, other, text, longer], fills=(None, None, text[1], None))
    states = together.last_hidden_state[:, : len(text)]
    changes["right padding"] = _change(alone, states[0])
    # In one pass the same operations make both rows: what differs is no rounding, whatever the
    # dtype.
    changes["what padding holds"] = _change(states[0], states[2])
    changes["a later token"] = _change(states[0, :-1], states[1, :-1])
    # MobileBERT reads its neighbours' embeddings, and that of its own pad token is zero: it differs
    # and does not leak.
    reaches = changes["what padding holds"] > tolerance / 50
    right = changes["right padding"] <= (leak if reaches else tolerance)
    # Rounding does not cross from one token to another: what is causal changes by nothing, or next
    # to it.
    kind: Literal["encoder", "decoder"] = "encoder"
    if changes["a later token"] <= tolerance / 100:
        kind = "decoder"
    left = change("left padding", [longer], left=True)
    positions = False
    if not left and takes_positions and (right or side == "left"):
        positions = change("left padding with positions", [longer], left=True, positions=True)
        left = positions
    if side == "left" and not left:
        least = min(gap for case, gap in changes.items() if case.startswith("left"))
        raise UsageError(
            "left padding must leave the states of a text as they are",
            f"{name}, whose states change by {least:.2g} of their norm",
            "Use --padding-side right.",
        )
    passes: Passes = "padded"
    if not right:
        passes = "one length" if change("equal length", [other]) else "single texts"
    use_left = side == "left"
    if passes == "single texts" and not use_left and not change("a second pass", []):
        raise UsageError(
            "a frozen model must give a text the same states in every pass",
            f"{name}, whose states change by {changes['a second pass']:.2g} of their norm from pass"
            " to pass",
            "Choose another --backbone.",
        )
    massive = _massive(layers, outputs)
    if use_left:
        passes = "padded"
    return Probe(layers, passes, use_left, use_left and positions, kind, changes, massive)


def probe_texts(
    tokenize: Callable[[str], Sequence[int]], limit: int | None, vocabulary: int | None
) -> tuple[list[int], list[int]]:
    """Token ids of two texts for the probe, the second one longer by some.

    Args:
        tokenize: a text's ids, special tokens included.
        limit: of the model's positions; None if there is none.
        vocabulary: ids are below it; None if the model has no table of tokens.

    Raises:
        UsageError: the tokenizer gives ids that the model has no row for.
    """
    text, longer = (list(tokenize(sentence)) for sentence in (SENTENCE, LONGER))
    largest = max([*text, *longer], default=0)
    if vocabulary is not None and largest >= vocabulary:
        raise UsageError(
            f"tokens must be 0 .. {vocabulary - 1}, as many as the model has embeddings",
            f"id {largest} from the tokenizer",
            "Use the tokenizer that belongs to the model.",
        )
    # A tokenizer may know none of the words, or take the whole sentence for one.
    filler = [token for token in range(vocabulary or 256) if token > 5][:LONGEST]
    if len(text) < SHORTEST:
        text = [*text, *filler[: SHORTEST - len(text)]]
    text = text[: max(2, min(LONGEST, (limit or LONGEST) - 5))]
    longer = longer[: limit or len(longer)]
    if len(longer) < len(text) + 3:
        longer = [*text, *filler[:5]]
    return text, longer[: limit or len(longer)]


def _another(text: Sequence[int]) -> int:
    """A token of the text that is not its last; the next id where all are alike."""
    return next((token for token in reversed(text) if token != text[-1]), text[-1] + 1)


def _change(before: torch.Tensor, after: torch.Tensor) -> float:
    """Largest difference of a token's states [tokens, dim], as a share of its norm; inf where one
    is not finite.
    """
    difference = (before.float() - after.float()).norm(dim=-1)
    share = float((difference / before.float().norm(dim=-1).clamp_min(1e-12)).max())
    return share if np.isfinite(share) else float("inf")


def _massive(layers: LayerMap, outputs: Any) -> dict[int, dict[int, float]]:
    """Layer -> position -> norm over the median, where it exceeds MASSIVE; of the layers that are
    listed.
    """
    top = len(layers.sources) - 1
    listed = getattr(outputs, "hidden_states", None) or ()
    states = {top: outputs.last_hidden_state[0]}
    if layers.blocks is None:
        states |= {layer: listed[layer][0] for layer in range(top) if layers.widths[layer]}
    found = {}
    for layer in sorted(states):
        norms = states[layer].float().norm(dim=-1)
        ratios = norms / norms.median().clamp_min(1e-12)
        far = {
            int(position): float(ratios[position]) for position in torch.nonzero(ratios > MASSIVE)
        }
        if far:
            found[layer] = far
    return found


def _rounded(value: float) -> float | None:
    """Three digits, at most six decimals; None for what JSON has no number for."""
    return round(float(f"{value:.3g}"), 6) if np.isfinite(value) else None
