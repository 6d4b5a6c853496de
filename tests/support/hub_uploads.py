"""What the stand-in for the Hub does with uploads: create, preupload, LFS batch, commit."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs

from support.hub_faults import Reply, json_reply, refusal
from support.hub_http import Call
from support.hub_repos import LFS_SUFFIXES, MAIN, Blob, Commit, Kind, MissingRevisionError, Repo


class Uploads:
    """Content in large-file storage, and the endpoints that write.

    `repos` is the server's own table, which grows here.
    """

    def __init__(self, url: str, cdn_url: str, repos: dict[tuple[Kind, str], Repo]) -> None:
        self._url, self._cdn_url, self._repos = url, cdn_url, repos
        self.stored: dict[str, bytes] = {}
        """sha256 -> content."""

    def keep(self, commit: Commit) -> None:
        """Put the large files of a commit into storage."""
        self.stored.update({one.sha256: one.content for one in commit.values() if one.lfs})

    def store(self, sha256: str, content: bytes) -> Reply:
        """PUT of the basic transfer."""
        if hashlib.sha256(content).hexdigest() != sha256:
            return Reply(400, b"<Error><Code>BadDigest</Code></Error>", {})
        self.stored[sha256] = content
        return Reply(200, b"", {"ETag": f'"{sha256}"'})

    # ----------------------------------------------------------------------------------------------
    # Endpoints of no repository

    def answer(self, call: Call) -> Reply | None:
        """The reply, or None if the call is none of these."""
        parts = call.parts
        if parts == ["api", "whoami-v2"]:
            if call.token is None:
                return _refused()
            role = {"accessToken": {"displayName": "test", "role": "write"}}
            who = {"type": "user", "name": "tester", "fullname": "A Tester", "orgs": []}
            return json_reply({**who, "auth": role})
        if parts == ["api", "validate-yaml"]:
            return json_reply({"errors": [], "warnings": []})
        if parts == ["api", "repos", "create"]:
            return _refused() if call.token is None else self._create(json.loads(call.body))
        if parts[-4:] == ["info", "lfs", "objects", "batch"]:
            return _refused() if call.token is None else self._batch(json.loads(call.body))
        return None

    def _create(self, asked: dict[str, Any]) -> Reply:
        kind: Kind = asked.get("type") or "model"
        name = f"{asked.get('organization') or 'tester'}/{asked['name']}"
        url = f"{self._url}/{'datasets/' if kind == 'dataset' else ''}{name}"
        if (kind, name) in self._repos:
            message = f"You already created this {kind} repo: {name}"
            return json_reply({"error": message, "url": url}, 409)
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        repo = self._repos[kind, name] = Repo(kind, name, private)
        gitattributes = "".join(f"*{suffix} filter=lfs\n" for suffix in LFS_SUFFIXES)
        repo.commit({".gitattributes": Blob(gitattributes.encode(), lfs=False)})
        return json_reply({"url": url, "name": name, "id": name})

    def _batch(self, asked: dict[str, Any]) -> Reply:
        """Where large files are to be put; one that is there already has no action."""
        objects = []
        for one in asked["objects"]:
            entry: dict[str, Any] = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.stored:
                href = f"{self._cdn_url}/lfs/{one['oid']}?Signature=stand-in"
                entry["actions"] = {"upload": {"href": href}}
            objects.append(entry)
        told = {"transfer": "basic", "objects": objects}
        return json_reply(told, 200, {"Content-Type": "application/vnd.git-lfs+json"})

    # ----------------------------------------------------------------------------------------------
    # Endpoints of a repository

    def answer_repo(self, call: Call, repo: Repo, below: list[str]) -> Reply:
        if call.token is None:
            return _refused()
        if below[0] == "preupload":
            files = json.loads(call.body)["files"]
            modes = [{"path": one["path"], **_mode(one["path"])} for one in files]
            return json_reply({"files": modes})
        if below[0] == "commit":
            return self._commit(call, repo, below[1] if len(below) > 1 else MAIN)
        return json_reply({"error": "Not Found"}, 404)

    def _commit(self, call: Call, repo: Repo, branch: str) -> Reply:
        lines = [json.loads(line) for line in call.body.splitlines() if line.strip()]
        try:
            files = dict(repo.files(branch))
        except MissingRevisionError:
            return refusal(404, "RevisionNotFound", f"Invalid rev id: {branch}")
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header" and value.get("parentCommit") not in (None, repo.branches[branch]):
                return json_reply({"error": "A commit has happened since."}, 412)
            if key == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), lfs=False)
            if key == "lfsFile":
                if value["oid"] not in self.stored:
                    message = f"LFS pointer pointed to a file that does not exist: {value['path']}"
                    return json_reply({"error": message}, 400)
                files[value["path"]] = Blob(self.stored[value["oid"]], lfs=True)
            if key == "deletedFile":
                files.pop(value["path"], None)
            if key == "deletedFolder":
                gone = value["path"].rstrip("/") + "/"
                files = {path: one for path, one in files.items() if not path.startswith(gone)}
        sha = repo.commit(files, branch)
        prefix = "datasets/" if repo.kind == "dataset" else ""
        url = f"{self._url}/{prefix}{repo.id}/commit/{sha}"
        return json_reply({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    @staticmethod
    def form_paths(call: Call) -> list[str]:
        """Paths that paths-info is asked about, in a form or in JSON."""
        if "json" in call.headers.get("content-type", ""):
            return list(json.loads(call.body)["paths"])
        return parse_qs(call.body.decode()).get("paths", [])


def _mode(path: str) -> dict[str, Any]:
    mode = "lfs" if path.endswith(LFS_SUFFIXES) else "regular"
    return {"uploadMode": mode, "shouldIgnore": False, "oid": None}


def _refused() -> Reply:
    return json_reply({"error": "Invalid username or password."}, 401)
