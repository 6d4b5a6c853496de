"""What was found out about a backbone by running it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np

from glot_jax.backbones.blocks import LayerMap

Passes = Literal["padded", "one length", "single texts"]
"""What may share a forward pass without changing a state: any texts, texts of one length, none."""

RIGHT_PADDING = "right padding"
PAD_TOKENS = "what padding holds"
LEFT_PADDING = "left padding"
LEFT_WITH_POSITIONS = "left padding with positions"
EQUAL_LENGTH = "equal length"
LATER_TOKEN = "a later token"
SECOND_PASS = "a second pass"
"""Names of the cases in which a text's states are compared with those that it has alone."""
_STORED_CASES = (RIGHT_PADDING, PAD_TOKENS, LEFT_PADDING, EQUAL_LENGTH, LATER_TOKEN)
"""Those that a manifest keeps. The others depend on how passes were asked for."""
_SHARES = {
    "one length": "texts of one length share a pass",
    "single texts": "each text has a pass of its own",
}


@dataclasses.dataclass(frozen=True)
class Probe:
    """Findings about a backbone.

    Attributes:
        layers: where layers 0 .. L are.
        passes: what may share a forward pass.
        left: whether that pass is padded on the left.
        positions: whether position_ids have to be given with it.
        kind: decoder if no state depends on a later token, else encoder.
        changes: case -> largest change of a token's state, as a share of its norm.
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
        """Return the findings in a line.

        Args:
            kind: what the store will say, which may be the user's word.
        """
        parts = [self._kind_part(kind), self._padding_part()]
        layers = self._layers_part()
        if layers is not None:
            parts.append(layers)
        if self.massive:
            parts.append(self._massive_part())
        return "; ".join(parts)

    @property
    def _has_inner_states(self) -> bool:
        """Whether layers before the last have one state a token."""
        return set(self.layers.widths[:-1]) != {None}

    def _kind_part(self, kind: str) -> str:
        part = kind
        # The user's word is taken, and the measurement said beside it.
        if kind != self.kind:
            part += f" (measured: {self.kind})"
        # Without inner states the number of blocks would be a guess.
        if self._has_inner_states:
            part += f", {len(self.layers.sources) - 1} blocks"
        return part

    def _padding_part(self) -> str:
        # With left padding asked for, right padding may change states: it is not used.
        if self.passes == "padded":
            side = "left" if self.left else "right"
            return f"padding on the {side} leaves its states as they are"
        # The measured change, so that the user can judge it.
        gap = self.changes[RIGHT_PADDING]
        return f"padding changes its states by {gap:.2g} of their norm, so {_SHARES[self.passes]}"

    def _layers_part(self) -> str | None:
        if not self._has_inner_states:
            return "its inner layers have no state a token, so only the last can be stored"
        if self.layers.blocks is not None:
            return (
                "its hidden_states are not its blocks' outputs in order, so inner layers are read"
                " at the blocks"
            )
        # Its blocks were not found, or are more or fewer than the list.
        if not self.layers.verified:
            return "inner layers are its hidden_states, which could not be compared with its blocks"
        return None

    def _massive_part(self) -> str:
        layers = sorted(self.massive)
        positions: set[int] = set()
        largest = 0.0
        for ratios in self.massive.values():
            positions |= set(ratios)
            # Of all layers together: the line is about the model, not about one layer.
            largest = max(largest, *ratios.values())
        return (
            f"token {', '.join(map(str, sorted(positions)))} of a text has states of up to"
            f" {largest:.0f} times the median norm in layers {layers[0]} .. {layers[-1]} (attention"
            " sinks)"
        )

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest keeps of the findings, beside recipe and content.

        It does not depend on how the passes were asked for, and rounding (below 1e-6) is 0: the
        same extraction writes the same bytes.
        """
        changes = {
            case: _rounded(self.changes[case]) for case in _STORED_CASES if case in self.changes
        }
        # JSON has strings for keys, and no infinity.
        massive = {}
        for layer, ratios in self.massive.items():
            rounded = {}
            for token, ratio in ratios.items():
                rounded[str(token)] = _rounded(ratio)
            massive[str(layer)] = rounded
        return {
            "kind": self.kind,
            "passes": self.passes,
            "changes": changes,
            "inner_layers": "blocks" if self.layers.blocks else "hidden_states",
            "inner_layers_compared": self.layers.verified,
            "massive": massive,
        }


def _rounded(value: float) -> float | None:
    """Three digits, at most six decimals; None for what JSON has no number for."""
    return round(float(f"{value:.3g}"), 6) if np.isfinite(value) else None
