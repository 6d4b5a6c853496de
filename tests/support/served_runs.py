"""Servers on a free port, in a thread of the tests' own process."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from glot_jax.config.runs import BackboneChoice
from glot_jax.config.serve import ServeConfig
from glot_jax.serving.listener import bound_socket
from glot_jax.serving.served_run import ServedRun
from glot_jax.serving.server import Server

KEY = "the-key-of-the-tests"


def settings(runs: Path, kind: str = "topics", /, **options: object) -> ServeConfig:
    """Settings for a run of `trained_runs.make_runs`, on a free port."""
    frozen = BackboneChoice(str(runs / "tiny"), device="cpu")
    config = ServeConfig(run=runs / kind, port=0, frozen=frozen, batch_size=8)
    return dataclasses.replace(config, **options)


@contextlib.contextmanager
def serving(
    run: ServedRun,
    config: ServeConfig,
    key: str | None = None,
    *,
    ready: bool = True,
    send_buffer: int | None = None,
) -> Iterator[str]:
    """The address of a server that answers while the block runs; when it is ready, if asked."""
    with bound_socket(config) as listener:
        if send_buffer is not None:
            # Connections that are accepted have it as well.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = Server(run, config, key)
        thread = threading.Thread(target=server.run, args=(listener,))
        thread.start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            wait_for(address, 200 if ready else 503)
            yield address
        finally:
            server.stop()
            thread.join()


def wait_for(address: str, status: int) -> None:
    """Ask /health until it answers so."""
    for _ in range(1200):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/health").status_code == status:
                return
        time.sleep(0.05)
    raise TimeoutError(f"no {status} from {address}/health")


def embed(address: str, texts: str | list[str], **options: object) -> httpx.Response:
    """What /v1/embeddings answers."""
    return httpx.post(f"{address}/v1/embeddings", json={"input": texts, **options}, timeout=60)


class Gate:
    """Stands before a run's forward pass, and notes what passes it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, run: ServedRun):
        self.open = threading.Event()
        self.reached = threading.Event()
        self.batches: list[list[str]] = []
        encode = run.encoder.encode

        def gated(texts: list[str], batch_size: int, normalize: bool) -> np.ndarray:
            self.batches.append(list(texts))
            self.reached.set()
            assert self.open.wait(60)
            return encode(texts, batch_size, normalize)

        monkeypatch.setattr(run.encoder, "encode", gated)


@contextlib.contextmanager
def gated_server(
    monkeypatch: pytest.MonkeyPatch, runs: Path, run: ServedRun, **options: object
) -> Iterator[tuple[str, Gate]]:
    """A server whose forward passes wait for a gate; (address, gate)."""
    with serving(run, settings(runs, **options)) as address:
        gate = Gate(monkeypatch, run)
        try:
            yield address, gate
        finally:
            gate.open.set()
