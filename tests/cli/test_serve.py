"""`glot serve` as a process: how it starts, what it prints, how it ends."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest
from support.served_runs import KEY, wait_for
from support.trained_runs import make_runs

pytestmark = pytest.mark.xdist_group("serving")  # what they share is made once

SECRET = "xyzzy-secret"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("serve"))


@contextlib.contextmanager
def started(runs, log, *arguments, key=KEY):
    environment = {**os.environ, "GLOT_SERVE_KEY": key}
    words = ["serve", runs / "topics", "--backbone", runs / "tiny", "--device", "cpu", *arguments]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "glot_jax", *map(str, words)], env=environment, stderr=file
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def address_in(log):
    for _ in range(2400):
        if address := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return address[0]
        time.sleep(0.05)
    raise TimeoutError(log.read_text())


def test_sigterm_finishes_what_has_arrived(runs, tmp_path):
    log = tmp_path / "stderr"
    # Texts wait so long for company that most times all are there when the signal comes.
    with started(runs, log, "--port", "0", "--batch-wait-ms", "3000") as process:
        address = address_in(log)
        wait_for(address, 200)
        headers = {"authorization": f"Bearer {KEY}"}

        def ask(number):
            body = {"input": [f"{SECRET} {number}"] * 3}
            return httpx.post(
                f"{address}/v1/embeddings", json=body, headers=headers, timeout=60
            ).status_code

        def all_wait(answers):
            metrics = f"{address}/metrics"
            while not any(answer.done() for answer in answers):
                if "glot_waiting_texts 24.0" in httpx.get(metrics, headers=headers).text:
                    return True
            return False

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(ask, number) for number in range(8)]
            # The wait may have ended between two of them.
            while not all_wait(answers):
                assert {answer.result() for answer in answers} == {200}
                answers = [pool.submit(ask, number) for number in range(8)]
            process.send_signal(signal.SIGTERM)
            assert [answer.result() for answer in answers] == [200] * 8
        assert process.wait(60) == -signal.SIGTERM
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{address}/health")
    said = log.read_text()
    assert said.count("/v1/embeddings 200") >= 8
    for private in (KEY, SECRET, str(runs), "Traceback"):
        assert private not in said


def test_a_taken_port_ends_it_before_anything_is_loaded(runs, tmp_path):
    log = tmp_path / "stderr"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with started(runs, log, "--port", port) as process:
            assert process.wait(300) == 2
    (line,) = log.read_text().splitlines()
    assert line == (
        f"error: --port must be free; got {port}, which another program uses."
        " Give another one; 0 takes a free one."
    )


def test_a_key_that_cannot_be_sent_ends_it_too(runs, tmp_path):
    log = tmp_path / "stderr"
    with started(runs, log, key="two words") as process:
        assert process.wait(300) == 2
    assert "visible ASCII" in log.read_text()
    assert "two words" not in log.read_text()
