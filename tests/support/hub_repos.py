"""Repositories as the Hub keeps them: blobs, commits, branches, tags. Nothing speaks HTTP here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["model", "dataset"]
LFS_SUFFIXES = (".safetensors", ".bin", ".parquet", ".npy", ".onnx", ".arrow", ".gguf")
"""What .gitattributes of a new repository sends to large-file storage."""
MAIN = "main"


class MissingRevisionError(KeyError):
    """No branch, tag or commit has that name."""


@dataclass(frozen=True)
class Blob:
    """The content of a file, with the names that git and large-file storage have for it."""

    content: bytes
    lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git itself holds of a large file."""
        head = "version https://git-lfs.github.com/spec/v1"
        return f"{head}\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()

    @property
    def oid(self) -> str:
        """Git's name of the blob; of a large file, that of its pointer."""
        stored = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


def blob(path: str, content: bytes) -> Blob:
    """The blob that a file of this name becomes."""
    return Blob(content, path.endswith(LFS_SUFFIXES))


def read_folder(folder: Path) -> dict[str, bytes]:
    """Content of every file under `folder`, by its path in a repository."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


Commit = dict[str, Blob]
"""Path -> blob."""


@dataclass
class Repo:
    """A model or dataset with its history. Commits are never lost, whatever the branches do."""

    kind: Kind
    id: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Commit, branch: str | None = MAIN) -> str:
        """Add a commit and put `branch` on it; the commit's hash."""
        parent = self.branches.get(branch or "", "")
        listing = json.dumps([self.id, parent, {path: file.oid for path, file in files.items()}])
        # Equal files twice are two commits, as with git, whose commits carry their time.
        sha = hashlib.sha1(f"{listing}{len(self.commits)}".encode()).hexdigest()
        self.commits[sha] = dict(files)
        if branch is not None:
            self.branches[branch] = sha
        return sha

    def resolve(self, revision: str) -> str:
        """The commit of a branch, a tag, or a commit's hash. MissingRevisionError if it is none."""
        known = {**{sha: sha for sha in self.commits}, **self.tags, **self.branches}
        if revision not in known:
            raise MissingRevisionError(revision)
        return known[revision]

    def files(self, revision: str) -> Commit:
        return self.commits[self.resolve(revision)]

    # ----------------------------------------------------------------------------------------------
    # As the API tells them

    def info(self, sha: str) -> dict[str, Any]:
        """Answer of /api/models/ID and /api/datasets/ID."""
        return {
            "_id": self.id,
            "id": self.id,
            "modelId": self.id,
            "sha": sha,
            "private": self.private,
            "gated": False,
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z",
            "siblings": [{"rfilename": path} for path in sorted(self.commits[sha])],
        }

    def tree(self, sha: str, folder: str, recursive: bool) -> list[dict[str, Any]] | None:
        """Entries under `folder` ("" for the whole), or None if there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        inside = {path: file for path, file in self.commits[sha].items() if path.startswith(prefix)}
        if folder and not inside:
            return None
        folders = {parent for path in inside for parent in _parents(path) if parent != folder}
        names = [*({path for path in folders if path.startswith(prefix)} | set(inside))]
        direct = [path for path in names if "/" not in path[len(prefix) :]]
        return self.entries(sha, sorted(names if recursive else direct))

    def entries(self, sha: str, paths: Iterable[str]) -> list[dict[str, Any]]:
        """Files and folders of these names; what is not there is left out, as by paths-info."""
        commit = self.commits[sha]
        folders = {parent for path in commit for parent in _parents(path)}
        found = []
        for path in paths:
            if path in commit:
                found.append(_file_entry(path, commit[path]))
            elif path in folders:
                oid = hashlib.sha1(path.encode()).hexdigest()
                found.append({"type": "directory", "path": path, "oid": oid, "size": 0})
        return found

    def refs(self) -> dict[str, Any]:
        """Answer of /api/models/ID/refs."""
        branches = [_ref("heads", name, sha) for name, sha in self.branches.items()]
        tags = [_ref("tags", name, sha) for name, sha in self.tags.items()]
        return {"branches": branches, "tags": tags, "converts": []}


def _ref(where: str, name: str, sha: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{where}/{name}", "targetCommit": sha}


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _file_entry(path: str, one: Blob) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "oid": one.oid, "size": len(one.content)}
    if one.lfs:
        size = len(one.content)
        entry["lfs"] = {"oid": one.sha256, "size": size, "pointerSize": len(one.pointer)}
    return entry


def blobs(files: Mapping[str, bytes]) -> Commit:
    """The files of a commit from their contents."""
    return {path: blob(path, content) for path, content in files.items()}
