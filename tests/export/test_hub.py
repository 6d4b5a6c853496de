"""Uploads: what reaches the Hub, and what it refuses."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

pytest.importorskip("sentence_transformers", reason="the extra `export` is not installed")

from support.exported_heads import fresh_python

from glot_jax.errors import UsageError
from glot_jax.export import export_hub
from glot_jax.export.glot_pooling import FILES

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# One process makes the runs and folders that these tests share.
pytestmark = pytest.mark.xdist_group("export")


class Api:
    """What export_hub asks of huggingface_hub.HfApi."""

    def __init__(self, *, private: bool = True, error: Exception | None = None):
        self.private, self.error, self.uploads = private, error, []

    def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> SimpleNamespace:
        del private, exist_ok
        if self.error:
            raise self.error
        return SimpleNamespace(repo_id=name)

    def repo_info(self, _name: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def upload_folder(
        self, *, repo_id: str, folder_path: Path, commit_message: str
    ) -> SimpleNamespace:
        assert commit_message
        self.uploads.append((repo_id, {path.name for path in Path(folder_path).iterdir()}))
        return SimpleNamespace(oid="1" * 40, repo_url=f"https://hub/{repo_id}")


def upload(
    api: Api, folder: Path, name: str, *, private: bool = True, backbone: str | None = None
) -> dict[str, Any]:
    """`export_hub` with a stand-in for its client."""
    client = cast("HfApi", api)
    return export_hub(folder, name, private=private, backbone=backbone, api=client)


@pytest.mark.usefixtures("exported")
def test_a_folder_or_a_run_is_uploaded(place):
    api = Api()
    done = upload(api, place / "st-bert", "me/glot")
    assert done == {
        "repository": "me/glot",
        "private": True,
        "commit": "1" * 40,
        "url": "https://hub/me/glot",
    }
    upload(api, place / "run-bert", "me/glot", backbone=str(place / "bert"))
    assert len(api.uploads) == 2
    assert api.uploads[0] == api.uploads[1]
    assert {"README.md", *FILES, "modules.json", "1_GlotPooling"} <= api.uploads[0][1]


@pytest.mark.usefixtures("exported")
def test_a_folder_gets_no_head_by_being_uploaded(place):
    with pytest.raises(UsageError, match="a folder that was exported with it; got .*st-bert"):
        export_hub(place / "st-bert", "me/glot", with_head=True)


@pytest.mark.usefixtures("exported")
def test_what_the_hub_refuses_is_said(place, tmp_path):
    public = Api(private=False)
    with pytest.raises(UsageError, match="me/glot, which is public"):
        upload(public, place / "st-bert", "me/glot")
    assert not public.uploads
    upload(public, place / "st-bert", "me/glot", private=False)
    assert len(public.uploads) == 1
    with pytest.raises(UsageError, match="me/glot: 403 forbidden.*hf auth login"):
        upload(Api(error=OSError("403 forbidden\nmore")), place / "st-bert", "me/glot")
    with pytest.raises(UsageError, match="a/b/c"):
        export_hub(place / "st-bert", "a/b/c")
    with pytest.raises(UsageError, match="expected a run folder"):
        upload(Api(), tmp_path, "me/glot")


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as an upload of small files needs.

    What was committed is kept in `files`.
    """

    files: dict[str, bytes]
    created: list[dict[str, Any]]

    def log_message(self, format: str, *args: object) -> None: ...

    def answer(self, values: object) -> None:
        body = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer(
            {
                "id": "me/glot",
                "modelId": "me/glot",
                "private": True,
                "sha": "0" * 40,
                "siblings": [],
                "tags": [],
            }
        )

    def do_POST(self) -> None:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            body = b"".join(chunks)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            self.created.append(json.loads(body))
            self.answer(
                {
                    "url": f"http://{self.headers['Host']}/me/glot",
                    "id": "me/glot",
                    "name": "me/glot",
                }
            )
        elif "/preupload/" in self.path:
            self.answer(
                {
                    "files": [
                        {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(
                {
                    "success": True,
                    "commitOid": "2" * 40,
                    "commitUrl": f"http://{self.headers['Host']}/me/glot/commit/{'2' * 40}",
                }
            )
        else:
            self.answer({"errors": [], "warnings": []})


@pytest.mark.usefixtures("exported")
def test_an_upload_over_http_brings_every_file(place, tmp_path):
    """By the real client, in a process that is not offline, to a server on this machine."""
    handler = type("Handler", (Hub,), {"files": {}, "created": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = (
        "import json, sys; from glot_jax.export import export_hub;"
        " print(json.dumps(export_hub(sys.argv[1], 'me/glot')))"
    )
    try:
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_TOKEN": "of-nobody",
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_XET": "1",
        }
        done = json.loads(fresh_python(code, str(place / "st-bert"), **environment))
    finally:
        server.shutdown()
        server.server_close()
    assert (done["repository"], done["commit"], done["private"]) == ("me/glot", "2" * 40, True)
    assert handler.created[0]["visibility"] == "private"
    folder = place / "st-bert"
    assert handler.files == {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
