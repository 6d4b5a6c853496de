"""`glot store`: a store looked at, checked, finished or copied."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from glot_jax.config.location import Location, StoreUrl
from glot_jax.config.store import RemoteChoice, StoreConfig
from glot_jax.errors import UsageError


def store(config: StoreConfig) -> int:
    """Look at a store, check its bytes, join workers' shards, or copy it."""
    if config.action == "finish":
        return _finish(config)
    if config.action == "verify":
        return _verify(config.store)
    if config.action == "copy":
        return _copy(config)
    from glot_jax.store import describe

    print(json.dumps(describe(config.store), indent=2))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _finish(config: StoreConfig) -> int:
    location = config.store
    # obstore is loaded where a URL was given, and nowhere else.
    if isinstance(location, StoreUrl):
        from glot_jax.remote_stores import finish as finish_there

        choice = RemoteChoice(single_writer=config.single_writer)
        manifest = finish_there(location, _say, choice)
    else:
        from glot_jax.store import finish

        manifest = finish(location, _say)
    _say(f"{location}: finished, content {manifest.content[:12]}")
    return 0


def _copy(config: StoreConfig) -> int:
    # The settings have checked it; a type checker does not know.
    assert config.target is not None
    from glot_jax.remote_stores import copy

    choice = RemoteChoice(single_writer=config.single_writer)
    manifest = copy(config.store, config.target, _say, choice)
    _say(f"{config.target}: a copy of {config.store}, content {manifest.content[:12]}")
    return 0


def _verify(store: Location) -> int:
    bad = _bad_files(store)
    # Paths alone on stdout, one a line: they are meant for other programs.
    for path in bad:
        print(path)
    if not bad:
        _say(f"{store}: every file matches its hash")
        return 0
    _say(f"{store}: {len(bad)} bad")
    _explain(store, bad[0])
    return 1


def _bad_files(store: Location) -> list[str]:
    if isinstance(store, StoreUrl):
        # Its files are read and hashed, and not kept: it may be larger than this disk.
        from glot_jax.remote_stores import verify as verify_there

        return verify_there(store)
    from glot_jax.store import verify

    return verify(store)


def _explain(store: Location, bad: str) -> None:
    """Say more about the first bad file where more is known.

    It may be a pointer of Git LFS, or a manifest that cannot be read.
    """
    from glot_jax.store import read_manifest
    from glot_jax.store.integrity import require_fetched

    try:
        # Tools that put links and pointers in the place of files work on folders.
        if isinstance(store, Path):
            require_fetched(Path(bad))
        read_manifest(store)
    except UsageError as error:
        # Not raised: the command has found what it looks for, and exits with 1, not with 2.
        _say(f"{error}")
