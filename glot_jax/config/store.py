"""Settings of `glot store`."""

from __future__ import annotations

import dataclasses
from typing import Literal

from glot_jax.config.base import ARGUMENT, Config
from glot_jax.config.location import Location


@dataclasses.dataclass(frozen=True)
class StoreConfig(Config):
    """Look at a store, check every byte of it, or put it together.

    Bytes are checked against the store's hashes; it is put together from the shards of workers.
    """

    # One command with an action: each of them takes a store and nothing else.
    action: Literal["info", "verify", "finish"] = dataclasses.field(metadata=ARGUMENT)
    """info: what it holds and what made it; verify: the path of each bad file, one a line, exit 1
    if any; finish: after extract.py --worker.
    """
    store: Location = dataclasses.field(metadata=ARGUMENT)
    """Folder of the store, or its URL."""
