"""What a store is made from: `Recipe`, and `PendingAppend` for rows that are being added to one.

Both are known before the first shard is written, and lie in `OUT.lock/recipe.json` until the last
one is: a run that continues the store compares its own with it.
"""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from glot_jax.config.json import Json, differences, from_json
from glot_jax.errors import UsageError
from glot_jax.store.identity import canonical

_DECIDE_STATES = (
    "backbone",
    "tokenizer",
    "num_layers",
    "special_tokens",
    "prompt",
    "adapter",
    "weights",
    "passes",
)
"""Fields that decide what a state means: a head does not fit the states of another model."""

_LEFT_OUT = frozenset(
    {
        "passes",
        "weights",
        "adapter",
        "add_bos",
        "deterministic",
        "deduplicate",
        "protocol",
        "ratio",
        "diagnostic_rows",
        "distance",
        "position",
    }
)
"""Fields that a store has only if it uses them. They are never null, so stores that do not use them
keep the bytes, and the content, that earlier versions gave them."""

_OBJECTS = frozenset({"backbone", "states", "special_tokens", "adapter"})
"""Fields that are JSON objects; `from_json` of a dataclass does not look at these."""

# They say how a recipe was written down, not what a store is made from.
_NOT_JSON = ("absent", "more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that decides the bytes of a store and is known before its first shard.

    Not part of it are the token budget and the padding side of a forward pass: they change no state
    beyond rounding.

    `to_json` gives back what `from_json` was given, keys sorted: a field that was not there is not
    there again, although it has a value here, and fields of newer versions are kept. The content of
    a store is computed from these values, so they must not change between versions.
    """

    backbone: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """{name, sha256, revision} of the language model. The name is a label: the hash or the revision
    is the identity.
    """
    tokenizer: str | None = None
    """sha256 of the tokenizer."""
    model_type: str | None = None
    """What transformers calls the architecture: bert, llama ..."""
    kind: str = "auto"
    """encoder or decoder; decides which token `cls` pooling takes."""
    num_layers: int = 0
    """Blocks of the model, L; layers count 0 .. L."""
    dim: int = 0
    """Width of a state."""
    max_length: int | None = None
    """Tokens that a text is cut to."""
    layers: tuple[int, ...] = ()
    """Stored layers, ascending."""
    states: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Layer, as a string -> the tensor of the model that its states are, in words."""
    compute_dtype: str | None = None
    prompt: str | None = None
    """Template that every text is put into."""
    special_tokens: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """{add_special_tokens, added, truncation_side}"""
    add_bos: bool | None = None
    """Whether a token that the tokenizer does not add is put before every text."""
    passes: str | None = None
    """Which texts may share a forward pass, where it is not any with padding."""
    weights: str | None = None
    """The file of the weights, where it is not a safetensors file."""
    adapter: Mapping[str, Any] | None = None
    """{type, sha256, base} of an adapter that is applied to the model."""

    storage_dtype: str = "auto"
    """As it was asked for; the records of the shards say what it came to."""
    shard_tokens: int | None = None
    """Tokens after which a shard is closed."""
    task: str | None = None
    text_columns: tuple[str, ...] = ()
    label_column: str | None = None
    max_train_rows: int | None = None
    sample_seed: int | None = None
    """Seed of the choice of `max_train_rows` rows."""
    deterministic: bool | None = None
    deduplicate: bool | None = None

    protocol: str | None = None
    """This and the following fields: how the texts of the stress test were generated."""
    ratio: float | None = None
    """Share of distractor words."""
    diagnostic_rows: tuple[int, ...] | None = None
    """Rows of train, validation and test."""
    distance: int | None = None
    position: float | None = None

    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Fields that this version does not know."""
    absent: frozenset[str] = frozenset()
    """Fields that every store of today has and this recipe does not."""

    @property
    def backbone_name(self) -> str | None:
        """What the language model was called when it was given."""
        return self.backbone.get("name")

    @property
    def backbone_sha256(self) -> str | None:
        """Hash of the language model's files; None for a folder on the Hub."""
        return self.backbone.get("sha256")

    @property
    def revision(self) -> str | None:
        """Commit of the language model on the Hub; None for a folder."""
        return self.backbone.get("revision")

    @classmethod
    def partial(cls, **fields: Json) -> Recipe:
        """The recipe that has these fields only."""
        # What a store may leave out is never absent: its default says that it is not used.
        return cls(**fields, absent=_FIELDS - _LEFT_OUT - set(fields))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        """Read the JSON object of a manifest, of a run's config.json or of an unfinished store.

        Raises:
            UsageError: a field has a value of another type.
        """
        # Files that people may have edited come through here.
        if not isinstance(values, Mapping):
            raise UsageError(
                rule="a recipe must be a JSON object", got=repr(values), fix="Restore the file."
            )
        fields: dict[str, Any] = {}
        more: dict[str, Any] = {}
        for name, value in values.items():
            if name not in _FIELDS:
                more[name] = value
            elif value is None and name in _LEFT_OUT | _OBJECTS:
                # A null where the field should have been left out: given back as it is.
                more[name] = value
            elif name in _OBJECTS and not isinstance(value, Mapping):
                raise UsageError(
                    rule=f"{name} of a recipe must be a JSON object",
                    got=repr(value),
                    fix="Restore the file.",
                )
            else:
                fields[name] = value
        read = from_json(cls, fields)
        # Remembered, so that a recipe without a field is not written back with its default.
        absent = _FIELDS - _LEFT_OUT - set(fields)
        return dataclasses.replace(read, more=more, absent=absent)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, keys sorted."""
        values = dict(self.more)
        # Whatever their order here: `canonical` sorts the keys.
        for name in _FIELDS - self.absent:
            value = getattr(self, name)
            if value is not None or name not in _LEFT_OUT:
                values[name] = value
        # Through JSON, as the values it will be compared with: tuples become lists.
        return json.loads(canonical(values))

    def extended(self, **fields: Json) -> Recipe:
        """The same recipe with these fields added or changed."""
        absent = self.absent - set(fields)
        return dataclasses.replace(self, **fields, absent=absent)

    def at_layers(self, layers: Iterable[int]) -> Recipe:
        """The recipe of a store that holds only these of its layers."""
        layers = tuple(layers)
        # JSON has strings for keys.
        names = {str(layer) for layer in layers}
        states = {}
        for layer, source in self.states.items():
            if layer in names:
                states[layer] = source
        return self.extended(layers=layers, states=states)

    def explain(
        self,
        other: Recipe,
        *,
        only: Collection[str] = (),
        ignore: Collection[str] = (),
    ) -> list[str]:
        """The fields in which `other` differs, one `field: this -> other` a line.

        No line means that both make the same states: a renamed or moved folder with the same hash
        or revision is the same backbone.

        Args:
            other: the recipe to compare with.
            only: compare these fields alone; default: all.
            ignore: do not compare these fields.
        """
        before = _without_label(self.to_json())
        after = _without_label(other.to_json())
        names = set(only) or {*before, *after}
        names -= set(ignore)
        return differences(_part(before, names), _part(after, names))

    def explain_states(self, other: Recipe, layers: Iterable[int]) -> list[str]:
        """How the states of these layers differ in meaning from those that `other` makes.

        One field a line; no line means that a head trained on the ones can read the others.
        """
        layers = tuple(layers)
        return differences(self._meaning(layers), other._meaning(layers))

    def _meaning(self, layers: tuple[int, ...]) -> dict[str, Any]:
        values = _without_label(self.to_json())
        meaning = _part(values, _DECIDE_STATES)
        # In the order in which the head reads them: the states of layer 3 of one store are not
        # those of layer 6 of another, whatever both call them.
        meaning["states"] = [self.states.get(str(layer)) for layer in layers]
        return meaning

    def __getitem__(self, name: str) -> Json:
        """The field as a JSON value, as in version 0.1, with a DeprecationWarning.

        Raises:
            KeyError: the recipe does not have the field.
        """
        warnings.warn(f"recipe[{name!r}] is recipe.{name} now", DeprecationWarning, stacklevel=2)
        return self.to_json()[name]


_FIELDS = frozenset(field.name for field in dataclasses.fields(Recipe)) - set(_NOT_JSON)


@dataclasses.dataclass(frozen=True)
class PendingAppend:
    """Rows that are being added to a finished store."""

    append: Mapping[str, str]
    """Split -> sha256 of the rows' token ids and labels."""
    content: str
    """Content of the store that the rows are added to."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"append": dict(self.append), "content": self.content}


def read_work(values: Mapping[str, Any]) -> Recipe | PendingAppend:
    """What a store or an append was begun with, from the values of `recipe.json`.

    Raises:
        UsageError: a field has a value of another type.
    """
    # Version 0.1 told the two apart by this key alone.
    if "append" in values:
        return from_json(PendingAppend, values)
    return Recipe.from_json(values)


def explain_mismatch(stored: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Explain how two recipes differ that are given as JSON objects, as in version 0.1.

    `Recipe.explain` has replaced it.
    """
    return Recipe.from_json(stored).explain(Recipe.from_json(other))


def _part(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """These fields alone; null for those that are not there."""
    return {name: values.get(name) for name in names}


def _without_label(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values without the backbone's name, unless nothing else identifies it."""
    # A null is given back as it was read.
    backbone = values.get("backbone") or {}
    identified = backbone.get("sha256") or backbone.get("revision")
    if not identified:
        return values
    # A copy: the recipe itself keeps the name, which people read.
    identity = dict(backbone)
    identity.pop("name", None)
    return {**values, "backbone": identity}
