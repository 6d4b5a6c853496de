"""Token states of texts of different lengths, and their padded form."""

from __future__ import annotations

import dataclasses

import numpy as np

from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class RaggedStates:
    """Token states of some texts, one text after the other, without padding.

    Worked out: two texts of 3 and 5 tokens with layers 0 and 6 of 384 dimensions have
    `layers[0]` and `layers[6]` of [8, 384]; rows 0 .. 2 are the first text's, rows 3 .. 7 the
    second's. `padded(6)` returns states [2, 5, 384], zero in the last two rows of the first text,
    and a mask [2, 5].
    """

    token_ids: list[list[int]]
    """Ids of each text's tokens, special tokens included."""
    layers: dict[int, np.ndarray]
    """Layer -> float32 [sum of lengths, dim]."""

    @property
    def lengths(self) -> np.ndarray:
        """int64 [texts]: tokens of each text."""
        lengths = [len(ids) for ids in self.token_ids]
        return np.array(lengths, np.int64)

    def layer(self, layer: int | None = None) -> np.ndarray:
        """Return the states of one layer, float32 [sum of lengths, dim].

        Args:
            layer: which; it may be left out where there is only one.

        Raises:
            UsageError: there is no such layer, or there are several to choose from.
        """
        # Most backbones are asked for one layer, which then needs no name.
        if layer is None and len(self.layers) == 1:
            return next(iter(self.layers.values()))
        if layer is None or layer not in self.layers:
            raise UsageError(
                rule="layer must be one of the layers that were extracted",
                got=layer,
                fix=f"Give one of {', '.join(map(str, self.layers))}.",
            )
        return self.layers[layer]

    def split(self, layer: int | None = None) -> list[np.ndarray]:
        """Return the states of each text, float32 [length, dim]; `layer` as for `layer`."""
        # The last end is the array's own: np.split takes the places between parts.
        ends = np.cumsum(self.lengths)
        return np.split(self.layer(layer), ends[:-1])

    def padded(self, layer: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the states as a batch, padded on the right; `layer` as for `layer`.

        Returns:
            States float32 [texts, length, dim], zero where padded, and mask bool [texts, length],
            True at real tokens. `length` is that of the longest text.
        """
        lengths = self.lengths
        states = self.layer(layer)
        # `initial` for no texts at all, which are a batch of no rows and no columns.
        positions = np.arange(lengths.max(initial=0))
        mask = positions < lengths[:, None]
        dim = states.shape[-1]
        hidden = np.zeros((*mask.shape, dim), np.float32)
        hidden[mask] = states
        return hidden, mask
