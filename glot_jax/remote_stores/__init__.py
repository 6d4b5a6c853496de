"""Stores at URLs: written through a scratch folder, finished, checked and copied.

Their files have the names and bytes that they have in a folder, so a copy either way is a store.
"""

from glot_jax.remote_stores.copying import copy
from glot_jax.remote_stores.finishing import finish
from glot_jax.remote_stores.verifying import verify

__all__ = ["copy", "finish", "verify"]
