"""`glot store`: a store looked at, checked or finished."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from glot_jax.config.store import StoreConfig
from glot_jax.errors import UsageError


def store(config: StoreConfig) -> int:
    """Look at a store, check its bytes against their hashes, or join workers' shards."""
    if config.action == "finish":
        return _finish(config.store)
    if config.action == "verify":
        return _verify(config.store)
    from glot_jax.store import describe

    print(json.dumps(describe(config.store), indent=2))
    return 0


def _finish(folder: Path) -> int:
    from glot_jax.store import finish

    manifest = finish(folder, lambda line: print(line, file=sys.stderr))
    print(f"{folder}: finished, content {manifest.content[:12]}", file=sys.stderr)
    return 0


def _verify(folder: Path) -> int:
    from glot_jax.store import verify

    bad = verify(folder)
    # Paths alone on stdout, one a line: they are meant for other programs.
    for path in bad:
        print(path)
    if not bad:
        print(f"{folder}: every file matches its hash", file=sys.stderr)
        return 0
    print(f"{folder}: {len(bad)} bad", file=sys.stderr)
    _explain(folder, Path(bad[0]))
    return 1


def _explain(folder: Path, bad: Path) -> None:
    """Say more about the first bad file where more is known.

    It may be a pointer of Git LFS, or a manifest that cannot be read.
    """
    from glot_jax.store import read_manifest
    from glot_jax.store.integrity import require_fetched

    try:
        require_fetched(bad)
        read_manifest(folder)
    except UsageError as error:
        # Not raised: the command has found what it looks for, and exits with 1, not with 2.
        print(f"{error}", file=sys.stderr)
