"""What a reader may copy from a page: its commands and its blocks of Python."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^\1``` *$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^ {4}\S[^\n]*\n)+", re.MULTILINE)
PROGRAMS = ("python", "glot", "make", "pip", "for", "torchrun", "srun", "mpirun", "curl")
OTHERS = ("tensorboard", "mlflow", "wandb", "GLOT_SERVE_KEY", "JAX_PLATFORMS")


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    language: str
    text: str


def pages() -> list[Path]:
    """README and everything written by hand below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks() -> Iterator[Block]:
    """All fenced blocks of all pages."""
    for path in pages():
        name = path.relative_to(ROOT).as_posix()
        for match in FENCE.finditer(path.read_text("utf-8")):
            indent, language, text = match.groups()
            lines = [line.removeprefix(indent) for line in text.splitlines()]
            yield Block(name, language.strip(), "\n".join(lines))


def commands() -> Iterator[tuple[str, str]]:
    """(page, command) of every command, on one line and without its remark."""
    for block in blocks():
        if block.language not in ("", "bash"):
            continue
        # A line that ends with a backslash goes on.
        text = re.sub(r" *\\\n *", " ", block.text)
        for line in text.splitlines():
            command = re.sub(r"\s{2,}#.*$", "", line).strip()
            if command.startswith((*PROGRAMS, *OTHERS)):
                yield block.page, command


def python_blocks() -> Iterator[Block]:
    """The blocks of Python."""
    for block in blocks():
        if block.language == "python":
            yield block
