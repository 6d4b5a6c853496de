"""Processes in which some packages cannot be imported, as if they were not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]

_HIDE = """
import sys

class Hide:
    names = set(sys.argv[1].split())

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
"""


def run_without(
    hidden: Iterable[str], code: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run `code` (its `sys.argv[2:]` are `arguments`) where no module of `hidden` is found."""
    return subprocess.run(
        [sys.executable, "-c", _HIDE + code, " ".join(hidden), *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
    )


_COMMANDS = """
import json
from glot_jax.cli import main
for words in json.loads(sys.argv[2]):
    try:
        main(words)
    except SystemExit as ended:
        print("exit", ended.code, file=sys.stderr, flush=True)
"""


def errors_without(hidden: Iterable[str], commands: Sequence[Sequence[object]]) -> list[str]:
    """What each command says on stderr, all run in one process; each must end with code 2."""
    ended = run_without(hidden, _COMMANDS, _as_json(commands))
    return _answers(ended.stderr, len(commands))


def errors_of(python: Sequence[str], commands: Sequence[Sequence[object]]) -> list[str]:
    """The same by another Python; `python` ends with `-c` and code to run first."""
    *options, code = python
    # The words are the second argument, as they are behind the names of hidden modules.
    command = [*options, code + _COMMANDS, "", _as_json(commands)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return _answers(ended.stderr, len(commands))


def _as_json(commands: Sequence[Sequence[object]]) -> str:
    return json.dumps([[str(word) for word in command] for command in commands])


def _answers(stderr: str, count: int) -> list[str]:
    *answers, rest = stderr.split("exit 2\n")
    assert not rest, stderr
    assert len(answers) == count, stderr
    return answers
