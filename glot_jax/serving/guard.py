"""What stands between a connection and the application: key, size and patience.

    uvicorn -> Guard -> FastAPI

An ASGI application around another one. It reads the body itself, as much as is allowed, and hands
it on whole; while the inner one works it watches the client, and stops the work when that has left.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, MutableMapping
from typing import Any

from glot_jax.config.serve import KEY_VARIABLE, ServeConfig
from glot_jax.serving.measures import Measures
from glot_jax.serving.refusals import Refusal

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

VANISHED = 499
"""What logs and counters call a request that nobody waits for any more, as nginx does."""

logger = logging.getLogger("glot_jax.serving")


class ClientGoneError(Exception):
    """Nobody waits for the answer."""


class Guard:
    """Lets requests through that have the key and are of a size that is read.

    Whatever is raised behind it is one line in the log, with the name of its class, and an answer
    that says no more.

    Args:
        app: what answers.
        config: limits.
        measures: are counted into.
        key: that requests must have; None for all.
        routes: paths that may be named in logs.
        keyless: paths that are answered without the key.
    """

    def __init__(
        self,
        app: Application,
        config: ServeConfig,
        measures: Measures,
        *,
        key: str | None,
        routes: Iterable[str],
        keyless: Iterable[str],
    ):
        self._app = app
        self._config = config
        self._measures = measures
        self._digest = None if key is None else _digest(key.encode())
        self._routes = frozenset(routes)
        self._keyless = frozenset(keyless)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request; what is no request (start and end) goes on as it is."""
        # lifespan, which has neither a path nor an answer.
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = time.perf_counter()
        # A path is what a client wrote, and may be anything.
        route = scope["path"] if scope["path"] in self._routes else "other"
        answer = _Answer(send)
        try:
            await self._answer(scope, receive, answer)
        except ClientGoneError:
            # Whatever was begun: it did not arrive.
            answer.status = VANISHED
            self._measures.vanished.inc()
        except Refusal as refusal:
            await answer.refuse(refusal)
        except asyncio.CancelledError:
            # The grace after SIGTERM is over.
            await answer.refuse(_STOPPED)
        except Exception as error:
            logger.error("%s: %s", route, type(error).__name__)
            await answer.refuse(_OUR_MISTAKE)
        seconds = time.perf_counter() - begin
        self._measures.requests.labels(route, str(answer.status)).inc()
        self._measures.seconds.labels(route).observe(seconds)
        # Probes ask all day.
        if self._config.log_requests and route not in self._keyless:
            logger.info("%s %s %d %.0f ms", _method(scope), route, answer.status, 1000 * seconds)

    async def _answer(self, scope: Message, receive: Receive, answer: _Answer) -> None:
        headers = list(scope["headers"])
        if scope["path"] not in self._keyless:
            self._require_key(headers)
        body = await self._body(headers, receive)
        # What is behind needs no limits of its own, and no second reader of the connection.
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_whole() -> Message:
            if messages:
                return messages.pop()
            return {"type": "http.disconnect"}

        await _while_connected(self._app(scope, receive_whole, answer.send), receive, answer)

    def _require_key(self, headers: Headers) -> None:
        if self._digest is None:
            return
        # The last of several, where a proxy has put its own behind the client's.
        sent = b""
        for name, value in headers:
            if name == b"authorization":
                sent = value
        scheme, _, key = sent.partition(b" ")
        # Digests are of one length: neither the time nor the number of bytes tells of the key.
        is_right = hmac.compare_digest(_digest(key.strip()), self._digest)
        if scheme.lower() != b"bearer" or not is_right:
            raise Refusal(
                401,
                rule="a request must have the server's key",
                got="none" if not sent else "another one",
                fix=f"Send the header Authorization: Bearer KEY, with the server's"
                f" ${KEY_VARIABLE}.",
            )

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """The whole body, which is not parsed here.

        Raises:
            Refusal: too long, or too slow.
            ClientGoneError: it ended before its end.
        """
        limit = self._config.max_body_bytes
        for name, value in headers:
            # Before a byte of it is read.
            if name == b"content-length" and int(value) > limit:
                raise _too_long(limit)
        # A length may be missing or wrong: what has come is counted as well.
        body = bytearray()
        try:
            async with asyncio.timeout(self._config.client_seconds):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGoneError
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
                    if len(body) > limit:
                        raise _too_long(limit)
        except TimeoutError as error:
            raise Refusal(
                408,
                rule=f"a body must arrive within {self._config.client_seconds:g} seconds",
                got=f"{len(body)} bytes",
                fix="Send it again.",
            ) from error
        return bytes(body)


class _Answer:
    """Sends an answer, and remembers how far it is."""

    def __init__(self, send: Send):
        self._send = send
        self.status = VANISHED
        self.is_begun = False
        self.is_whole = False

    async def send(self, message: Message) -> None:
        """Send a part of it."""
        # Before it is sent: an error on the way must not begin a second answer.
        if message["type"] == "http.response.start":
            self.is_begun = True
            self.status = message["status"]
        elif not message.get("more_body", False):
            self.is_whole = True
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Send that there is none, unless some of it was sent."""
        if self.is_begun:
            return
        body = json.dumps(refusal.body).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        if refusal.status == 401:
            headers["www-authenticate"] = "Bearer"
        if refusal.status == 408:
            # The rest of the body would be taken for the next request.
            headers["connection"] = "close"
        headers |= refusal.headers
        await self.send(
            {
                "type": "http.response.start",
                "status": refusal.status,
                "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
            }
        )
        await self.send({"type": "http.response.body", "body": body})


async def _while_connected(
    work: Coroutine[Any, Any, None] | Awaitable[None], receive: Receive, answer: _Answer
) -> None:
    """Do some work, and drop it when the client leaves.

    Raises:
        ClientGoneError: the client left.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        # uvicorn says that the client has left when the answer is whole, too.
        if not working.done() and not answer.is_whole:
            raise ClientGoneError
        await working
    finally:
        # Cancelled where it waits; its texts leave the queue with it.
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _method(scope: Message) -> str:
    # A method may be any word.
    return scope["method"] if scope["method"] in ("GET", "POST") else "other"


def _too_long(limit: int) -> Refusal:
    return Refusal(
        413,
        rule=f"a body may have {limit} bytes",
        got="more",
        fix="Send fewer texts at a time.",
    )


_STOPPED = Refusal(503, rule="a server must run to answer", got="one that ends", fix="Ask again.")
_OUR_MISTAKE = Refusal(
    500, rule="a request must be answered", got="an error", fix="See the server's log."
)
