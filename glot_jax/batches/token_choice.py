"""Which tokens of a text take part: those that are neither skipped nor attention sinks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Shaped


@dataclasses.dataclass(frozen=True)
class TokenChoice:
    """The tokens that graph and pooler see; the others are padding to them.

    A text that would lose all its tokens keeps them.
    """

    skip_first: int = 0
    """The first so many tokens of every text are left out."""
    sink_limits: tuple[float | None, ...] | None = None
    """Of each layer that is read, the norm above which a state is a sink and left out (see
    glot_jax.store.norms); None where a layer has none. Where layers are mixed, a token is left out
    that is a sink in any of them. None: no sink is left out.
    """

    @property
    def takes_all(self) -> bool:
        """Whether every token of every text takes part."""
        limits = self.sink_limits or ()
        return self.skip_first == 0 and all(limit is None for limit in limits)

    def to_json(self) -> dict[str, Any]:
        """What differs from taking all; empty where nothing does."""
        values: dict[str, Any] = {}
        if self.skip_first:
            values["skip_first"] = self.skip_first
        if self.sink_limits is not None:
            values["sink_limits"] = list(self.sink_limits)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TokenChoice:
        """What `to_json` returned; the choice of older runs, which has neither key, takes all."""
        limits = values.get("sink_limits")
        return cls(
            skip_first=values.get("skip_first", 0),
            sink_limits=None if limits is None else tuple(limits),
        )

    def __call__(
        self,
        hidden: Shaped[Array, "*batch length layers_and_dim"],
        mask: Bool[Array, "*batch length"],
    ) -> Bool[Array, "*batch length"]:
        """Return the mask of the tokens that take part.

        Args:
            hidden: states as stored, [*batch, length, dim], or [*batch, length, layers, dim] where
                layers are mixed.
            mask: True at real tokens.
        """
        chosen = self._choose(jnp, hidden, mask)
        return jnp.where(jnp.any(chosen, axis=-1, keepdims=True), chosen, mask)

    def of_text(self, states: np.ndarray) -> np.ndarray:
        """Return the states that statistics are taken of, in NumPy.

        They are those that take part; of a text that keeps what it has because nothing else would
        be left, none: they tell nothing of what is usual.

        Args:
            states: of one text, [length, dim] or [length, layers, dim].
        """
        if self.takes_all:
            return states
        return states[self._choose(np, states, np.ones(len(states), bool))]

    def _choose(self, xp: ModuleType, hidden: Any, mask: Any) -> Any:  # noqa: ANN401 - of either
        """The tokens that are not left out; of some texts there may be none."""
        chosen = mask
        if self.skip_first:
            # By rank, not by place: padding may stand on the left.
            rank = xp.cumsum(mask, axis=-1) - 1
            chosen = mask & (rank >= self.skip_first)
        for layer, limit in enumerate(self.sink_limits or ()):
            if limit is None:
                continue
            # One layer that is not mixed has no axis of layers.
            states = hidden[..., layer, :] if hidden.ndim == mask.ndim + 2 else hidden
            # In float32: the square of a float16 above 255 is infinite in float16.
            squares = xp.square(states.astype(xp.float32))
            norm = xp.sqrt(xp.sum(squares, axis=-1))
            chosen = chosen & ~(norm > limit)
        return chosen


EVERY_TOKEN = TokenChoice()
"""Nothing is left out."""
