"""The cache of the Hub's clients, laid out by hand: as if a repository had been downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from support.hub_repos import Kind, blob, read_folder


def lay_out_cache(
    hf_home: Path,
    name: str,
    folder: Path,
    commit: str,
    *,
    refs: Iterable[str] = ("main",),
    kind: Kind = "model",
    links: bool = True,
) -> Path:
    """Put the files of `folder` where clients look for `commit` of the repository `name`.

    `refs` are the branches and tags that the commit was downloaded by; none for a commit that was
    asked for by its hash. Without `links` the snapshot holds the files themselves, as on a disk
    that has no links. Returns the snapshot's folder.
    """
    repo = hf_home / "hub" / f"{kind}s--{name.replace('/', '--')}"
    snapshot = repo / "snapshots" / commit
    for path, content in read_folder(folder).items():
        target = snapshot / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not links:
            target.write_bytes(content)
            continue
        stored = repo / "blobs" / blob(path, content).etag
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(content)
        up = "../" * len(target.relative_to(repo).parts[:-1])
        target.symlink_to(f"{up}blobs/{stored.name}")
    for ref in refs:
        file = repo / "refs" / ref
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(commit)
    return snapshot
