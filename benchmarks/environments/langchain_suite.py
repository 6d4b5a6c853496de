"""LangChain's standard tests of embeddings, in an environment of their own.

    python benchmarks/environments/langchain_suite.py --run RUN

The tests (langchain-tests) are those of `OpenAIEmbeddings`, against `glot serve RUN`. The
environment is made below --work with pip, which needs an index of packages; what does not resolve
is recorded in pip's own words. Their pins contradict ours. Writes
benchmarks/results/langchain.json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmark import RESULTS, Mismatch
from machine import describe_machine

LANGCHAIN = ("langchain-tests==1.1.9", "langchain-openai==1.7.4")
KEY = "a-key-of-the-benchmark"
SECONDS = 600
"""How long a server may take until it answers."""

SUITE = """
import os

from langchain_openai import OpenAIEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests


class TestServedRun(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return OpenAIEmbeddings

    @property
    def embedding_model_params(self):
        return {
            "model": os.environ["SERVED_MODEL"],
            "base_url": os.environ["SERVED_URL"],
            "api_key": os.environ["SERVED_KEY"],
            # Else it sends token ids of a tokenizer that is not ours.
            "check_embedding_ctx_length": False,
        }
"""


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """LangChain's standard tests against `glot serve`."""

    run: Path
    """Run folder."""
    work: Path | None = None
    """Folder of the environments, which is kept. Default: one that is removed."""
    results: Path = RESULTS
    """Folder of the result files."""


def environment(folder: Path, steps: Sequence[Sequence[str]]) -> tuple[Path, str | None]:
    """The Python of a new environment, and what stopped its installation.

    Args:
        folder: where it is made, unless it is there.
        steps: requirements of each call of pip.
    """
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    for requirements in steps:
        command = [str(python), "-m", "pip", "install", "--quiet", *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            return python, "\n".join(lines or done.stderr.splitlines()[-3:])
    return python, None


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """What is installed of some packages."""
    code = (
        "import importlib.metadata as m, json, sys;"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()};"
        "print(json.dumps({n: have[n] for n in sys.argv[1:] if n in have}))"
    )
    done = subprocess.run(
        [str(python), "-c", code, *names], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


@contextlib.contextmanager
def started(command: Sequence[str], log: Path, **variables: str) -> Iterator[subprocess.Popen]:
    """A process that writes into a log, and ends with the block."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()


def wait_until_ready(address: str, process: subprocess.Popen, log: Path) -> None:
    """Until /health answers 200."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Mismatch(f"the server must run; got {log.read_text()[-2000:]}")
        # Refused, or answered 503.
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/health"):
            return
        time.sleep(0.5)
    raise Mismatch(f"the server must be ready within {SECONDS} s; got {log.read_text()[-2000:]}")


def address_in(log: Path, process: subprocess.Popen) -> str:
    """Where `glot serve` says that it listens."""
    while process.poll() is None:
        match = re.search(r"http://\S+:\d+", log.read_text())
        if match:
            return match[0]
        time.sleep(0.2)
    raise Mismatch(f"the server must start; got {log.read_text()}")


def langchain(settings: Elsewhere, work: Path) -> dict[str, Any]:
    """LangChain's standard tests against `glot serve`."""
    python, stopped = environment(work / "langchain", [LANGCHAIN])
    if stopped:
        return {"stopped": stopped}
    suite = work / "test_served_run.py"
    suite.write_text(SUITE)
    log = work / "serve.log"
    command = [sys.executable, "-m", "glot_jax", "serve", str(settings.run), "--port", "0"]
    with started(command, log, GLOT_SERVE_KEY=KEY) as process:
        address = address_in(log, process)
        wait_until_ready(address, process, log)
        done = subprocess.run(
            [str(python), "-m", "pytest", "-v", "-o", "asyncio_mode=auto", str(suite)],
            env={
                **os.environ,
                "SERVED_MODEL": settings.run.resolve().name,
                "SERVED_URL": f"{address}/v1",
                "SERVED_KEY": KEY,
            },
            capture_output=True,
            text=True,
            check=False,
            cwd=work,
        )
    outcomes = dict(re.findall(r"::(test_\w+) (\w+)", done.stdout))
    if done.returncode != 0:
        print(done.stdout[-4000:], file=sys.stderr)
    names = ("langchain-core", "langchain-tests", "langchain-openai", "openai", "pytest")
    return {"versions": versions(python, names), "outcomes": outcomes, "code": done.returncode}


def main(settings: Elsewhere) -> None:
    """Make the environment, ask, and write what came of it."""
    with tempfile.TemporaryDirectory() as scratch:
        work = settings.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        values = langchain(settings, work.resolve())
    text = json.dumps({"machine": describe_machine(), **values}, indent=1)
    path = settings.results / "langchain.json"
    path.write_text(text + "\n")
    print(text)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(tyro.cli(Elsewhere, description=Elsewhere.__doc__))
