"""Command line -> settings. The only module that knows tyro.

tyro never sees a class of settings itself but a view of its leaves: plain dataclasses, made here,
without checks and without nesting but for the groups of `--help`. So a broken rule is raised by the
settings and ends in one line, and the order of the flags in `--help` is free.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import gc
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict, TypeVar, cast

import tyro

from glot_jax.config.base import Config, flag, is_config, is_plain, type_hints
from glot_jax.config.location import is_location, parse_location

Settings = TypeVar("Settings", bound=Config)

_NO_DEFAULT = object()


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A field of settings that is no group of settings itself: one flag."""

    name: str
    hint: object
    default: object
    text: str
    positional: bool

    def field(self) -> tuple[str, object, Any]:
        """The leaf as `dataclasses.make_dataclass` takes it."""
        # tyro reads the text of a field from its metadata.
        metadata = {"help": self.text}
        # By keyword, so that a field without a default may follow one that has it.
        if self.default is _NO_DEFAULT:
            field: Any = dataclasses.field(metadata=metadata, kw_only=True)
        else:
            default = self.default
            if default is not None and is_location(self.hint):
                default = str(default)
            field = dataclasses.field(
                default=default,
                metadata=metadata,
                kw_only=True,
            )
        return self.name, self._annotated(), field

    @property
    def word(self) -> object:
        """What tyro takes the value for: a place may be a URL, of which `Path` makes another."""
        if not is_location(self.hint):
            return self.hint
        is_optional = type(None) in typing.get_args(self.hint)
        return str | None if is_optional else str

    def value(self, word: object) -> object:
        """The value that tyro's value stands for."""
        if isinstance(word, str) and is_location(self.hint):
            return parse_location(word)
        return word

    def _annotated(self) -> object:
        if is_location(self.hint):
            return Annotated[self.word, *self._place()]
        if self.positional:
            return Annotated[self.hint, tyro.conf.Positional]
        if is_switch(self.hint):
            about = tyro.conf.arg(metavar="[{True,False}]", help_behavior_hint="")
            return Annotated[self.hint, about]
        # tyro's own "(default: 32)" is right for every default that is a value.
        if self.default is not None and self.default != ():
            return self.hint
        # "(default: None)" contradicts a text that says what happens without the flag.
        hint_of_default = "(default: none)"
        if "Default:" in self.text:
            hint_of_default = ""
        about = tyro.conf.arg(
            metavar=_metavar(self.hint),
            help_behavior_hint=hint_of_default,
        )
        return Annotated[self.hint, about]

    def _place(self) -> list[object]:
        """What `--help` says of a folder or URL: as of a path."""
        remarks: list[object] = []
        if self.positional:
            remarks.append(tyro.conf.Positional)
        options: dict[str, Any] = {"metavar": _metavar(Path)}
        if self.default is None:
            options["help_behavior_hint"] = "" if "Default:" in self.text else "(default: none)"
        remarks.append(tyro.conf.arg(**options))
        return remarks


PLUGIN = Leaf(
    name="plugin",
    hint=Annotated[tuple[str, ...], tyro.conf.UseAppendAction],
    default=(),
    text=(
        "Load this plugin first: an installed one, or a module that can be imported. Needed by runs"
        " with parts of its own; its code is run. May be given several times. Default: none."
    ),
    positional=False,
)
"""A flag of every command that trains a head or loads one; `Command` has taken it off before the
settings are read, and it stands in `--help` alone.
"""


def leaves(
    settings: type[Config], base: Config | None = None, required: Sequence[str] = ()
) -> dict[str, Leaf]:
    """The flags of a class of settings by their names, which no two groups share.

    Args:
        settings: The class.
        base: Where defaults come from; without it, from the class.
        required: Names whose default in `base` does not count.
    """
    hints = type_hints(settings)
    texts = field_texts(settings)
    collected: dict[str, Leaf] = {}
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        value = _NO_DEFAULT if base is None else getattr(base, field.name)
        if is_config(hint):
            inner = value if isinstance(value, Config) else None
            collected |= leaves(hint, inner, required)
            continue
        # The options of plugins are flags of their own: cli/own_flags.py.
        if not is_plain(hint):
            continue
        if value is _NO_DEFAULT and field.default is not dataclasses.MISSING:
            value = field.default
        if field.name in required:
            value = _NO_DEFAULT
        # With a default (a run that was named by --run) it is a flag like others.
        may_be_left_out = value is None
        has_default = value is not _NO_DEFAULT and not may_be_left_out
        positional = bool(field.metadata.get("positional")) and not has_default
        collected[field.name] = Leaf(field.name, hint, value, texts[field.name], positional)
    return collected


