"""Settings of `glot store`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from glot_jax.config.base import Config, about


@dataclasses.dataclass(frozen=True)
class StoreConfig(Config):
    """Look at a store, check every byte of it against its hashes, or put it together from the
    shards of workers.
    """

    action: Literal["info", "verify", "finish"] = dataclasses.field(metadata=about(positional=True))
    """info: what it holds and what made it; verify: the path of each bad file, one a line, exit 1
    if any; finish: after extract.py --worker.
    """
    store: Path = dataclasses.field(metadata=about(positional=True))
    """Folder of the store."""
