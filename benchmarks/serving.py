"""`glot serve` under load: throughput, latency, memory, and ten thousand broken requests.

    python benchmarks/serving.py --data DIR [--clients 32] [--seconds 60] [--malformed 10000]

DIR holds cola/train.jsonl (sentence, label), on which a head is trained for one epoch first. The
server is a process of its own, started by `glot serve`; clients are threads of this one and send a
text at a time over loopback. Beside it: the same texts by `SentenceEncoder.encode`, one at a time
and all at once, before the server starts. Every served vector is compared with encode's. Writes
benchmarks/results/serving.json.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from benchmark import Benchmark, Mismatch, json_rows, require_equal, run

from glot_jax.batches.padded_lengths import padded_lengths
from glot_jax.config.extract import ExtractConfig
from glot_jax.config.train import PoolerConfig, TrainConfig
from glot_jax.extraction import dump
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.training import train

KEY = "a-key-of-the-benchmark"
HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
TOLERANCE = 1e-6
"""Of the length of a vector: served and bulk texts have other company, and other padding."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Serving(Benchmark):
    """Throughput, latency and memory of `glot serve`."""

    data: Path
    run: Path | None = None
    """A run of classes to serve. Default: one that is trained first."""
    clients: int = 32
    seconds: float = 60
    malformed: int = 10_000
    texts: int = 2000
    """Different texts that clients draw from."""
    train_rows: int = 2000
    batch_size: int = 32

    def smaller(self) -> Serving:
        """See Benchmark.smaller."""
        return dataclasses.replace(
            self, clients=4, seconds=2, malformed=100, texts=50, train_rows=50
        )


def read_texts(bench: Serving) -> list[str]:
    """The first sentences of CoLA's training rows."""
    rows = json_rows(bench.data / "cola" / "train.jsonl")
    return [row["sentence"] for row in rows[: bench.texts]]


def train_run(bench: Serving, folder: Path) -> Path:
    """A head, trained for one epoch on classes."""
    store = folder / "store"
    data = bench.data / "cola"
    config = ExtractConfig(
        backbone="minilm", task="cola", data=data, out=store, max_train_rows=bench.train_rows
    )
    dump(config)
    out = folder / "cola"
    train(TrainConfig(store=store, out=out, epochs=1, pooler=PoolerConfig()), quiet=True)
    return out


def rates_of_encode(
    bench: Serving, out: Path, texts: list[str]
) -> tuple[np.ndarray, dict[str, float]]:
    """Vectors of the texts, and texts a second of encode alone: in bulk, and one by one."""
    encoder = SentenceEncoder.load(out, device="cpu")
    assert encoder.backbone is not None
    encoder.warm_up(padded_lengths(encoder.backbone.max_length), bench.batch_size)
    encoder.encode(texts[:32])
    begin = time.perf_counter()
    vectors = encoder.encode(texts, bench.batch_size)
    bulk = len(texts) / (time.perf_counter() - begin)
    single = texts[:100]
    begin = time.perf_counter()
    for text in single:
        encoder.encode([text], bench.batch_size)
    return vectors, {"bulk": bulk, "one_by_one": len(single) / (time.perf_counter() - begin)}


@contextlib.contextmanager
def served(out: Path, folder: Path, bench: Serving) -> Iterator[tuple[str, int]]:
    """The address and process id of a server that is ready."""
    log = folder / "serve.log"
    words = ["serve", out, "--port", "0", "--device", "cpu", "--batch-size", bench.batch_size]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "glot_jax", *map(str, words), "--no-log-requests"],
            env={**os.environ, "GLOT_SERVE_KEY": KEY},
            stderr=file,
        )
        try:
            while not (match := re.search(r"http://\S+:\d+", log.read_text())):
                if process.poll() is not None:
                    raise Mismatch(f"the server must start; got {log.read_text()}")
                time.sleep(0.1)
            address = match[0]
            while not is_ready(address):
                time.sleep(0.1)
            yield address, process.pid
            process.terminate()
            process.wait(60)
        finally:
            process.kill()


def is_ready(address: str) -> bool:
    """Whether /health says so."""
    try:
        return httpx.get(f"{address}/health").status_code == 200
    except httpx.TransportError:
        return False


def resident_mib(pid: int) -> float:
    """Memory of a process, MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) / 1024


def under_load(
    bench: Serving, address: str, texts: list[str], vectors: np.ndarray, clients: int
) -> dict[str, float]:
    """Texts a second and latency of some clients, each of which asks for one text at a time."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    differences = [0.0] * clients
    shares = [0.0] * clients
    end = time.perf_counter() + bench.seconds

    def client(number: int) -> None:
        generator = random.Random(number)
        with httpx.Client(headers=HEADERS, timeout=60) as session:
            while time.perf_counter() < end:
                row = generator.randrange(len(texts))
                body = {"input": texts[row], "encoding_format": "base64"}
                begin = time.perf_counter()
                answer = session.post(f"{address}/v1/embeddings", json=body)
                latencies[number].append(time.perf_counter() - begin)
                if answer.status_code != 200:
                    raise Mismatch(f"every request must be answered; got {answer.status_code}")
                value = base64.b64decode(answer.json()["data"][0]["embedding"])
                difference = np.abs(np.frombuffer(value, "<f4") - vectors[row]).max()
                differences[number] = max(differences[number], float(difference))
                share = float(difference / np.linalg.norm(vectors[row]))
                shares[number] = max(shares[number], share)

    begin = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    seconds = time.perf_counter() - begin
    require_equal("served vectors and encode's", max(shares), TOLERANCE)
    every = np.array(list(itertools.chain.from_iterable(latencies)))
    return {
        "clients": clients,
        "seconds": seconds,
        "requests": len(every),
        "texts_per_second": len(every) / seconds,
        "p50_ms": 1000 * float(np.percentile(every, 50)),
        "p99_ms": 1000 * float(np.percentile(every, 99)),
        "largest_difference": max(differences),
        "largest_difference_of_length": max(shares),
    }


