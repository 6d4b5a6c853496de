"""`OwnOptions`: values for the options that a plugin's part brings along, beside ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from glot_jax.errors import UsageError

_PLAIN = (bool, int, float, str, type(None))


class OwnOptions(Mapping[str, Any]):
    """Name -> value, unchangeable and hashable as settings must be.

    It knows no classes: a run folder is read before anybody decides whether its plugin is trusted.
    A part that is built from it says what the names mean, by a class of settings of its own:
    `MyOptions.from_own(config.own)`.

    Args:
        values: Plain JSON values, or flat lists of them.

    Raises:
        UsageError: Not an object, or a value of another kind.
    """

    def __init__(self, values: Mapping[str, Any] | None = None):
        if values is not None and not isinstance(values, Mapping):
            raise UsageError(
                rule="options of a plugin must be a JSON object",
                got=repr(values),
                fix='Write it as {"name": value}.',
            )
        items = {name: _plain(name, value) for name, value in (values or {}).items()}
        # In one order, so that equal options have equal hashes and equal config.json files.
        self._values = dict(sorted(items.items()))

    def __getitem__(self, name: str) -> object:
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"OwnOptions({self._values})"


NO_OPTIONS = OwnOptions()
"""Those of a run without plugins."""


def _plain(name: str, value: object) -> object:
    if isinstance(value, (list, tuple)):
        return tuple(_plain(name, item) for item in value)
    if not isinstance(value, _PLAIN):
        raise UsageError(
            rule="an option of a plugin must be a number, a text, a truth value or a list of these",
            got=f"{name} = {value!r}",
            fix="Give the part itself, built in Python, where it needs more.",
        )
    return value
