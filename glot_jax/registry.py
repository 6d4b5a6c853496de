"""`Registry`: a table of named parts that other modules, and other packages, may add to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from glot_jax.errors import UsageError

Part = TypeVar("Part")
Registered = TypeVar("Registered")


class Registry(dict[str, Part]):
    """Name -> part, in the order of registration; everything else is a dictionary's.

        @POOLERS.register("median")
        class Median(Pooler): ...

    Args:
        noun: what the table lists, as messages call it: "pooler (--pooler)".
    """

    def __init__(self, noun: str):
        super().__init__()
        self.noun = noun
        self._sources: dict[str, str] = {}

    def register(
        self, name: str, *, module: str | None = None
    ) -> Callable[[Registered], Registered]:
        """Return a decorator that adds a part under `name` and gives it back unchanged.

        Args:
            name: what it is found by.
            module: where it was defined. Default: what the part says itself, as a class does.

        Raises:
            UsageError: the name belongs to another part.
        """

        def add(part: Registered) -> Registered:
            plugin = module or str(part.__module__)
            # A plugin may be what first imports this package: our own parts stay our own.
            if _plugins and not _is_ours(plugin):
                # The innermost: a plugin that imports another one does not take over its parts.
                plugin = _plugins[-1]
            self._require_free(name, part)
            # `Registered` and not `Part`: a type checker must not lose the class's own type by the
            # decorator.
            self[name] = cast("Any", part)
            self._sources[name] = plugin
            _sources.setdefault(plugin, []).append(name)
            return part

        return add

    def _require_free(self, name: str, part: object) -> None:
        """Require that `name` is not the name of another part."""
        # The same part once more is no other: a notebook's cell is run again, a module reloaded.
        if name in self and _origin(self[name]) != _origin(part):
            raise UsageError(
                rule=f"a {self.noun} must have a name of its own",
                got=f"{name!r}, which is {_origin(self[name])}",
                fix="Register it under another name.",
            )

    def plugin_of(self, name: str) -> str | None:
        """The plugin that registered a part; None for a part of this package.

        A part that was registered in a notebook or by an import belongs to its module.
        """
        # Without a source: put into the table as into any dictionary, not registered.
        source = self._sources.get(name, PACKAGE)
        if _is_ours(source):
            return None
        return source


PACKAGE = "glot_jax"

_sources: dict[str, list[str]] = {}
"""Plugin or module -> names that it has registered, in any table."""

_plugins: list[str] = []
"""Names of the plugins that are being imported, the innermost last."""


def sources() -> frozenset[str]:
    """Names of the plugins and modules that have registered parts in this process."""
    return frozenset(_sources)


def registered_by_plugins() -> tuple[str, ...]:
    """Names of all parts that came from outside this package."""
    parts: list[str] = []
    for source, registered in _sources.items():
        if not _is_ours(source):
            parts += registered
    return tuple(parts)


@contextlib.contextmanager
def registering(plugin: str) -> Iterator[None]:
    """Note everything that is registered in this block as a part of `plugin`."""
    _plugins.append(plugin)
    try:
        yield
    finally:
        _plugins.pop()


def _is_ours(source: str) -> bool:
    """Whether a module, or the name of a plugin, belongs to this package."""
    # By whole words: `glot_jax_extras` is somebody else's.
    return source.partition(".")[0] == PACKAGE


def _origin(part: object) -> str:
    """Where a part was defined: a notebook's cell that runs twice defines the same one again."""
    # By name, not by identity: the second definition is a new object.
    name = getattr(part, "__qualname__", repr(part))
    return f"{getattr(part, '__module__', '')}.{name}"
