"""A small HTTP server whose every request is written down: calls come in, replies go out."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

from support.hub_faults import Reply
from support.typed import of_kind


@dataclass(frozen=True)
class Call:
    """A request as the server's routes see it."""

    method: str
    path: str
    """As sent: still quoted, with its query."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def parts(self) -> list[str]:
        """Parts of the path; a slash within a part (refs%2Fpr%2F1) separates nothing."""
        return [unquote(part) for part in urlsplit(self.path).path.split("/") if part]

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}

    @property
    def token(self) -> str | None:
        """Of the Authorization header."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None


@dataclass(frozen=True)
class Request:
    """An entry of the log."""

    server: str
    """hub, cdn or elsewhere."""
    method: str
    path: str
    headers: Mapping[str, str]
    status: int

    @property
    def host(self) -> str:
        """Host and port that the client meant, as it wrote them."""
        return self.headers.get("host", "")

    def holds(self, secret: str) -> bool:
        """Whether the secret was sent, in the path or a header."""
        return any(secret in text for text in (self.path, *self.headers.values()))


class Log:
    """Requests in the order of their answers."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._lock = threading.Lock()

    def add(self, request: Request) -> None:
        with self._lock:
            self._requests.append(request)

    def all(self) -> list[Request]:
        with self._lock:
            return list(self._requests)

    def clear(self) -> None:
        with self._lock:
            self._requests.clear()


def ranged(reply: Reply, asked: str | None) -> Reply:
    """The part of a file that a Range header asks for."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", asked or "")
    if not match or reply.status != 200 or match.groups() == ("", ""):
        return reply
    size = len(reply.body)
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    if start >= size:
        return Reply(416, b"", {**reply.headers, "Content-Range": f"bytes */{size}"})
    headers = {**reply.headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return Reply(206, reply.body[start:end], headers)


class Server:
    """Threads behind a port of 127.0.0.1.

    `answer` makes the reply to a call; it runs in many threads at once.
    """

    def __init__(self, name: str, answer: Callable[[Call], Reply], log: Log) -> None:
        self.name, self.answer, self.log = name, answer, log
        self.stopping = threading.Event()
        self._http = _HttpServer(self)
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Refuse connections from now on, and drop those that are open."""
        if not self.stopping.is_set():
            self.stopping.set()
            self._http.shutdown()
            self._http.server_close()
            self._http.drop_connections()


Accepted = socket.socket | tuple[bytes, socket.socket]
"""A connection; the pair is what a server of UDP would get."""


class _HttpServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    # Clients open a connection per thread, all at once.
    request_queue_size = 64

    def __init__(self, owner: Server) -> None:
        self.owner = owner
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Accepted, client_address: object) -> None:
        self._open.add(of_kind(request, socket.socket))
        super().process_request(request, client_address)

    def shutdown_request(self, request: Accepted) -> None:
        self._open.discard(of_kind(request, socket.socket))
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        for connection in list(self._open):
            # The other side may have closed it already.
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is killed, or has waited long enough, just goes."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: without this the second waits for the first one's answer.
    disable_nagle_algorithm = True

    def handle_any(self) -> None:
        owner = cast(_HttpServer, self.server).owner
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.command, self.path, headers, self._read_body(headers))
        reply = owner.answer(call)
        owner.log.add(Request(owner.name, call.method, call.path, headers, reply.status))
        if reply.stall and owner.stopping.wait(reply.stall):
            self.close_connection = True
            return
        self._send(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_CONNECT = handle_any

    def _read_body(self, headers: Mapping[str, str]) -> bytes:
        if "chunked" not in headers.get("transfer-encoding", ""):
            return self.rfile.read(int(headers.get("content-length") or 0))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
            self.send_header(name, value)
        if reply.cut is not None:
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body[: reply.cut])
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """The log is a list, not a stream."""
