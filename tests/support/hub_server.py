"""A stand-in for the Hugging Face Hub on this machine, for its real clients.

    with HubServer(tmp_path) as hub:
        first = hub.add_model("acme/tiny", folder)                      # a commit on main
        subprocess.run([...], env=hub.env(tmp_path / "hf"))             # HF_ENDPOINT and the rest
        second = hub.add_model("acme/tiny", other_folder)               # main moves on
        hub.spoil("acme/tiny", cut(1000), file="model.safetensors", host="cdn", times=1)
        assert hub.leaks() == []

Three ports: the Hub (http://127.0.0.1:A), the content delivery network where large files lie
(http://localhost:B, another host), and a proxy that stands for everywhere else: whatever a client
asks of any other host arrives there and is written down. Of large-file storage only the basic
transfers exist, so clients get HF_HUB_DISABLE_XET=1: Xet's own servers speak a protocol of compiled
clients, which is not stood in for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TypedDict
from urllib.parse import quote

from support.hub_faults import Fault, Faults, Reply, Rule, json_reply, refusal
from support.hub_http import Call, Log, Request, Server, ranged
from support.hub_repos import MAIN, Kind, MissingRevisionError, Repo, blobs, read_folder
from support.hub_uploads import Uploads

TOKEN = "hf_secretsecretsecretsecretsecret"
_KINDS: dict[str, Kind] = {"models": "model", "datasets": "dataset"}
_ENDPOINTS = ("revision", "tree", "paths-info", "refs", "preupload", "commit")
_CLIENT_PREFIXES = ("HF_", "HUGGING", "TRANSFORMERS_", "DATASETS_", "HTTP_PROXY", "HTTPS_PROXY")


class Where(TypedDict, total=False):
    """Which answers `HubServer.spoil` means."""

    file: str
    host: str
    method: str


class HubServer:
    """Repositories, uploads and faults behind the Hub's HTTP protocol; see the module.

    `requests()` is the log. `url` and `cdn_url` are what clients see of the two servers.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.faults = Faults()
        self._repos: dict[tuple[Kind, str], Repo] = {}
        self._renamed: dict[tuple[Kind, str], str] = {}
        self._log = Log()
        self._hub = Server("hub", self._answer_hub, self._log)
        self._cdn = Server("cdn", self._answer_cdn, self._log)
        self._elsewhere = Server("elsewhere", self._answer_elsewhere, self._log)
        self.url = f"http://127.0.0.1:{self._hub.port}"
        self.cdn_url = f"http://localhost:{self._cdn.port}"
        self.uploads = Uploads(self.url, self.cdn_url, self._repos)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Nobody is there any more: connections are refused."""
        for server in (self._hub, self._cdn, self._elsewhere):
            server.stop()

    # ----------------------------------------------------------------------------------------------
    # What a test puts there

    def add_model(
        self, name: str, folder: Path, branch: str = MAIN, *, private: bool = False
    ) -> str:
        """Commit the folder's files, and nothing else, to a branch; the commit."""
        return self.add("model", name, read_folder(folder), branch, private=private)

    def add_dataset(self, name: str, files: Mapping[str, bytes], branch: str = MAIN) -> str:
        return self.add("dataset", name, files, branch)

    def add(
        self,
        kind: Kind,
        name: str,
        files: Mapping[str, bytes],
        branch: str = MAIN,
        *,
        private: bool = False,
    ) -> str:
        """Commit these files, and nothing else, to a branch of a new or old repository."""
        repo = self._repos.setdefault((kind, name), Repo(kind, name, private))
        sha = repo.commit(blobs(files), branch)
        self.uploads.keep(repo.commits[sha])
        return sha

    def repo(self, name: str, kind: Kind = "model") -> Repo:
        return self._repos[kind, name]

    def move_branch(self, name: str, commit: str, branch: str = MAIN, kind: Kind = "model") -> None:
        """Put a branch, new or old, on a commit that is there."""
        repo = self.repo(name, kind)
        repo.branches[branch] = repo.resolve(commit)

    def tag(self, name: str, tag: str, commit: str, kind: Kind = "model") -> None:
        repo = self.repo(name, kind)
        repo.tags[tag] = repo.resolve(commit)

    def rename(self, old: str, new: str, kind: Kind = "model") -> None:
        """The old name goes on to work, by redirects: `gpt2` became `openai-community/gpt2`."""
        self._repos[kind, new] = self._repos.pop((kind, old))
        self._repos[kind, new].id = new
        self._renamed[kind, old] = new

    def spoil(
        self,
        name: str,
        fault: Fault,
        *,
        file: str | None = None,
        host: str | None = None,
        method: str | None = None,
        skip: int = 0,
        times: int | None = None,
    ) -> None:
        """Have answers about a repository go wrong.

        `file` is a pattern of paths; calls of the API have the paths api/info, api/tree and so on.
        `host` is hub or cdn. The first `skip` answers are right, `times` wrong ones follow.
        """
        self.faults.add(Rule(name, fault, file, host, method, skip, times))

    # ----------------------------------------------------------------------------------------------
    # What a test gets

    def env(
        self, hf_home: Path | None = None, token: str | None = TOKEN, **more: str
    ) -> dict[str, str]:
        """Environment of a process that knows this Hub and no other, its cache under `hf_home`."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith((*_CLIENT_PREFIXES, "NO_PROXY", "ALL_PROXY"))
        }
        elsewhere = f"http://127.0.0.1:{self._elsewhere.port}"
        return {
            **kept,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(hf_home or self.home / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            **({"HF_TOKEN": token} if token else {}),
            # Whoever is not this Hub or its network of storage is asked through the proxy.
            "HTTP_PROXY": elsewhere,
            "HTTPS_PROXY": elsewhere,
            "NO_PROXY": "127.0.0.1,localhost",
            **more,
        }

    def requests(
        self, server: str | None = None, method: str | None = None, path: str = ""
    ) -> list[Request]:
        """Entries of the log: of one server, of one method, with `path` somewhere in theirs."""
        return [
            one
            for one in self._log.all()
            if server in (None, one.server) and method in (None, one.method) and path in one.path
        ]

    def forget(self) -> None:
        """Empty the log."""
        self._log.clear()

    def leaks(self, secret: str = TOKEN) -> list[Request]:
        """Requests that carried the token, or any Authorization, to somebody who is not the Hub.

        datasets asks datasets-server.HUB about a dataset: that is the Hub's own.
        """
        own = f"datasets-server.127.0.0.1:{self._hub.port}"
        return [
            one
            for one in self._log.all()
            if one.server != "hub"
            and one.host != own
            and (one.holds(secret) or "authorization" in one.headers)
        ]

    # ----------------------------------------------------------------------------------------------
    # The Hub

    def _answer_hub(self, call: Call) -> Reply:
        if call.token not in (None, TOKEN):
            message = "Invalid credentials in Authorization header"
            return json_reply({"error": message}, 401, {"X-Error-Message": message})
        parts = call.parts
        general = self.uploads.answer(call)
        if general is not None:
            return general
        if parts[:2] == ["api", "resolve-cache"] and len(parts) > 4 and parts[2] in _KINDS:
            return self._cached(call, _KINDS[parts[2]], parts[3:])
        if len(parts) > 2 and parts[0] == "api" and parts[1] in _KINDS:
            return self._api(call, _KINDS[parts[1]], parts[2:])
        kind: Kind = "dataset" if parts[:1] == ["datasets"] else "model"
        rest = parts[1:] if kind == "dataset" else parts
        if "resolve" in rest[1:3]:
            at = rest.index("resolve", 1)
            if len(rest) > at + 2:
                name, revision, file = "/".join(rest[:at]), rest[at + 1], "/".join(rest[at + 2 :])
                return self._resolve(call, kind, name, revision, file)
        return json_reply({"error": "Sorry, we can't find the page you are looking for."}, 404)

    def _api(self, call: Call, kind: Kind, parts: list[str]) -> Reply:
        """/api/models/ID and what is below it; ID has one part or two."""
        size = 1 if len(parts) == 1 or parts[1] in _ENDPOINTS else 2
        name, below = "/".join(parts[:size]), parts[size:] or ["info"]
        found = self._find(call, kind, name)
        if isinstance(found, Reply):
            return found
        reply = self._repo_api(call, found, below)
        reply = self.uploads.answer_repo(call, found, below) if reply is None else reply
        return self.faults.spoil(reply, name, f"api/{below[0]}", "hub", call.method)

    def _repo_api(self, call: Call, repo: Repo, below: list[str]) -> Reply | None:
        if below[0] == "refs":
            return json_reply(repo.refs())
        if below[0] not in ("info", "revision", "tree", "paths-info"):
            return None
        revision = below[1] if len(below) > 1 else MAIN
        try:
            sha = repo.resolve(revision)
        except MissingRevisionError:
            return _no_revision(revision)
        if below[0] == "tree":
            recursive = call.query.get("recursive", "").lower() == "true"
            entries = repo.tree(sha, "/".join(below[2:]), recursive)
            return _no_entry("/".join(below[2:]), sha) if entries is None else json_reply(entries)
        if below[0] == "paths-info":
            return json_reply(repo.entries(sha, self.uploads.form_paths(call)))
        return json_reply(repo.info(sha))

    def _find(self, call: Call, kind: Kind, name: str) -> Repo | Reply:
        if (kind, name) in self._renamed:
            new = self._renamed[kind, name]
            at = call.path.replace(f"/{name}/", f"/{new}/", 1)
            at = at if at != call.path else at.replace(f"/{name}", f"/{new}", 1)
            return Reply(307, b"", {"Location": at})
        repo = self._repos.get((kind, name))
        if repo is None or (repo.private and call.token is None):
            # Whether a private repository is there is nobody's business: the answers are the same.
            status = 404 if call.token else 401
            message = "Repository not found" if call.token else "Invalid username or password."
            return refusal(status, "RepoNotFound", message)
        return repo

    def _resolve(self, call: Call, kind: Kind, name: str, revision: str, file: str) -> Reply:
        """/ID/resolve/REVISION/FILE: where the file lies, with its commit and its hash."""
        repo = self._find(call, kind, name)
        if isinstance(repo, Reply):
            return repo
        try:
            sha = repo.resolve(revision)
        except MissingRevisionError:
            reply = _no_revision(revision)
        else:
            reply = self._located(repo, sha, file)
        # Of a small file this is a redirect within the Hub, and what it leads to can go wrong.
        small = reply.status == 307
        return reply if small else self.faults.spoil(reply, name, file, "hub", call.method)

    def _located(self, repo: Repo, sha: str, file: str) -> Reply:
        one = repo.commits[sha].get(file)
        if one is None:
            return _no_entry(file, sha)
        linked = {
            "X-Repo-Commit": sha,
            "X-Linked-Etag": f'"{one.etag}"',
            "X-Linked-Size": str(len(one.content)),
            "Accept-Ranges": "bytes",
        }
        if one.lfs:
            # A signed address: whoever has it needs no token.
            place = f"{repo.kind}s/{repo.id}/{one.sha256}/{quote(file)}?Signature=stand-in"
            return Reply(302, b"", {**linked, "Location": f"{self.cdn_url}/{place}"})
        place = f"/api/resolve-cache/{repo.kind}s/{repo.id}/{sha}/{quote(file)}"
        return Reply(307, b"", {**linked, "Location": place})

    def _cached(self, call: Call, kind: Kind, parts: list[str]) -> Reply:
        size = 1 if (kind, parts[0]) in self._repos else 2
        name, sha, file = "/".join(parts[:size]), parts[size], "/".join(parts[size + 1 :])
        found = self._find(call, kind, name)
        if isinstance(found, Reply):
            return found
        one = found.commits[sha][file]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{one.etag}"', "Accept-Ranges": "bytes"}
        reply = ranged(Reply(200, one.content, headers), call.headers.get("range"))
        return self.faults.spoil(reply, name, file, "hub", call.method)

    # ----------------------------------------------------------------------------------------------
    # The other hosts

    def _answer_cdn(self, call: Call) -> Reply:
        """Large files by their hash: GET models/ID/SHA256/FILE, PUT lfs/SHA256."""
        parts = call.parts
        if call.method == "PUT" and parts[:1] == ["lfs"]:
            return self.uploads.store(parts[1], call.body)
        size = next((at for at, part in enumerate(parts) if part in self.uploads.stored), None)
        if size is None:
            return Reply(403, b"<Error><Code>AccessDenied</Code></Error>", {})
        name, sha256, file = "/".join(parts[1:size]), parts[size], "/".join(parts[size + 1 :])
        headers = {"ETag": f'"{sha256}"', "Accept-Ranges": "bytes"}
        reply = ranged(Reply(200, self.uploads.stored[sha256], headers), call.headers.get("range"))
        return self.faults.spoil(reply, name, file, "cdn", call.method)

    def _answer_elsewhere(self, call: Call) -> Reply:
        """Whatever any other host was asked for: there is nothing, and no way through."""
        return Reply(403 if call.method == "CONNECT" else 404, b"", {})


def _no_revision(revision: str) -> Reply:
    return refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def _no_entry(file: str, sha: str) -> Reply:
    """The commit is named all the same: clients note that it lacks the file."""
    return refusal(404, "EntryNotFound", f"Entry not found: {file}", sha)
