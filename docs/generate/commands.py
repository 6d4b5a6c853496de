"""A page for each command: its flags, their texts and defaults, as the real parser has them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

from glot_jax.cli import parsing
from glot_jax.cli.main import COMMANDS
from glot_jax.cli.parsing import _NO_DEFAULT, Leaf, _metavar
from glot_jax.config.base import Config, flag, spelled

FOLDER = "reference/commands"

COMMON: Mapping[str, tuple[str, ...]] = {
    "extract": (
        "backbone",
        "task",
        "out",
        "data",
        "text_columns",
        "label_column",
        "layers",
        "max_length",
        "storage_dtype",
        "device",
    ),
    "evaluate": ("run", "store", "data", "json", "predictions", "mteb"),
    "predict": ("file", "run", "out", "text_columns"),
    "explain": ("texts", "run", "out", "occlude"),
    "serve": ("run", "host", "port", "name", "normalize"),
    "encode": ("file", "run", "out", "normalize"),
    "export": ("run", "out", "to", "with_head"),
    "profile": ("dim", "length", "batch_size", "pooler", "compare", "json"),
    "stress": ("backbone", "out", "protocol", "ratios", "poolers", "seeds"),
    "compare": ("store", "out", "seeds", "preset", "pooler", "layer", "tau", "lr", "epochs"),
    "sweep": ("store", "out", "space", "trials", "workers", "seeds"),
    "reproduce": ("cards", "backbone", "data", "out", "tasks", "seeds"),
    "report": ("folders", "out", "title", "sentences"),
}
"""The flags that stand first on a page; `train` says so itself, and of others all are common."""


class _Seen(Exception):
    """The parser has been told its flags; there is nothing to run."""


@dataclasses.dataclass
class CommandFlags:
    """What the parser of one command is given."""

    description: str = ""
    flags: dict[str, Leaf] = dataclasses.field(default_factory=dict)
    groups: dict[str, tuple[str, Sequence[str]]] = dataclasses.field(default_factory=dict)


@functools.cache
def flags_of(name: str) -> CommandFlags:
    """Ask the command's own reader for its flags, as `--help` does."""
    seen = CommandFlags()
    make_view = parsing._view
    parse: Any = parsing.tyro.cli

    def view(settings: type[Config], flags: Mapping[str, Leaf], groups: Mapping[str, Any]) -> type:
        seen.flags = dict(flags)
        seen.groups = dict(groups)
        return make_view(settings, flags, groups)

    def cli(*arguments: object, **options: object) -> object:
        # The first reading of `train` and `compare` looks for what was typed, and goes on.
        if "description" not in options:
            return parse(*arguments, **options)
        seen.description = str(options["description"])
        raise _Seen

    with (
        mock.patch.object(parsing, "_view", view),
        mock.patch.object(parsing.tyro, "cli", cli),
        contextlib.suppress(_Seen),
    ):
        COMMANDS[name]([])
    return seen


def sections(name: str, command: CommandFlags) -> Iterator[tuple[str, str, list[Leaf]]]:
    """Title, text and flags of each part of a page; every flag is in one of them."""
    groups = dict(command.groups)
    common = COMMON.get(name, ())
    title, text = "Options", ""
    if "common" in groups:
        text, common = groups.pop("common")
    if common:
        title, text = "Common options", "What most runs need."
    rest = {key: leaf for key, leaf in command.flags.items() if key not in common}
    if common:
        yield title, text, [command.flags[key] for key in common]
    grouped = {key for _, keys in groups.values() for key in keys}
    ungrouped = [leaf for key, leaf in rest.items() if key not in grouped]
    if ungrouped:
        # Required ones first: they are what a command cannot do without.
        ungrouped.sort(key=lambda leaf: not (leaf.positional or leaf.default is _NO_DEFAULT))
        yield ("Further options" if common else title), "", ungrouped
    for group, (about, keys) in groups.items():
        leaves = [rest[key] for key in keys if key in rest]
        if leaves:
            yield group.replace("_", " ").capitalize(), about, leaves


