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
    words = json.dumps([[str(word) for word in command] for command in commands])
    ended = run_without(hidden, _COMMANDS, words)
    *answers, rest = ended.stderr.split("exit 2\n")
    assert not rest, ended.stderr
    assert len(answers) == len(commands), ended.stderr
    return answers
