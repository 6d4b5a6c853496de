"""What README and the pages tell a reader to type: it parses, and nothing is left unchecked.

`make check-docs` runs it.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import io
import re
import shlex
from dataclasses import is_dataclass
from unittest import mock

import pytest
from support.site_code import DOCS, site_module

from glot_jax.cli import parsing, several
from glot_jax.cli import train as train_module
from glot_jax.cli.main import COMMANDS
from glot_jax.commands import ExtractResult, TrainResult
from glot_jax.errors import UsageError
from glot_jax.inference.answering import Answers
from glot_jax.inference.estimators import TextClassifier

blocks = site_module("generate.blocks")
check = site_module("check")


def words_of(command: str) -> list[str] | None:
    """The command's name and its arguments; None of what is no command of ours."""
    inner = re.search(r"(?:python |\b)(extract|train)\.py (.*)|\bglot ([\w-]+) ?(.*)", command)
    if inner is None:
        return None
    script, rest, name, arguments = inner.groups()
    text = (rest if script else arguments) or ""
    # Of a loop in the shell, its one command.
    text = text.partition(" &")[0].replace("$i", "0")
    return [script or name, *shlex.split(text)]


OURS = {command: page for page, command in blocks.commands() if words_of(command)}


def parse(words: list[str]) -> None:
    """Read a command line as the command does, and stop before its settings are built."""
    name, *arguments = words
    with (
        # What is read of files that a page takes for granted.
        mock.patch.object(train_module, "is_similarity", return_value=False),
        mock.patch.object(several, "is_similarity", return_value=False),
    ):
        command = COMMANDS[name]
        if command.settings.takes_plugins:
            _, arguments = parsing.take_plugins(arguments, command.prog)
        if command.read is None:
            parsing.parse(command.settings, arguments, command.prog)
        else:
            command.read(arguments, command.prog)


@pytest.mark.parametrize("command", OURS)
def test_a_command_of_a_page_parses(command):
    page = OURS[command]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            parse(words_of(command) or [])
    except SystemExit:
        pytest.fail(f"{page}: {command}\n{printed.getvalue()}")
    except UsageError as error:
        # Runs that a page takes for granted are no flags that a page has wrong.
        if "--resume" not in command and "--config" not in command:
            pytest.fail(f"{page}: {command}\n{error}")


def test_a_wrong_flag_is_seen():
    with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        parse(words_of("python train.py --store s --out o --hiden-dim 8") or [])


def test_readme_has_its_commands_and_python():
    pages = [page for page, _ in blocks.commands()]
    assert pages.count("README.md") == 6
    assert [block.page for block in blocks.python_blocks()].count("README.md") == 1


def test_reasons_for_not_running_a_command_are_needed():
    commands = [command for _, command in blocks.commands()]
    for part in check.ELSEWHERE:
        assert any(part in command for command in commands), f"no page has {part}"
    assert sum(check.why_not(command) is None for command in commands) > 40
    pages = {block.page for block in blocks.python_blocks()}
    for page in (*check.ELSEWHERE_PYTHON, *check.PREAMBLES, check.PLUGIN):
        assert page in pages, page
    # The ten lines and the four commands that README begins with are run.
    readme = [check.why_not(command) for page, command in blocks.commands() if page == "README.md"]
    assert readme.count(None) == 4
    assert "README.md" not in check.ELSEWHERE_PYTHON


def test_tests_that_are_named_as_reasons_exist():
    root = DOCS.parent
    for reason in (*check.ELSEWHERE.values(), *check.ELSEWHERE_PYTHON.values()):
        for path in re.findall(r"tests/[\w/]+(?:\.py)?", reason):
            assert (root / path).exists(), path


def names_of(module: str) -> set[str]:
    """What stands at the top of a module of ours, found without importing it."""
    path = DOCS.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


@pytest.mark.parametrize("block", list(blocks.python_blocks()), ids=lambda block: block.page)
def test_imports_of_a_block_of_python_exist(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("glot_jax"):
            names = {alias.name for alias in node.names}
            assert names <= names_of(str(node.module)), node.module


RESULTS = {
    "extract": ExtractResult,
    "load": TextClassifier,
    "predict": Answers,
    "train": TrainResult,
}
"""Function of `glot_jax` -> what it returns, on the pages."""


def result_of(node: ast.AST) -> type | None:
    """The class that a call of one of these functions gives; None of anything else."""
    if not isinstance(node, ast.Call):
        return None
    name = ast.unparse(node.func).removeprefix("glot_jax.")
    return RESULTS.get(name)


def attributes_of_results(tree: ast.AST) -> list[tuple[type, str]]:
    """(class, attribute) wherever a result's attribute is read, by itself or by its name."""
    named = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            named[node.targets[0].id] = result_of(node.value)
    read = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            value = node.value
            kind = named.get(value.id) if isinstance(value, ast.Name) else result_of(value)
            if kind is not None:
                read.append((kind, node.attr))
    return read


@pytest.mark.parametrize("block", list(blocks.python_blocks()), ids=lambda block: block.page)
def test_attributes_of_results_exist(block):
    for kind, name in attributes_of_results(ast.parse(block.text)):
        fields = {field.name for field in dataclasses.fields(kind)} if is_dataclass(kind) else set()
        assert name in fields or hasattr(kind, name), f"{kind.__name__}.{name}"


def test_a_wrong_attribute_is_seen():
    tree = ast.parse("run = glot_jax.train(store='s')\nrun.score\nglot_jax.predict(r, t).answers")
    assert attributes_of_results(tree) == [(TrainResult, "score"), (Answers, "answers")]