def broken_bodies(generator: random.Random) -> Iterator[bytes]:
    """Bodies with damage of many kinds, without an end."""
    whole = json.dumps({"input": ["a cat", "zwei Hünde"], "encoding_format": "base64"}).encode()
    fixed = [
        b"",
        b"null",
        b"[" * 5000,
        b'{"input": null}',
        b'{"input": []}',
        b'{"input": [1, 2, 3]}',
        b'{"input": {"a": [1]}}',
        b'{"input": "\\ud800"}',
        b'{"input": "a", "dimensions": 3}',
        b'{"input": "a", "other": "b"}',
        b'{"input": 1' + b"0" * 5000 + b"}",
        b'{"input": "' + b"x" * 5_000_000 + b'"}',
    ]
    for number in itertools.count():
        if number % 4 == 0:
            # The long one is rare: its transfer would be all that is measured.
            yield fixed[-1] if number % 400 == 0 else generator.choice(fixed[:-1])
            continue
        body = bytearray(whole)
        for _ in range(generator.randint(1, 8)):
            position = generator.randrange(len(body))
            body[position : position + generator.randint(0, 3)] = generator.randbytes(2)
        yield bytes(body)


def raw_requests(body: bytes) -> list[bytes]:
    """Requests that are no HTTP, or stop in the middle."""
    head = b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + KEY.encode()
    return [
        body + b"\r\n\r\n",
        head + b"\r\nContent-Length: -1\r\n\r\n",
        head + b"\r\nContent-Length: 50\r\n\r\n{",
        head + b"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ]


def malformed(bench: Serving, address: str, pid: int) -> dict[str, Any]:
    """What broken requests are answered, and the server's memory on the way."""
    statuses: Counter[str] = Counter()
    lock = threading.Lock()
    generator = random.Random(0)
    bodies = broken_bodies(generator)
    memory = [resident_mib(pid)]
    session = httpx.Client(timeout=60)

    def send(number: int) -> None:
        with lock:
            body = next(bodies)
        if number % 10 == 9:
            status = send_raw(address, raw_requests(body)[number // 10 % 6])
        else:
            route = ("/v1/embeddings", "/predict")[number % 2]
            headers = HEADERS if number % 7 else {"authorization": "Bearer wrong"}
            answer = session.post(f"{address}{route}", content=body, headers=headers)
            status = str(answer.status_code)
        with lock:
            statuses[status] += 1

    for first in range(0, bench.malformed, max(1, bench.malformed // 10)):
        last = min(first + max(1, bench.malformed // 10), bench.malformed)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(send, range(first, last)))
        memory.append(resident_mib(pid))
    session.close()
    failed = sum(count for status, count in statuses.items() if status.startswith("5"))
    if failed:
        raise Mismatch(f"no broken request must be the server's fault; got {failed} of {statuses}")
    return {"requests": bench.malformed, "statuses": dict(statuses), "resident_mib": memory}


def send_raw(address: str, request: bytes) -> str:
    """The status of an answer to some bytes, or `closed`."""
    host, _, port = address.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    with connection, contextlib.suppress(OSError):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(64).split()
        if len(answer) > 1:
            return answer[1].decode()
    return "closed"


def main(bench: Serving) -> None:
    """Measure, and write `serving.json`."""
    texts = read_texts(bench)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        out = bench.run or train_run(bench, folder)
        vectors, encode = rates_of_encode(bench, out, texts)
        with served(out, folder, bench) as (address, pid):
            one = under_load(
                dataclasses.replace(bench, seconds=bench.seconds / 4), address, texts, vectors, 1
            )
            start = resident_mib(pid)
            many = under_load(bench, address, texts, vectors, bench.clients)
            end = resident_mib(pid)
            broken = malformed(bench, address, pid)
            after = under_load(
                dataclasses.replace(bench, seconds=bench.seconds / 4),
                address,
                texts,
                vectors,
                bench.clients,
            )
    rate = many["texts_per_second"]
    for name, row in {"1 client": one, f"{bench.clients} clients": many}.items():
        print(
            f"{name:12} {row['texts_per_second']:7.0f} texts/s, p50 {row['p50_ms']:.0f} ms,"
            f" p99 {row['p99_ms']:.0f} ms"
        )
    print(
        f"{rate / encode['one_by_one']:.2f} of encode one text at a time,"
        f" {rate / encode['bulk']:.2f} of encode in bulk; memory {start:.0f} -> {end:.0f} MiB"
    )
    print(
        f"{bench.malformed} broken requests: {broken['statuses']}, no 5xx; memory"
        f" {broken['resident_mib'][0]:.0f} -> {broken['resident_mib'][-1]:.0f} MiB"
    )
    settings = {
        "clients": bench.clients,
        "seconds": bench.seconds,
        "texts": len(texts),
        "batch_size": bench.batch_size,
    }
    bench.write(
        "serving",
        {
            "settings": settings,
            "encode_texts_per_second": encode,
            "of_one_by_one": rate / encode["one_by_one"],
            "of_bulk": rate / encode["bulk"],
            "one_client": one,
            "many_clients": many,
            "resident_mib": {"start": start, "end": end},
            "malformed": broken,
            "many_clients_afterwards": after,
        },
    )


if __name__ == "__main__":
    run(Serving, main)
