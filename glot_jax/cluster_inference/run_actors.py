"""What an actor does for `encode` and `predict`: it loads the runs once, and answers for texts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glot_jax.backbones.distant import deciding_versions
from glot_jax.cluster.in_order import TextItem
from glot_jax.compile_cache import use_compile_cache
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.config.runs import BackboneChoice
from glot_jax.inference.answering import Answers
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.inference.predictor import Predictor
from glot_jax.run_folders.run_folder import CheckpointName


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """What the answers of an actor depend on."""

    fingerprints: tuple[Mapping[str, Any], ...]
    """Of each run: `SentenceEncoder.fingerprint`."""
    versions: Mapping[str, str]
    """Package -> version."""
    dim: int
    """Width of a vector; of several runs the first one's."""

    def differences(self, other: RunFacts) -> list[str]:
        """What must be equal for answers to be those of one process, and is not."""
        # All of them: whoever repairs one wants to know of the others.
        lines = []
        if self.fingerprints != other.fingerprints:
            lines.append(f"run: {self.fingerprints} -> {other.fingerprints}")
        for package, version in self.versions.items():
            others = other.versions.get(package)
            if others != version:
                lines.append(f"{package}: {version} -> {others}")
        return lines


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """What an actor loads, and how it answers."""

    runs: tuple[Path, ...]
    """Absolute."""
    frozen: BackboneChoice
    checkpoint: CheckpointName
    batch_size: int
    normalize: bool = False
    """Vectors only."""
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where an actor keeps compiled programs, on its own machine."""
    plugins: tuple[str, ...] = ()
    """Modules whose code is run."""

    def elsewhere(self) -> RunSettings:
        """These for a process that has another working folder."""
        # Ray's processes start in a folder of their own.
        runs = tuple(run.absolute() for run in self.runs)
        frozen = self.frozen
        if frozen.backbone is not None and Path(frozen.backbone).expanduser().exists():
            backbone = str(Path(frozen.backbone).expanduser().absolute())
            frozen = dataclasses.replace(frozen, backbone=backbone)
        return dataclasses.replace(self, runs=runs, frozen=frozen)


class EncoderActor:
    """Vectors of texts."""

    def __init__(self, settings: RunSettings):
        """Load the run and its backbone.

        Raises:
            UsageError: as for `SentenceEncoder.load`.
        """
        # Each node compiles once, and not each actor.
        use_compile_cache(settings.programs.compile_cache)
        self._settings = settings
        self._encoder = SentenceEncoder.load(
            settings.runs[0],
            **vars(settings.frozen),
            checkpoint=settings.checkpoint,
            plugins=settings.plugins,
        )

    def facts(self) -> RunFacts:
        """What the vectors depend on."""
        return RunFacts(
            (self._encoder.fingerprint,),
            deciding_versions(),
            self._encoder.dim,
        )

    def do(self, item: TextItem[str]) -> np.ndarray:
        """float32 [texts, dim]."""
        # As the single process does it: windows and batches are the same, and so are the digits.
        return self._encoder.encode(
            item.texts,
            batch_size=self._settings.batch_size,
            normalize=self._settings.normalize,
        )


class PredictorActor:
    """Classes or scores of rows."""

    def __init__(self, settings: RunSettings):
        """Load the runs and their backbone.

        Raises:
            UsageError: as for `Predictor.load`.
        """
        use_compile_cache(settings.programs.compile_cache)
        self._settings = settings
        self._predictor = Predictor.load(
            settings.runs,
            settings.frozen,
            checkpoint=settings.checkpoint,
            plugins=settings.plugins,
        )

    def facts(self) -> RunFacts:
        """What the answers depend on."""
        # One for each run.
        members = self._predictor.members
        fingerprints = tuple(member.fingerprint for member in members)
        return RunFacts(
            fingerprints,
            deciding_versions(),
            members[0].dim,
        )

    def do(self, item: TextItem[Sequence[str]]) -> Answers:
        """The answers for some rows."""
        return self._predictor.predict(item.texts, self._settings.batch_size)
