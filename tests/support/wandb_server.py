"""A server on loopback that takes what `wandb sync` sends, and keeps it."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple


class Received(NamedTuple):
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[Received] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, format, *args):
        del format, args

    def _take(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert isinstance(self.server, _Server)
        self.server.received.append(Received(self.path, dict(self.headers), body))
        return body

    def _answer(self, values: object) -> None:
        content = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_PUT(self):
        self._take()
        self._answer({})

    def do_POST(self):
        body = self._take()
        if not self.path.endswith("/graphql"):
            # The stream of a run's lines.
            self._answer({"limits": {}})
            return
        asked = json.loads(body)
        self._answer({"data": self._data(asked["query"], asked.get("variables") or {})})

    def _data(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        assert isinstance(self.server, _Server)
        if "upsertBucket" in query:
            project = {"id": "UHJv", "name": "glot-jax", "entity": {"id": "RW50", "name": "me"}}
            bucket = {
                "id": "QnVja2V0",
                "name": variables.get("name"),
                "displayName": "run",
                "description": "",
                "config": "{}",
                "sweepName": None,
                "historyLineCount": 0,
                "project": project,
            }
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            files = [
                {"name": name, "uploadUrl": f"{self.server.address}/upload/{name}"}
                for name in variables.get("files", [])
            ]
            return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}
        return {"model": None, "viewer": {"id": "1", "username": "me", "entity": "me"}}


@contextlib.contextmanager
def wandb_server() -> Iterator[_Server]:
    """The server, as long as the block lasts."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def history_of(received: list[Received]) -> list[dict[str, Any]]:
    """The lines of the curve, in the order in which they came."""
    lines = []
    for request in received:
        if request.path.endswith("/file_stream"):
            history = json.loads(request.body).get("files", {}).get("wandb-history.jsonl", {})
            lines += [json.loads(line) for line in history.get("content", [])]
    return lines
