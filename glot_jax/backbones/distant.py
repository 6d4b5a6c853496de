"""A backbone that runs in other processes: what this one has to know to hand out work to them.

Neither weights nor a GPU are needed for that. The tokenizer's files come from the process that has
the model, so that nothing has to be found, downloaded or hashed twice.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from glot_jax.backbone_files.backbone_source import Source
from glot_jax.backbones.backbone import Backbone
from glot_jax.backbones.text_cutter import TextCutter
from glot_jax.backbones.tokenizer import TokenizedTexts, load_tokenizer, tokenizer_sha256
from glot_jax.config.extract import ExtractConfig
from glot_jax.errors import UsageError
from glot_jax.store.recipe import Recipe
from glot_jax.version import __version__

_DECIDING = ("torch", "transformers", "tokenizers", "numpy")
"""Packages whose version may change a state or a token."""
_TEXT_FILES = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_MOST_BYTES = 128 * 1024**2


class KnownBackbone(Protocol):
    """What handing out work needs of a backbone."""

    @property
    def layers(self) -> tuple[int, ...]:
        """Those to extract, ascending."""
        ...

    @property
    def dim(self) -> int:
        """Their width."""
        ...

    @property
    def max_length(self) -> int:
        """Tokens of a text, special tokens included."""
        ...

    def tokenize(self, texts: Sequence[str], /) -> TokenizedTexts:
        """See `Backbone.tokenize`."""
        ...

    def recipe(self) -> Recipe:
        """See `Backbone.recipe`."""
        ...


@dataclasses.dataclass(frozen=True)
class BackboneFacts:
    """What a process that has loaded a backbone tells those that have not."""

    name: str
    """What the backbone is called."""
    recipe: Recipe
    layers: tuple[int, ...]
    dim: int
    max_length: int
    probe: Mapping[str, Any] = dataclasses.field(repr=False)
    """`Probe.to_json`."""
    notices: tuple[str, ...] = dataclasses.field(repr=False)
    """What was assumed and found out, a line each."""
    tokenizer_files: Mapping[str, bytes] = dataclasses.field(repr=False)
    """File name -> content."""
    versions: Mapping[str, str]
    """Package -> version, without the build's name."""

    @classmethod
    def of_backbone(cls, backbone: Backbone) -> BackboneFacts:
        """Those of a backbone that is loaded here."""
        # Plain values: they are pickled, and read by a process without torch's model.
        return cls(
            name=backbone.source.name,
            recipe=backbone.recipe(),
            layers=backbone.layers,
            dim=backbone.dim,
            max_length=backbone.max_length,
            probe=backbone.probe.to_json(),
            notices=tuple(backbone.notices()),
            tokenizer_files=_tokenizer_files(Path(backbone.source.tokenizer_location)),
            versions=deciding_versions(),
        )

    def differences(self, other: BackboneFacts) -> list[str]:
        """What must be equal wherever states of one store are made, and is not; a line each."""
        # The recipe names the weights by their hash or commit.
        lines = list(self.recipe.explain(other.recipe))
        for package, version in self.versions.items():
            others = other.versions.get(package)
            if others != version:
                lines.append(f"{package}: {version} -> {others}")
        return lines


def deciding_versions() -> dict[str, str]:
    """Versions of the packages that decide a state; 2.13.0+cpu and 2.13.0+cu130 are one."""
    # Of another version even the shards may be cut elsewhere.
    versions = {"glot-jax": __version__}
    for package in _DECIDING:
        version = importlib.metadata.version(package)
        versions[package] = version.partition("+")[0]
    return versions


def _tokenizer_files(folder: Path) -> dict[str, bytes]:
    """The small files of a model's folder: its tokenizer, and the settings that name it."""
    files = {}
    # In order, so that equal folders make equal facts.
    for path in sorted(folder.iterdir()):
        # Weights have other endings, but for the index of those that are in parts.
        is_index = path.name.endswith(".index.json")
        if path.suffix not in _TEXT_FILES or is_index or not path.is_file():
            continue
        if path.stat().st_size <= _MOST_BYTES:
            files[path.name] = path.read_bytes()
    return files


class DistantBackbone:
    """A backbone that runs elsewhere, with its tokenizer here.

    Attributes:
        facts: what is known of it.
        layers: those to extract, ascending.
        dim: their width.
        max_length: tokens of a text.
    """

    def __init__(self, config: ExtractConfig, facts: BackboneFacts):
        """Load the tokenizer.

        Args:
            config: settings of the extraction.
            facts: from a process that has the backbone.

        Raises:
            UsageError: the tokenizer is not the one of that process.
        """
        self.facts = facts
        self.layers = facts.layers
        self.dim = facts.dim
        self.max_length = facts.max_length
        # transformers reads tokenizers from folders alone.
        with tempfile.TemporaryDirectory(prefix="glot-tokenizer-") as folder:
            for name, content in facts.tokenizer_files.items():
                # A plain name: the files come from another machine.
                Path(folder, Path(name).name).write_bytes(content)
            source = Source(
                location=folder,
                name=facts.name,
                revision=None,
                sha256=None,
            )
            tokenizer = load_tokenizer(source)
        # Read by another version it may be another tokenizer.
        here = tokenizer_sha256(tokenizer)
        if here != facts.recipe.tokenizer:
            raise UsageError(
                rule="the tokenizer here must be that of the backbone's process",
                got=f"sha256 {here[:12]}, and {str(facts.recipe.tokenizer)[:12]} there",
                fix="Install the same versions of transformers and tokenizers on every machine.",
            )
        self._cutter = TextCutter(config, tokenizer, facts.name)
        self._cutter.set_length(facts.max_length)

    def tokenize(self, texts: Sequence[str]) -> TokenizedTexts:
        """See `Backbone.tokenize`."""
        return self._cutter.tokenize(texts)

    def recipe(self) -> Recipe:
        """See `Backbone.recipe`."""
        return self.facts.recipe
