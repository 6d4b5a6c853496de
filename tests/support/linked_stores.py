"""Stores of links, as DVC and git-annex lay them out, and stores that workers have not finished."""

from __future__ import annotations

import shutil
from pathlib import Path

from glot_jax.store.layout import TEXT_FILES
from glot_jax.store.manifest import Manifest
from glot_jax.store.worker_plan import SplitPlan, WorkerPlan


def make_linked(store: Path, folder: Path) -> Path:
    """A copy of a store in `folder`/linked.

    Real folders, every file a link into `folder`/cache, which nobody may write to.
    """
    linked = Path(shutil.copytree(store, folder / "linked"))
    cache = folder / "cache"
    cache.mkdir()
    files = sorted(path for path in linked.rglob("*") if path.is_file())
    for number, file in enumerate(files):
        target = file.rename(cache / f"{number:02d}")
        target.chmod(0o444)
        file.symlink_to(target)
    return linked


def content(folder: Path) -> dict[str, bytes]:
    """Bytes by name below `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def plan_of(manifest: Manifest, probe: dict | None = None) -> WorkerPlan:
    """What the only worker would have said of this store."""
    splits = {}
    for name, split in manifest.splits.items():
        texts = []
        for shard in split.shards:
            texts.append(tuple(shard.files[file]["sha256"] for file in TEXT_FILES))
        splits[name] = SplitPlan(split.rows, tuple(texts), split.arrays, split.duplicates)
    return WorkerPlan(1, manifest.task, splits, probe)
