"""Commands as a user types them, in processes of their own, and what became of them.

    with Walker(hub.env(), tmp_path, preload=EXTRACTION) as walker:
        done = walker.glot("extract", "--backbone", "acme/tiny", ...)
        assert done.code == 0, done.stderr

Clients of the Hub read their environment when they are imported, and pytest's own process has
forbidden them the network: so everything here runs elsewhere. A `Walker` imports once and is
forked for each command, which makes a walk a second instead of five; `run_fresh` starts anew.
GLOT_TEST_PYTHON names another interpreter, with other versions of the clients.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PYTHON = os.environ.get("GLOT_TEST_PYTHON", sys.executable)
ROOT = Path(__file__).parents[2]
EXTRACTION = (
    "glot_jax.cli",
    "glot_jax.extraction",
    "datasets",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.bert.modeling_bert",
)
"""What an extraction imports."""
GLOT = "import sys; from glot_jax.cli import main; sys.exit(main())"
_LIMIT = 120
"""Seconds after which a command has hung."""


@dataclass(frozen=True)
class Outcome:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def errors(self) -> list[str]:
        """Lines of stderr that say what went wrong."""
        return [line for line in self.stderr.splitlines() if line.startswith("error:")]

    def tells(self, text: str) -> bool:
        """Whether either stream holds the text."""
        return text in self.stdout or text in self.stderr


def run_fresh(*command: str, env: Mapping[str, str], limit: float = _LIMIT) -> Outcome:
    """`python COMMAND` in the repository, from nothing."""
    start = time.monotonic()
    done = subprocess.run(
        [PYTHON, *command],
        env=settled(env),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=limit,
    )
    return Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - start)


def settled(env: Mapping[str, str]) -> dict[str, str]:
    """Where glot_jax lies, and one thread: walks run beside other tests."""
    return {**env, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}


class Walker:
    """A process that has imported `preload` and runs commands in copies of itself.

    Its environment is `env`; a command may add to it only what is read when it runs (HF_TOKEN), not
    what is read at import (HF_ENDPOINT, HF_HOME, HF_HUB_OFFLINE): take another Walker for those.
    """

    def __init__(self, env: Mapping[str, str], folder: Path, preload: Sequence[str] = ()) -> None:
        self._folder, self._count = folder, 0
        folder.mkdir(parents=True, exist_ok=True)
        self._stderr = (folder / "walker.stderr").open("w")
        script = Path(__file__).with_name("walker.py")
        self._process = subprocess.Popen(
            [PYTHON, str(script), *preload],
            env=settled(env),
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._stderr.close()

    def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError((self._folder / "walker.stderr").read_text())
        return json.loads(line)

    def code(
        self, source: str, *argv: str, env: Mapping[str, str] | None = None, limit: int = _LIMIT
    ) -> Outcome:
        """`python -c SOURCE ARGV`; SIGALRM (code -14) ends it after `limit` seconds."""
        assert self._process.stdin is not None
        if not self._count:
            # The first thing it says is that it has imported everything.
            self._answer()
        self._count += 1
        out = self._folder / f"walk-{self._count}"
        out.mkdir()
        start = time.monotonic()
        asked = {"code": source, "argv": argv, "env": dict(env or {}), "out": str(out)}
        self._process.stdin.write(json.dumps({**asked, "timeout": limit}) + "\n")
        self._process.stdin.flush()
        code = self._answer()["code"]
        stdout, stderr = ((out / name).read_text() for name in ("stdout", "stderr"))
        return Outcome(code, stdout, stderr, time.monotonic() - start)

    def glot(
        self, *argv: str, env: Mapping[str, str] | None = None, limit: int = _LIMIT
    ) -> Outcome:
        """`glot ARGV`, as the console script runs it."""
        return self.code(GLOT, *argv, env=env, limit=limit)
