"""LangChain's standard tests of embeddings, in an environment of their own.

    python benchmarks/environments/langchain_suite.py --run RUN

The tests (langchain-tests) are those of `OpenAIEmbeddings`, against `glot serve RUN`, and those of
`HuggingFaceEmbeddings`, against the folder that `glot export RUN` writes. Each environment is made
below --work with pip, which needs an index of packages; what does not resolve is recorded in pip's
own words. Their pins contradict ours. Writes benchmarks/results/langchain.json.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmark import RESULTS, Mismatch
from elsewhere import TORCH, environment, exported, started, versions, wait_until_ready
from machine import describe_machine

LANGCHAIN = ("langchain-tests==1.1.9", "langchain-openai==1.7.4")
FOLDER = ("langchain-tests==1.1.9", "langchain-huggingface>=1", "sentence-transformers>=6,<7")
KEY = "a-key-of-the-benchmark"

SERVED_SUITE = """
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


FOLDER_SUITE = """
import os

from langchain_huggingface import HuggingFaceEmbeddings
from langchain_tests.integration_tests import EmbeddingsIntegrationTests


class TestExportedFolder(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return HuggingFaceEmbeddings

    @property
    def embedding_model_params(self):
        return {
            "model_name": os.environ["EXPORTED"],
            # The pooling head is code in the folder.
            "model_kwargs": {"device": "cpu", "trust_remote_code": True},
        }
"""


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """LangChain's standard tests against `glot serve` and against an exported folder."""

    run: Path
    """Run folder."""
    work: Path | None = None
    """Folder of the environments, which is kept. Default: one that is removed."""
    results: Path = RESULTS
    """Folder of the result files."""


def address_in(log: Path, process: subprocess.Popen) -> str:
    """Where `glot serve` says that it listens."""
    while process.poll() is None:
        match = re.search(r"http://\S+:\d+", log.read_text())
        if match:
            return match[0]
        time.sleep(0.2)
    raise Mismatch(f"the server must start; got {log.read_text()}")


def ask(python: Path, suite: Path, **variables: str) -> dict[str, Any]:
    """Run the tests of a suite in an environment."""
    done = subprocess.run(
        [str(python), "-m", "pytest", "-v", "-o", "asyncio_mode=auto", str(suite)],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        cwd=suite.parent,
    )
    if done.returncode != 0:
        print(done.stdout[-4000:], file=sys.stderr)
    names = (
        "langchain-core",
        "langchain-tests",
        "langchain-openai",
        "langchain-huggingface",
        "sentence-transformers",
        "openai",
        "pytest",
    )
    outcomes = dict(re.findall(r"::(test_\w+) (\w+)", done.stdout))
    return {"versions": versions(python, names), "outcomes": outcomes, "code": done.returncode}


def served(settings: Elsewhere, work: Path) -> dict[str, Any]:
    """LangChain's standard tests against `glot serve`."""
    python, stopped = environment(work / "langchain", [LANGCHAIN])
    if stopped:
        return {"stopped": stopped}
    suite = work / "test_served_run.py"
    suite.write_text(SERVED_SUITE)
    log = work / "serve.log"
    command = [sys.executable, "-m", "glot_jax", "serve", str(settings.run), "--port", "0"]
    with started(command, log, GLOT_SERVE_KEY=KEY) as process:
        address = address_in(log, process)
        wait_until_ready(address, process, log)
        return ask(
            python,
            suite,
            SERVED_MODEL=settings.run.resolve().name,
            SERVED_URL=f"{address}/v1",
            SERVED_KEY=KEY,
        )


def folder(settings: Elsewhere, work: Path) -> dict[str, Any]:
    """LangChain's standard tests against the folder that `glot export` writes."""
    python, stopped = environment(work / "langchain-folder", [[TORCH], FOLDER])
    if stopped:
        return {"stopped": stopped}
    suite = work / "test_exported_folder.py"
    suite.write_text(FOLDER_SUITE)
    return ask(python, suite, EXPORTED=str(exported(settings.run, work)))


def main(settings: Elsewhere) -> None:
    """Make the environments, ask, and write what came of it."""
    with tempfile.TemporaryDirectory() as scratch:
        work = settings.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        work = work.resolve()
        values = {"served": served(settings, work), "folder": folder(settings, work)}
    text = json.dumps({"machine": describe_machine(), **values}, indent=1)
    path = settings.results / "langchain.json"
    path.write_text(text + "\n")
    print(text)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(tyro.cli(Elsewhere, description=Elsewhere.__doc__))