@functools.cache
def field_texts(settings: type[Config]) -> Mapping[str, str]:
    """The docstrings of the fields, each as one line; "" for a field without one."""
    # Python throws away a text that stands below a field: it is in the source alone.
    source = inspect.getsource(settings)
    tree = ast.parse(textwrap.dedent(source))
    body = cast("ast.ClassDef", tree.body[0]).body
    texts: dict[str, str] = {}
    # The field that a text would belong to, until there is one.
    name = ""
    for statement in body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            texts[name] = ""
        elif name and isinstance(statement, ast.Expr):
            text = str(ast.literal_eval(statement.value))
            # On one line, which tyro breaks anew by the width of the terminal.
            texts[name] = " ".join(text.split())
            name = ""
    return texts


def parse(
    settings: type[Settings],
    arguments: Sequence[str],
    prog: str,
    *,
    defaults: Mapping[str, Leaf] | None = None,
    groups: Mapping[str, tuple[str, Sequence[str]]] | None = None,
    examples: Sequence[str] = (),
) -> Settings:
    """The settings that a command line gives. A wrong flag and `--help` end the process.

    Args:
        settings: The class to build.
        arguments: What stands behind the name of the command.
        prog: The command, as `--help` and errors spell it.
        defaults: The flags with other defaults than those of the class.
        groups: Title -> text and names of a group of flags that `--help` shows apart, in this
            order; flags that no group names come first.
        examples: Command lines for `--help`, each a paragraph behind the description.

    Raises:
        UsageError: The settings break a rule of their own.
    """
    values = parse_values(
        settings, arguments, prog, defaults=defaults, groups=groups, examples=examples
    )
    return build(settings, values)


