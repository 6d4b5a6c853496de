"""`Size`: what counts the entries of an axis."""

from __future__ import annotations

from typing import Any, TypeAlias

# JAX has no public class of symbolic dimensions, and annotates its own functions in this way.
Size: TypeAlias = int | Any
"""An int, or a symbolic dimension of jax.export, which stands for every int that its constraints
allow. Arithmetic works on both; a comparison that the constraints do not decide raises
jax.errors.InconclusiveDimensionOperation.
"""
