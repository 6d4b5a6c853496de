"""What looks wrong with a run: pure checks of numbers, a line each; none stops anything."""

from __future__ import annotations

from glot_jax.health.before import large_states, missing_classes, small_selection
from glot_jax.health.finding import Finding
from glot_jax.health.learning import below_linear, grown_loss, not_learned

__all__ = [
    "Finding",
    "below_linear",
    "grown_loss",
    "large_states",
    "missing_classes",
    "not_learned",
    "small_selection",
]