def parse_values(
    settings: type[Config],
    arguments: Sequence[str],
    prog: str,
    *,
    defaults: Mapping[str, Leaf] | None = None,
    groups: Mapping[str, tuple[str, Sequence[str]]] | None = None,
    examples: Sequence[str] = (),
) -> dict[str, object]:
    """The value of every flag by its name; see `parse`, which builds settings of them."""
    flags = dict(leaves(settings) if defaults is None else defaults)
    if settings.takes_plugins:
        flags[PLUGIN.name] = PLUGIN
    view = _view(settings, flags, groups or {})
    description = inspect.getdoc(settings) or ""
    # Paragraphs of their own: tyro joins the lines of one.
    description = "\n\n".join([description, *examples])
    with without_collections():
        options = tyro.cli(
            tyro.conf.OmitArgPrefixes[view],
            args=with_values(flags, arguments),
            prog=prog,
            description=description,
        )
    return _values(flags, dict(_flat(options)))


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """No garbage collection, for a call of tyro.

    tyro parses the source of every class of settings.
    A collection in the middle may run Python that parses source too, and Python 3.11 before 3.11.8
    then loses count of its depth: a SystemError (python/cpython#106905).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _values(flags: Mapping[str, Leaf], words: Mapping[str, object]) -> dict[str, Any]:
    """The values that the words of a command line stand for.

    Raises:
        UsageError: a URL that is none of a store.
    """
    return {name: flags[name].value(word) for name, word in words.items()}


def typed(
    flags: Mapping[str, Leaf], arguments: Sequence[str], prog: str
) -> tuple[dict[str, Any], list[str]]:
    """The flags that were typed, name -> value, and the words that belong to none of `flags`.

    A value that does not fit its flag ends the process.
    """
    hints = {leaf.name: leaf.word for leaf in flags.values()}
    # A key of such a dict is absent unless it was typed: no default has to be told from a value.
    make_typed_dict: Any = TypedDict
    view = make_typed_dict("Typed", hints, total=False)
    # No `--help`: the second reading prints it, with the defaults that this one finds.
    with without_collections():
        values, rest = tyro.cli(
            view,
            args=with_values(flags, arguments),
            prog=prog,
            return_unknown_args=True,
            add_help=False,
        )
    return _values(flags, values), rest


def is_switch(hint: object) -> bool:
    """Whether a flag says yes or no, and without it something else decides."""
    return set(typing.get_args(hint)) == {bool, type(None)}


def with_values(flags: Mapping[str, Leaf], arguments: Sequence[str]) -> list[str]:
    """Words whose switches have values: tyro knows `--flag` and `--no-flag` of bools alone.

    Args:
        flags: of the command.
        arguments: its words; `--flag True` stays as it is.
    """
    switches = {flag(leaf.name) for leaf in flags.values() if is_switch(leaf.hint)}
    words: list[str] = []
    for number, word in enumerate(arguments):
        # tyro takes `--no_flag` as well.
        yes = word.replace("_", "-").replace("--no-", "--", 1)
        following = arguments[number + 1 : number + 2]
        if word in switches and list(following) not in (["True"], ["False"], ["None"]):
            words += [word, "True"]
        elif yes in switches and yes != word:
            words += [yes, "False"]
        else:
            words.append(word)
    return words


def take_plugins(arguments: Sequence[str], prog: str) -> tuple[tuple[str, ...], list[str]]:
    """The plugins that were named, and the other words."""
    view: Any = dataclasses.make_dataclass("Plugins", [PLUGIN.field()])
    with without_collections():
        options, rest = tyro.cli(
            view,
            args=arguments,
            prog=prog,
            return_unknown_args=True,
            add_help=False,
        )
    return options.plugin, rest


def build(settings: type[Settings], values: Mapping[str, object]) -> Settings:
    """Nested settings from the values of their leaves."""
    hints = type_hints(settings)
    arguments = {}
    for field in dataclasses.fields(settings):
        hint = hints[field.name]
        if is_config(hint):
            arguments[field.name] = build(hint, values)
        elif is_plain(hint):
            arguments[field.name] = values[field.name]
    return settings(**arguments)


def _view(
    settings: type[Config],
    flags: Mapping[str, Leaf],
    groups: Mapping[str, tuple[str, Sequence[str]]],
) -> type:
    # The order of the groups is that of `--help`.
    grouped = {name for _, names in groups.values() for name in names}
    fields = [leaf.field() for leaf in flags.values() if leaf.name not in grouped]
    for title, (text, names) in groups.items():
        members = [flags[name].field() for name in names]
        # tyro shows a nested dataclass as a group, its name as the title, its docstring below it.
        group = dataclasses.make_dataclass(
            title,
            members,
            namespace={"__doc__": text},
        )
        fields.append((title, group, dataclasses.field(kw_only=True)))
    return dataclasses.make_dataclass(settings.__name__, fields)


def _flat(options: object) -> Iterator[tuple[str, object]]:
    """The leaves of an instance of a view, name and value."""
    for field in dataclasses.fields(cast("Any", options)):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value)
        else:
            yield field.name, value


# tyro's own words for these types.
_METAVARS: dict[object, str] = {
    int: "INT",
    float: "FLOAT",
    str: "STR",
    bool: "{True,False}",
    Path: "PATH",
}


def _metavar(hint: object) -> str:
    """What stands for the value of a flag that may be left out: PATH, not {None}|PATH."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is Annotated:
        # UseAppendAction: one value each time the flag is given.
        values, *_ = arguments
        value, *_ = typing.get_args(values)
        return _METAVARS[value]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        arms = [arm for arm in arguments if arm is not type(None)]
        return _metavar(arms[0])
    if typing.get_origin(hint) is tuple:
        return f"[{_metavar(arguments[0])} ...]"
    if typing.get_origin(hint) is typing.Literal:
        return f"{{{','.join(map(str, arguments))}}}"
    return _METAVARS[hint]
