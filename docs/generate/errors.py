"""The page of errors: exit codes, the form of a message, and every rule that the code may raise."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

from generate.commands import escaped

PACKAGE = Path(__file__).parents[2] / "glot_jax"
ERRORS = {"UsageError", "MissingExtraError"}

TITLES = {
    "texts": "Texts, labels and tasks",
    "file_formats": "Files of rows",
    "backbone_files": "Files of backbones",
    "backbones": "Backbones",
    "extraction": "Extraction",
    "store": "Stores",
    "batches": "Batches",
    "graphs": "Token graphs",
    "pooling": "Poolers",
    "objectives": "Objectives",
    "training": "Training",
    "run_folders": "Run folders",
    "inference": "Answers and vectors",
    "explaining": "Explanations",
    "export": "Exports",
    "serving": "Serving",
    "official": "Files of the authors' release",
    "reporting": "Reports",
    "run_tables": "Tables of runs",
    "experiments": "Comparisons and searches",
    "config": "Settings",
    "cli": "The command line",
}
"""Room -> its title; rooms without one stand at the end."""


def spoken(node: ast.expr) -> str | None:
    """A text of the code as it is said, `{...}` where a value stands; None of a mere name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        pieces = []
        for value in node.values:
            if isinstance(value, ast.Constant):
                pieces.append(str(value.value))
            else:
                pieces.append("…")
        return "".join(pieces)
    return None


def constants(tree: ast.Module) -> dict[str, ast.expr]:
    """Names of the module that stand for texts."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def messages(path: Path) -> Iterator[tuple[str, str]]:
    """Rule and fix of every error that a module raises with a text of its own."""
    tree = ast.parse(path.read_text("utf-8"))
    known = constants(tree)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
            continue
        if node.func.id not in ERRORS:
            continue
        given = dict(zip(("rule", "got", "fix"), node.args, strict=False))
        given |= {word.arg: word.value for word in node.keywords if word.arg}
        texts = []
        for name in ("rule", "fix"):
            value = given.get(name)
            if isinstance(value, ast.Name):
                value = known.get(value.id)
            texts.append(None if value is None else spoken(value))
        rule, fix = texts
        if rule:
            yield rule, fix or ""


@functools.cache
def by_room() -> dict[str, list[tuple[str, str]]]:
    """Room -> its messages, in the order of the code, each once."""
    rooms: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).parts
        room = parts[0] if len(parts) > 1 else ""
        for message in messages(path):
            if message not in rooms.setdefault(room, []):
                rooms[room].append(message)
    return {room: found for room, found in rooms.items() if found}


def pages() -> dict[str, str]:
    """The page, by its path."""
    lines = [
        "# Errors",
        "",
        "What you can put right is one `UsageError` and one line: the rule, what came instead,",
        "and the fix. Nothing half-written is left behind. In Python it is a `ValueError` with the",
        "attributes `rule`, `got` and `fix`.",
        "",
        "```",
        "error: --tau must be a cosine in [-1, 1]; got 7.0. Give for example --tau 0.6.",
        "```",
        "",
        "## Exit codes",
        "",
        "| code | when |",
        "|---|---|",
        "| 0 | done |",
        "| 1 | a check failed, such as `glot store verify`, or one of many runs did |",
        "| 2 | bad input: nothing was done |",
        "| 130 | Ctrl-C; training has saved the step that it was at |",
        "| 141 | nobody reads the output any more |",
        "| 143 | SIGTERM; as with Ctrl-C |",
        "",
        "A traceback is a mistake of ours. Please report it.",
        "",
        "## All rules",
        "",
        "Made from the code: … stands for a value. Rules that are worked out are left out.",
        "",
    ]
    rooms = by_room()
    order = [room for room in TITLES if room in rooms]
    order += [room for room in rooms if room not in TITLES]
    for room in order:
        title = TITLES.get(room, room.replace("_", " ").capitalize() or "Everywhere")
        lines += [f"### {title}", "", "| rule | fix |", "|---|---|"]
        for rule, fix in rooms[room]:
            lines.append(f"| {cell(rule)} | {cell(fix)} |")
        lines.append("")
    return {"reference/errors.md": "\n".join(lines)}


def cell(text: str) -> str:
    """A text inside a table."""
    return escaped(" ".join(text.split()))
