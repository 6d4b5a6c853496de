"""The generated pages of the site: nothing that a user may type is missing from them."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import re
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from support.site_code import site_module

import glot_jax
from glot_jax.cli.main import COMMANDS
from glot_jax.config.base import flag


@pytest.fixture(scope="module")
def commands() -> ModuleType:
    return generator("commands")


def generator(name: str) -> ModuleType:
    return site_module(f"generate.{name}")


def help_of(name: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        COMMANDS[name](["--help"])
    return printed.getvalue()


def test_every_command_has_a_page_and_stands_in_the_list(commands):
    pages = commands.pages()
    listed = pages["reference/commands/index.md"]
    for name in COMMANDS:
        assert f"reference/commands/{name}.md" in pages
        assert f"({name}.md)" in listed
    assert len(commands.navigation()) == len(COMMANDS) + 1


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_every_flag_of_the_help_with_its_text(commands, name):
    page = commands.page(name)
    # At the left edge, in a box or without; texts mention flags of other commands too.
    shown = set(re.findall(r"^[│ ]{1,3}(--[a-z][a-z-]*)", help_of(name), re.MULTILINE))
    command = commands.flags_of(name)
    given = {flag(key) for key, leaf in command.flags.items() if not leaf.positional}
    assert shown == given
    for spelled in shown:
        assert f"`{spelled}" in page, spelled
    on_page = [leaf.name for _, _, leaves in commands.sections(name, command) for leaf in leaves]
    assert sorted(on_page) == sorted(command.flags), "each flag once"
    for leaf in command.flags.values():
        assert len(leaf.text) > 10, f"{name} {flag(leaf.name)} has no text"
        text, _ = commands.text_and_default(leaf)
        # Pages that a text names are links on the page.
        plain = re.sub(r"\[(docs/[\w-]+\.md)\]\([^)]*\)", r"\1", page)
        assert f":   {commands.escaped(text)}\n" in plain


def test_common_flags_exist_and_come_first(commands):
    for name, common in commands.COMMON.items():
        flags = commands.flags_of(name).flags
        assert set(common) <= set(flags), name
    page = commands.page("train")
    assert page.index("`--store PATH`") < page.index("`--joint")


def test_defaults_are_shown():
    commands = generator("commands")
    page = commands.page("train")
    assert "`--tau FLOAT`{ #tau .flag } <small>default: `0.6`</small>" in page
    assert "`--store PATH`{ #store .flag } **required**" in page
    assert "default: once, with `--seed`" in page


def test_every_public_name_is_on_the_page_of_the_python_api():
    groups = generator("python_api").GROUPS
    names = [name for _, names in groups.values() for name in names]
    assert sorted([*names, "__version__"]) == sorted(glot_jax.__all__)


def test_every_part_has_a_line():
    from glot_jax.graphs import RULES
    from glot_jax.objectives import OBJECTIVES
    from glot_jax.objectives.metrics import METRICS
    from glot_jax.pooling import GNN_LAYERS, POOLERS
    from glot_jax.presets import PRESETS
    from glot_jax.texts.tasks import TASKS

    (page,) = generator("parts").pages().values()
    for table in (POOLERS, GNN_LAYERS, RULES, OBJECTIVES, TASKS):
        for name in table:
            line = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
            assert "|  |" not in line, f"{name} has no text"
    for name in METRICS:
        assert f"`{name}`" in page
    for name in PRESETS:
        assert f"### {name}\n" in page


def test_rules_and_fixes_of_errors_are_on_their_page():
    errors = generator("errors")
    rooms = errors.by_room()
    assert sum(map(len, rooms.values())) > 400
    (page,) = errors.pages().values()
    assert "a store must be a folder written by extract.py" in page
    assert "Check the path, or run extract.py first." in page


def test_every_environment_variable_of_ours_is_listed():
    environment = generator("environment")
    assert environment.read_by_the_package() == set(environment.OURS)


def test_files_name_classes_that_exist():
    formats = generator("file_formats")
    for target in (*formats.FIELDS.values(), *formats.RUN.values()):
        module, _, name = target.rpartition(".")
        assert getattr(importlib.import_module(module), name).__doc__
    (page,) = formats.pages().values()
    assert "OUT/manifest.json" in page


def test_a_notebook_is_a_page_with_its_pictures_and_what_it_prints():
    notebooks = generator("notebooks")
    pixel = "iVBORw0KGgo="
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "[next](02_more.ipynb)"]},
        {
            "cell_type": "code",
            "source": ["print(1)"],
            "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["\x1b[1m1\x1b[0m\n"]},
                {"output_type": "stream", "name": "stderr", "text": ["a warning"]},
                {"output_type": "display_data", "data": {"image/png": pixel, "text/plain": "x"}},
            ],
        },
    ]
    made = notebooks.page_of("notebooks/01_x.md", Path("01_x.ipynb"), {"cells": cells})
    page = made["notebooks/01_x.md"]
    assert "[next](02_more.md)" in page
    assert "```python\nprint(1)\n```" in page
    assert "```{ .text .output }\n1\n```" in page
    assert "a warning" not in page
    assert "![Title](01_x-1-2.png)" in page
    assert made["notebooks/01_x-1-2.png"].startswith(b"\x89PNG")


def test_all_notebooks_are_pages():
    notebooks = generator("notebooks")
    names = [path.stem for path in notebooks.sources()]
    assert [f"notebooks/{name}.md" for name in names] == list(notebooks.pages_of())
    assert len(notebooks.navigation()) == len(names) >= 6


def test_a_notebook_is_executed_once(tmp_path, monkeypatch):
    notebooks = generator("notebooks")
    monkeypatch.setattr(notebooks, "EXECUTED", tmp_path / "executed")
    source = tmp_path / "01_x.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])
    nbformat.write(notebook, source)
    notebooks.execute(source)
    (executed,) = (tmp_path / "executed").iterdir()
    page = notebooks.page_of("notebooks/01_x.md", source, json.loads(executed.read_text()))
    assert "\n42\n" in page["notebooks/01_x.md"]
    written = executed.stat().st_mtime_ns
    notebooks.execute(source)
    assert executed.stat().st_mtime_ns == written
