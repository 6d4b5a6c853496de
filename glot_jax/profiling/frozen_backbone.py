"""The frozen backbone beside which heads are timed.

Random texts of one length, their real states, and the time of a forward pass.

Forward passes are those of extraction, copies to and from the device included. All times are of
this machine, in milliseconds, and it has to be idle: torch's threads wait for one another, so other
work slows the forward pass many times more than graph and head, and the shares come out too small
with narrow spreads. Records and tables therefore name the load.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.profiling.timing import Timing, time_latency

if TYPE_CHECKING:
    from glot_jax.extraction import Backbone


@dataclasses.dataclass(frozen=True)
class StateBatch:
    """Token states of texts of one length."""

    hidden: np.ndarray
    """float32 [texts, length, dim]"""
    mask: np.ndarray
    """bool [texts, length], True everywhere: no text is padded."""


def load_per_core() -> float:
    """Processes that run or wait to, over the last minute, for each of the machine's cores."""
    # The shortest of the three averages: what ran a while ago disturbs nothing now.
    one_minute, _, _ = os.getloadavg()
    # Python may not know the number of cores.
    return one_minute / (os.cpu_count() or 1)


def load_frozen(
    backbone: str,
    lengths: Sequence[int],
    repeats: int,
) -> Backbone:
    """Load a backbone for texts of these lengths.

    Args:
        backbone: name on the Hub or a local folder.
        lengths: in tokens.
        repeats: of each measurement.

    Raises:
        UsageError: no length or a length below 1, no repeat, a length beyond the backbone's
            positions, or a backbone that cannot be run.
    """
    if len(lengths) == 0 or min(lengths) < 1:
        raise UsageError(
            rule="texts must have a length of at least 1 token",
            got=list(lengths),
            fix="Give for example 128.",
        )
    # Before the model is looked for, which may take minutes.
    if repeats < 1:
        raise UsageError(
            rule="a time must be measured at least once",
            got=repeats,
            fix="Give for example 20.",
        )
    from glot_jax.extraction import Backbone

    # As a default a length may exceed the model's positions; `max_length` is then all that it has.
    frozen = Backbone(
        ExtractConfig(
            backbone=backbone,
            task="custom",
            out=Path("unwritten"),
        ),
        default_max_length=max(128, *lengths),
    )
    if max(lengths) > frozen.max_length:
        raise UsageError(
            rule=f"texts of {frozen.source.name} must have at most {frozen.max_length} tokens,"
            " the positions that it has",
            got=f"a length of {max(lengths)}",
            fix=f"Give {frozen.max_length} or less.",
        )
    return frozen


def time_forward(
    frozen: Backbone,
    ids: Sequence[np.ndarray],
    repeats: int,
) -> Timing:
    """Time one forward pass over these texts."""
    return time_latency(lambda: frozen.states(ids), repeats)


def states_of(frozen: Backbone, ids: Sequence[np.ndarray]) -> StateBatch:
    """States of the last layer for texts of one length."""
    texts = len(ids)
    length = len(ids[0])
    # One length and no padding: flat states fall into equal rows.
    states = frozen.states(ids).layers[frozen.layers[0]]
    hidden = states.reshape(texts, length, frozen.dim)
    mask = np.ones((texts, length), bool)
    return StateBatch(hidden, mask)


def random_texts(
    frozen: Backbone,
    texts: int,
    length: int,
    seed: int,
) -> list[np.ndarray]:
    """Token ids [length] of each text, drawn evenly from the vocabulary."""
    vocabulary = set(frozen.tokenizer.get_vocab().values())
    # Not the special ones: RoBERTa counts positions by the pad token.
    ids = sorted(vocabulary - set(frozen.tokenizer.all_special_ids))
    # From a sorted list, because a set has no order: equal seeds must draw equal texts.
    rng = np.random.default_rng(seed)
    return list(rng.choice(np.asarray(ids), (texts, length)))


def ms_text(milliseconds: float) -> str:
    """Three decimals of a short time, one of a long one."""
    if milliseconds < 10:
        return f"{milliseconds:.3f}"
    return f"{milliseconds:,.1f}"


def timing_text(timing: Timing) -> str:
    """`median (25 %–75 %)`."""
    low, high = timing.spread_ms
    return f"{ms_text(timing.median_ms)} ({ms_text(low)}–{ms_text(high)})"
