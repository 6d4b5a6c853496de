"""Settings of `glot store`, and of what writes a store at a URL."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from glot_jax.config.base import ARGUMENT, Config
from glot_jax.config.location import Location, StoreUrl
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
        # A second place that is not read would be a mistake that nobody sees.
        has_target = self.target is not None
        if has_target != (self.action == "copy"):
            second = "" if self.target is None else f" {self.target}"
            raise UsageError(
                rule="glot store copy STORE TARGET names two places, and nothing else does",
                got=f"glot store {self.action} {self.store}{second}",
                fix="Give for example glot store copy stores/cola s3://bucket/cola.",
            )


@dataclasses.dataclass(frozen=True)
class RemoteChoice(Config):
    """How a store at a URL is written."""

    # Not in the system's temporary folder: what waits there must survive a restart.
    scratch: Path | None = None
    """With --out URL: folder for the shards that are being written, before they are uploaded.
    Default: one in the user's cache.
    """
    # For those who want the store in a folder as well.
    keep_scratch: bool = False
    """With --out URL: keep the shards there when they are uploaded."""
    single_writer: bool = False
    """With --out URL: do not ask the service whether another process writes. For services that do
    not refuse what is there already; two writers then destroy one another's work.
    """

    def require_url(self, out: Location) -> None:
        """Check that these settings were given for a URL alone.

        Raises:
            UsageError: they were given for a folder.
        """
        if isinstance(out, StoreUrl):
            return
        # A folder's shards are written where they stay.
        given = []
        if self.scratch is not None:
            given.append("--scratch")
        if self.keep_scratch:
            given.append("--keep-scratch")
        if self.single_writer:
            given.append("--single-writer")
        if given:
            raise UsageError(
                rule="a scratch folder is for stores at a URL",
                got=f"{', '.join(given)} with --out {out}",
                fix="Leave it out, or give --out s3://bucket/name.",
            )
