"""Settings of `glot store`."""

from __future__ import annotations

import dataclasses
from typing import Literal

from glot_jax.config.base import ARGUMENT, Config
from glot_jax.config.location import Location
from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class StoreConfig(Config):
    """Look at a store, check every byte of it, put it together, or copy it.

    Bytes are checked against the store's hashes; it is put together from the shards of workers.
    """

    # One command with an action: each of them takes a store and nothing else.
    action: Literal["info", "verify", "finish", "copy"] = dataclasses.field(metadata=ARGUMENT)
    """info: what it holds and what made it; verify: the path of each bad file, one a line, exit 1
    if any; finish: after extract.py --worker; copy: to TARGET, where one of the two is a URL.
    """
    store: Location = dataclasses.field(metadata=ARGUMENT)
    """Folder of the store, or its URL."""
    target: Location | None = dataclasses.field(default=None, metadata=ARGUMENT)
    """copy: the new place, a folder or a URL. Default: none."""
    single_writer: bool = False
    """finish and copy, at a URL: do not ask the service whether another process writes."""

    def require_consistent(self) -> None:
        """Check that a copy has a place, and nothing else has."""
        if (self.target is not None) != (self.action == "copy"):
            second = "" if self.target is None else f" {self.target}"
            raise UsageError(
                rule="glot store copy STORE TARGET names two places, and nothing else does",
                got=f"glot store {self.action} {self.store}{second}",
                fix="Give for example glot store copy stores/cola s3://bucket/cola.",
            )
