"""Models of GGUF files, dequantised once and kept for the next time.

    ~/.cache/glot-jax/gguf/<sha256 of the file>-<version of transformers>-<of gguf>/
        config.json model.safetensors tokenizer.json ... glot_gguf.json

$GLOT_JAX_CACHE is another place than ~/.cache/glot-jax. An entry is there whole or not at all, one
process makes it, and its files are hashed again whenever it is read. Beyond $GLOT_JAX_CACHE_GB (64
gigabytes by default) those that were not used for longest are removed when a new one is made.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from pathlib import Path
from typing import Any

from glot_jax import disk
from glot_jax.backbone_files.gguf_header import read_header
from glot_jax.errors import UsageError
from glot_jax.files import (
    file_sha256,
    locked,
    make_private,
    most_bytes,
    read_json,
    user_cache,
    whole_folder,
    write_json,
)

RECORD = "glot_gguf.json"
_DEFAULT_GB = 64.0


def plain_folder(file: Path, sha256: str) -> tuple[Path, list[str]]:
    """Return the folder of the plain model of a GGUF file, and notices.

    Args:
        file: the GGUF file.
        sha256: of it.

    Raises:
        UsageError: the file cannot be read, or the cache not be written.
    """
    root = cache_folder()
    folder = root / _name(sha256)
    # Weights may be somebody's secret, and what others may write must not be loaded.
    make_private(root, "the cache of dequantised models")
    notices = []
    # Two commands that start together dequantise once.
    with locked(_lock_of(folder), wait=True):
        if folder.is_dir():
            damage = _damage(folder)
            if damage is None:
                # What was used last is removed last.
                os.utime(folder)
                return folder, []
            notices.append(f"{folder} was made again: {damage}")
            disk.remove(folder)
        _make(file, sha256, folder)
    _bound(root, keep=folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    notices.append(f"{file.name}: dequantised to float32 in {folder} ({size / 1e9:.1f} GB)")
    return folder, notices


def cached_folder(sha256: str) -> Path | None:
    """The folder of a file that was dequantised before, undamaged or not; None if there is none."""
    folder = cache_folder() / _name(sha256)
    return folder if folder.is_dir() else None


def cache_folder() -> Path:
    """The folder of all entries."""
    return user_cache("gguf")


def _name(sha256: str) -> str:
    # Both decide the numbers: the one how they are unpacked, the other which tensor they become.
    versions = [importlib.metadata.version(package) for package in ("transformers", "gguf")]
    return "-".join([sha256, *versions])


def _make(file: Path, sha256: str, folder: Path) -> None:
    # Before torch and transformers: most files that cannot be read end here.
    header = read_header(file)
    from glot_jax.backbone_files.gguf_model import write_plain_model

    with whole_folder(folder) as temporary:
        write_plain_model(file, header, temporary)
        files = {}
        for path in sorted(temporary.iterdir()):
            files[path.name] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
        record = {"name": file.name, "gguf": sha256, "files": files}
        write_json(temporary / RECORD, record)


def checked_folder(folder: Path) -> dict[str, Any]:
    """The record of an entry: `name` and sha256 (`gguf`) of its file, size and hash of its own.

    Raises:
        UsageError: the entry is not what was written.
    """
    with locked(_lock_of(folder), wait=True):
        damage = _damage(folder)
        if damage is not None:
            raise UsageError(
                rule="a cached model must be what was written",
                got=f"{folder}: {damage}",
                fix="Name its GGUF file: --backbone FILE.gguf.",
            )
        os.utime(folder)
        return read_json(folder / RECORD)


def _damage(folder: Path) -> str | None:
    """What is wrong with an entry; None if it is what was written."""
    try:
        record = read_json(folder / RECORD)
        files = record["files"]
        if folder.name != _name(record["gguf"]):
            return f"{RECORD} is of another file"
        for name, facts in files.items():
            path = folder / name
            # The size first, which costs nothing.
            if path.stat().st_size != facts["size"] or file_sha256(path) != facts["sha256"]:
                return f"{name} is not what was written"
    except (OSError, UsageError, KeyError, TypeError, AttributeError) as error:
        return f"it could not be read ({error})"
    others = {path.name for path in folder.iterdir()} - set(files) - {RECORD}
    # A file that somebody put beside them might be read in the place of one of ours.
    return f"{others.pop()} does not belong to it" if others else None


def _bound(root: Path, *, keep: Path) -> None:
    """Remove what was not used for longest, beyond the cache's size."""
    most = most_bytes("GLOT_JAX_CACHE_GB", _DEFAULT_GB)
    entries = []
    for folder in root.iterdir():
        if folder.is_dir():
            size = sum(path.stat().st_size for path in folder.iterdir())
            entries.append((folder.stat().st_mtime, size, folder))
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= most:
            return
        if folder == keep:
            continue
        # One that a process is making or checking right now is not the oldest for long.
        with contextlib.suppress(BlockingIOError), locked(_lock_of(folder), wait=False):
            disk.remove(folder)
            total -= size


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
