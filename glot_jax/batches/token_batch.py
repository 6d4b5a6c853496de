"""`TokenBatch`: token states of a batch of rows, padded to one of a few fixed shapes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from glot_jax.errors import UsageError


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TokenBatch:
    """Rows of a store, padded to one of a few fixed shapes.

    The texts of a row are stacked, first texts of all rows, then second texts: a batch of 3 pairs
    has texts `a0 a1 a2 b0 b1 b2`, one shape for all of them.

    - `hidden`: [texts, length, dim], or [texts, length, layers, dim] of several layers; any float
      dtype, as stored; zeros where padded
    - `mask`: [texts, length] bool, True = real token, on whichever side the padding stands
    - `labels`: [batch] int32 classes or float32 scores (zeros where a task has none), or
      [batch, classes] uint8, 1 for every class of a row
    - `row_mask`: [batch] bool, False = a row that only fills the last, partial batch
    """

    hidden: Any  # not Array: transformations rebuild the pytree around what is no array
    mask: Any
    labels: Any
    row_mask: Any

    @classmethod
    def from_ragged(
        cls,
        states: np.ndarray | Sequence[np.ndarray],
        lengths: np.ndarray | Sequence[int],
        *,
        length: int | None = None,
        rows: int | None = None,
    ) -> TokenBatch:
        """Pad the states of texts of different lengths on the right, on the host.

        Each row has one text. Labels are zeros.

            batch = TokenBatch.from_ragged(states, [3, 5])  # states [8, dim] -> hidden [2, 5, dim]

        Args:
            states: [tokens, (layers,) dim], the texts one after the other; or one array [length,
                (layers,) dim] a text, at least one.
            lengths: tokens of each text.
            length: padded length; default: that of the longest text.
            rows: rows of the batch, those after the last text are empty; default: one a text.

        Raises:
            UsageError: `states` and `lengths` disagree, or the texts do not fit `length` or `rows`.
        """
        lengths = np.asarray(lengths, np.int64)
        longest = int(lengths.max(initial=0))
        if length is None:
            length = longest
        if rows is None:
            rows = len(lengths)
        if longest > length or len(lengths) > rows:
            raise UsageError(
                rule="a batch must have room for its texts",
                got=f"{len(lengths)} texts of up to {longest} tokens for {rows} x {length}",
                fix="Leave out length and rows, or make them larger.",
            )
        # Padding stands on the right here; what reads a batch must not rely on it.
        mask = np.zeros((rows, length), bool)
        position = np.arange(length)
        mask[: len(lengths)] = position < lengths[:, None]
        if isinstance(states, np.ndarray):
            hidden = _padded_tokens(states, mask)
        else:
            hidden = _padded_texts(states, lengths, mask.shape)
        labels = np.zeros(rows, np.int32)
        row_mask = np.arange(rows) < len(lengths)
        return cls(
            hidden=hidden,
            mask=mask,
            labels=labels,
            row_mask=row_mask,
        )


def _padded_tokens(
    states: np.ndarray,
    mask: np.ndarray,
) -> np.ndarray:
    """Padded states [rows, length, ...] of the tokens of all texts, one after the other."""
    if len(states) != mask.sum():
        raise UsageError(
            rule="the lengths of the texts must add up to the tokens there are",
            got=f"{mask.sum()} for {len(states)} tokens",
            fix="Give one length for each text.",
        )
    shape = (*mask.shape, *states.shape[1:])
    hidden = np.zeros(shape, states.dtype)
    # The mask is read row by row, which is the order of the tokens.
    hidden[mask] = states
    return hidden


def _padded_texts(
    states: Sequence[np.ndarray],
    lengths: np.ndarray,
    shape: tuple[int, ...],
) -> np.ndarray:
    """The same of an array a text: each is copied once, to where it ends up."""
    sizes = [len(text) for text in states]
    if len(sizes) == 0 or sizes != lengths.tolist():
        raise UsageError(
            rule="states and lengths must be of the same texts, at least one",
            got=f"{len(states)} arrays and {len(lengths)} lengths, which disagree",
            fix="Give one length for each text.",
        )
    # Known from the first text, even if it is empty.
    first = states[0]
    padded_shape = (*shape, *first.shape[1:])
    hidden = np.zeros(padded_shape, first.dtype)
    for row, text in enumerate(states):
        hidden[row, : len(text)] = text
    return hidden
