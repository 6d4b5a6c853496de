"""The process: port, run, uvicorn, and what it prints."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from glot_jax.config.serve import ServeConfig
from glot_jax.serving.batching import BatchedRun
from glot_jax.serving.guard import Guard
from glot_jax.serving.listener import port_errors
from glot_jax.serving.measures import Measures
from glot_jax.serving.routes import HEALTH, ROUTES, Routes
from glot_jax.serving.served_run import ServedRun

logger = logging.getLogger("glot_jax.serving")


class Server:
    """One run on one port.

        with bound_socket(config) as listener:
            Server(ServedRun.load(config), config, key).run(listener)

    Args:
        run: answers.
        config: limits.
        key: that requests must have; None for all.
    """

    def __init__(self, run: ServedRun, config: ServeConfig, key: str | None):
        self.measures = Measures()
        # Raised by `run`, in the thread that called it, where `glot` prints it.
        self._failure: BaseException | None = None
        served = BatchedRun(run, config, self.measures)
        guard = Guard(
            Routes(served, config, self.measures).app(self._fail),
            config,
            self.measures,
            key=key,
            routes=ROUTES,
            # Probes of an orchestrator have no key, and learn nothing here.
            keyless=(HEALTH,),
        )
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                guard,
                # One loop and one parser, whatever else is installed: their limits differ.
                loop="asyncio",
                http=impatient_protocol(config.client_seconds),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                # Headers that anybody can send.
                proxy_headers=False,
                server_header=False,
                limit_concurrency=config.max_connections,
                timeout_graceful_shutdown=config.grace_seconds,
            )
        )

    def run(self, listener: socket.socket) -> None:
        """Answer until SIGTERM, Ctrl-C or `stop`; what has arrived is finished.

        Raises:
            UsageError: the port was taken meanwhile, or a shape that cannot be compiled.
        """
        with port_errors(listener.getsockname()[1]):
            self._uvicorn.run(sockets=[listener])
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End `run`, from another thread."""
        # A flag that its loop looks at: safe from any thread.
        self._uvicorn.should_exit = True

    def _fail(self, error: BaseException) -> None:
        # Kept for `run`: an exception in the loop would end in a traceback.
        self._failure = error
        self.stop()


def impatient_protocol(seconds: float) -> type[H11Protocol]:
    """HTTP/1.1 that closes connections of clients that are slow to write or read.

    uvicorn waits for either as long as it takes. Of the body of a request `Guard` knows when it has
    waited enough; here it is what stands before the body, and behind the answer.

    Args:
        seconds: for the head of a request, and for reading an answer.
    """

    class ImpatientProtocol(H11Protocol):
        """A connection with two clocks."""

        head_clock: asyncio.TimerHandle | None = None
        reader_clock: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            """Start to wait for a head."""
            assert isinstance(transport, asyncio.Transport)
            super().connection_made(transport)
            self.head_clock = self.loop.call_later(seconds, self.end_headless)

        def data_received(self, data: bytes) -> None:
            """Stop to wait for a head when it is there; start when one begins."""
            cycle = self.cycle
            super().data_received(data)
            if self.cycle is not cycle:
                _stop(self.head_clock)
                self.head_clock = None
            elif self.is_idle() and self.head_clock is None:
                # A byte now and then does not start it anew.
                self.head_clock = self.loop.call_later(seconds, self.end_headless)

        def pause_writing(self) -> None:
            """Start to wait for the reader of a long answer."""
            super().pause_writing()
            self.reader_clock = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            """Stop to wait for it: nearly all of it has left."""
            _stop(self.reader_clock)
            super().resume_writing()

        def on_response_complete(self) -> None:
            """Wait for the reader of an answer that is short enough to lie in a buffer."""
            cycle = self.cycle
            super().on_response_complete()
            if self.transport.get_write_buffer_size() > 0:
                self.loop.call_later(seconds, self.end_unread, cycle)

        def connection_lost(self, exc: Exception | None) -> None:
            """Stop both clocks."""
            _stop(self.head_clock)
            _stop(self.reader_clock)
            super().connection_lost(exc)

        def is_idle(self) -> bool:
            """Whether no request is being answered."""
            return self.cycle is None or self.cycle.response_complete

        def end_headless(self) -> None:
            """Close if there is still no head."""
            self.head_clock = None
            if self.is_idle():
                self.transport.abort()

        def end_unread(self, cycle: RequestResponseCycle) -> None:
            """Close if the answer still lies there; a later one has a clock of its own."""
            if self.cycle is cycle and self.transport.get_write_buffer_size() > 0:
                self.transport.abort()

    return ImpatientProtocol


def _stop(clock: asyncio.TimerHandle | None) -> None:
    # One that has run, or was cancelled, may be cancelled again.
    if clock is not None:
        clock.cancel()


class OneLineFormatter(logging.Formatter):
    """A line a record: time, level, the first line of what is said, the class of an error.

    Tracebacks, and what else follows a first line, may hold texts and paths.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        said = record.getMessage().partition("\n")[0]
        if record.exc_info and record.exc_info[0] is not None:
            said = f"{said}: {record.exc_info[0].__name__}"
        return f"{self.formatTime(record)} {record.levelname.lower()} {said}"


def log_to_stderr() -> None:
    """Send what the server, uvicorn and asyncio have to say to stderr, a line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter())
    levels = {"glot_jax.serving": logging.INFO, "uvicorn": logging.WARNING}
    for name, level in (levels | {"asyncio": logging.ERROR}).items():
        own = logging.getLogger(name)
        # Instead of those there are: a traceback must not be printed beside the line.
        own.handlers = [handler]
        own.setLevel(level)
        own.propagate = False


def serve(config: ServeConfig, key: str | None, listener: socket.socket) -> None:
    """`glot serve`: load the run, and answer until the process is told to end.

    Args:
        config: settings.
        key: that requests must have, None for all: what `ServeConfig.usable_key` returned.
        listener: where to answer: what `bound_socket` returned.

    Raises:
        UsageError: a port or a run that cannot be used.
    """
    run = ServedRun.load(config)
    log_to_stderr()
    # From the socket: port 0 was another one when it was bound.
    host, port = listener.getsockname()[:2]
    shown_host = f"[{host}]" if ":" in host else host
    logger.info(
        "%s on http://%s:%d, %d dimensions, %s",
        run.name,
        shown_host,
        port,
        run.encoder.dim,
        "without a key" if key is None else "with a key",
    )
    Server(run, config, key).run(listener)
