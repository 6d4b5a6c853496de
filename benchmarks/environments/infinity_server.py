"""The folder that `glot export RUN` writes, under infinity-emb, in an environment of its own.

    python benchmarks/environments/infinity_server.py --run RUN

infinity-emb asks for numpy below 2 and sentence-transformers below 4, so it cannot share our
environment: pip makes one below --work, which needs an index of packages. Its server is asked for
two vectors, which are compared with those of `glot encode`'s encoder; where it does not start, the
last line of its log says why. Writes benchmarks/results/infinity.json.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmark import RESULTS, Mismatch
from elsewhere import TORCH, environment, exported, started, versions, wait_until_ready
from machine import describe_machine

from glot_jax.inference.encoder import SentenceEncoder

INFINITY = ("infinity-emb[torch,server]==0.0.78",)
NAMES = ("infinity-emb", "infinity_emb", "sentence-transformers", "transformers", "torch", "numpy")
TEXTS = ["The cat sat on the mat.", "A dog."]


@dataclasses.dataclass(frozen=True)
class Infinity:
    """An exported folder under infinity-emb."""

    run: Path
    """Run folder."""
    work: Path | None = None
    """Folder of the environment, which is kept. Default: one that is removed."""
    results: Path = RESULTS
    """Folder of the result files."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def vectors_of(address: str) -> np.ndarray:
    """[texts, dim] of the server."""
    body = json.dumps({"model": "glot", "input": TEXTS}).encode()
    request = urllib.request.Request(
        f"{address}/embeddings", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        values = json.load(answer)["data"]
    return np.array([entry["embedding"] for entry in values])


def asked(settings: Infinity, work: Path) -> dict[str, Any]:
    """What the server answers, or what stops it."""
    python, stopped = environment(work / "infinity", [[TORCH], INFINITY])
    if stopped:
        return {"stopped": stopped}
    port = free_port()
    log = work / "infinity.log"
    folder = str(exported(settings.run, work))
    command = [str(python.with_name("infinity_emb")), "v2", "--model-id", folder]
    command += ["--served-model-name", "glot", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--device", "cpu", "--engine", "torch", "--trust-remote-code"]
    command += ["--no-bettertransformer", "--no-compile"]
    result: dict[str, Any] = {"versions": versions(python, NAMES)}
    with started(command, log) as process:
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        except Mismatch:
            lines = [line for line in log.read_text().splitlines() if "Error:" in line]
            return {**result, "stopped": lines[-1] if lines else log.read_text()[-300:]}
        theirs = vectors_of(f"http://127.0.0.1:{port}")
    ours = SentenceEncoder.load(settings.run, device="cpu").encode(TEXTS)
    # The server normalises.
    ours = ours / np.linalg.norm(ours, axis=1, keepdims=True)
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    return {**result, "largest_difference": float(np.abs(theirs - ours).max())}


def main(settings: Infinity) -> None:
    """Make the environment, ask, and write what came of it."""
    with tempfile.TemporaryDirectory() as scratch:
        work = settings.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        values = asked(settings, work.resolve())
    text = json.dumps({"machine": describe_machine(), **values}, indent=1)
    path = settings.results / "infinity.json"
    path.write_text(text + "\n")
    print(text)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(tyro.cli(Infinity, description=Infinity.__doc__))
