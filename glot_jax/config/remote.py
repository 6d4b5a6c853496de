"""Settings of what writes a store at a URL."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from glot_jax.config.base import Config
from glot_jax.config.location import Location, StoreUrl
from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class RemoteChoice(Config):
    """How a store at a URL is written."""

    scratch: Path | None = None
    """With --out URL: folder for the shards that are being written, before they are uploaded.
    Default: one in the user's cache.
    """
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
