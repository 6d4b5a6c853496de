"""`Registry`: a table of named parts that other modules, and other packages, may add to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from glot_jax.errors import UsageError

Part = TypeVar("Part")


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

    def register(self, name: str) -> Callable[[Any], Any]:
        """Return a decorator that adds a part under `name` and gives it back unchanged.

        Raises:
            UsageError: the name belongs to another part.
        """

        def add(part: Any) -> Any:
            if name in self and _origin(self[name]) != _origin(part):
                raise UsageError(
                    rule=f"a {self.noun} must have a name of its own",
                    got=f"{name!r}, which is {_origin(self[name])}",
                    fix="Register it under another name.",
                )
            self[name] = part
            return part

        return add


def _origin(part: Any) -> str:
    """Where a part was defined: a notebook's cell that runs twice defines the same one again."""
    name = getattr(part, "__qualname__", repr(part))
    return f"{getattr(part, '__module__', '')}.{name}"