def spelling(leaf: Leaf) -> str:
    """A flag as it is typed, with what stands for its value."""
    hint = leaf.hint
    if hint is bool:
        return f"{flag(leaf.name)}, {flag('no_' + leaf.name)}"
    try:
        value = _metavar(hint)
    except KeyError:
        value = "VALUE"
    value = value.replace("|", " or ")
    if leaf.positional:
        return f"{leaf.name.upper()}"
    return f"{flag(leaf.name)} {value}"


def text_and_default(leaf: Leaf) -> tuple[str, str]:
    """The text of a flag without its default, and the default."""
    text, sign, stated = leaf.text.partition(" Default: ")
    if leaf.default is _NO_DEFAULT:
        return leaf.text, "required"
    if leaf.default is None or leaf.default == ():
        return (text, stated.removesuffix(".")) if sign else (leaf.text, "none")
    if isinstance(leaf.default, bool):
        return leaf.text, "on" if leaf.default else "off"
    return leaf.text, f"`{spelled(leaf.default)}`"


def escaped(text: str) -> str:
    """A text of the code as Markdown: its signs mean nothing, its flags are code."""
    pieces = re.split(r"(`[^`]*`)", text)
    for position, piece in enumerate(pieces):
        if piece.startswith("`"):
            continue
        piece = re.sub(r"([\\*_\[\]|#])", r"\\\1", piece)
        piece = piece.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        pieces[position] = re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"`\1`", piece)
    return "".join(pieces)


@functools.cache
def page(name: str) -> str:
    """The page of one command."""
    command = flags_of(name)
    prog = COMMANDS[name].prog
    about, *examples = command.description.split("\n\nExample: ")
    lines = [f"# {prog}", ""]
    lines += [escaped(paragraph) + "\n" for paragraph in about.split("\n\n")]
    if prog != f"glot {name}":
        lines += [f"`python {prog}` and `glot {name}` are the same command.", ""]
    if examples:
        lines += ["```", *(" ".join(example.split()) for example in examples), "```", ""]
    for title, text, leaves in sections(name, command):
        lines += [f"## {title}", ""]
        if text:
            lines += [escaped(text), ""]
        for leaf in leaves:
            about, default = text_and_default(leaf)
            lines += [f"`{spelling(leaf)}`{{ #{leaf.name} .flag }} {escaped_default(default)}", ""]
            lines += [f":   {escaped(about)}", ""]
    # Texts name pages as they lie in the repository.
    return re.sub(r"\bdocs/([\w-]+\.md)", r"[docs/\1](../../\1)", "\n".join(lines))


def escaped_default(default: str) -> str:
    """The default of a flag, set apart from its name."""
    if default == "required":
        return "**required**"
    return f"<small>default: {escaped(default)}</small>"


def pages() -> dict[str, str]:
    """Path -> page: one for each command, and the list of them."""
    made = {f"{FOLDER}/{name}.md": page(name) for name in COMMANDS}
    lines = [
        "# Commands",
        "",
        "In the order of the work: states, training, answers, studies. Every page lists all flags",
        "of its command, with text and default, as its `--help` does.",
        "",
        "| command | what it does |",
        "|---|---|",
    ]
    for name, command in COMMANDS.items():
        lines.append(f"| [`{command.prog}`]({name}.md) | {escaped(command.summary)} |")
    lines += [
        "",
        "`glot --version` prints the version. Exit codes are listed under [errors](../errors.md).",
        "",
    ]
    made[f"{FOLDER}/index.md"] = "\n".join(lines)
    return made


def navigation() -> list[Any]:
    """The entries of the navigation."""
    entries: list[Any] = [{"All commands": f"{FOLDER}/index.md"}]
    for name, command in COMMANDS.items():
        entries.append({command.prog: f"{FOLDER}/{name}.md"})
    return entries
