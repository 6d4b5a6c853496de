"""Connections of clients that are slow to write or to read."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from urllib.parse import urlsplit

import httpx
import pytest
from support.served_runs import embed, serving, settings

pytestmark = pytest.mark.xdist_group("serving")  # what they share is made once


def connected(address, *, receive_buffer=None):
    parts = urlsplit(address)
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.settimeout(60)
    connection.connect((parts.hostname, parts.port))
    return connection


def test_slow_clients_are_dropped(runs, topics):
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    with serving(topics, settings(runs, client_seconds=0.4)) as address:
        with connected(address) as silent:
            assert silent.recv(100) == b""
        with connected(address) as headless:
            # A byte now and then does not help.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for number in range(60):
                    headless.sendall(head[number : number + 1])
                    time.sleep(0.05)
                headless.sendall(head[60:] + b"Content-Length: 0\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert headless.recv(100) == b""
        with connected(address) as bodiless:
            bodiless.sendall(head + b"Content-Length: 1000\r\n\r\n{")
            assert bodiless.recv(100).startswith(b"HTTP/1.1 408")
        assert embed(address, "cat").status_code == 200


def test_a_client_that_does_not_read_is_dropped(runs, topics):
    body = json.dumps({"input": ["cat"] * 200}).encode()
    head = "POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    # Else the answer would lie in the kernel's buffers as a whole.
    with serving(topics, settings(runs, client_seconds=0.4), send_buffer=4096) as address:
        with connected(address, receive_buffer=4096) as deaf:
            deaf.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            while 'route="/v1/embeddings",status="200"' not in httpx.get(f"{address}/metrics").text:
                time.sleep(0.05)
            time.sleep(1)
            received = bytearray()
            with contextlib.suppress(ConnectionResetError):
                while chunk := deaf.recv(1 << 16):
                    received += chunk
        assert embed(address, "cat").status_code == 200
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
    assert len(rest) < length
