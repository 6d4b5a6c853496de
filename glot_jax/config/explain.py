"""Settings of `glot explain`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from glot_jax.config.base import Config, about, option
from glot_jax.config.checks import filled, whole
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.config.runs import BackboneChoice
from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ExplainConfig(Config):
    """Show which tokens of a text decided what a trained run says of it."""

    takes_plugins: ClassVar[bool] = True

    texts: tuple[str, ...] = dataclasses.field(metadata=about(filled, positional=True))
    """Texts to explain; of a run on pairs the two texts of a row after each other."""
    run: Path
    """Run folder."""
    out: Path | None = None
    """.html: one page with everything in it, whose threshold can be moved; .json. Default: print to
    the terminal.
    """
    json: bool = False
    """Print JSON."""
    occlude: Literal["tokens", "words"] = "tokens"
    """What is taken out: tokens before the graph; or also each word before the backbone reads the
    text, which runs the backbone once a word.
    """
    class_name: str | None = None
    """Class whose score is explained. Default: the one that is predicted."""
    top: int = option(5, whole(1))
    """Tokens in the table that is printed of each text."""
    frozen: BackboneChoice = dataclasses.field(default_factory=BackboneChoice)
    """Where the backbone lies and runs."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run is explained."""
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""

    def require_consistent(self) -> None:
        """Check where the explanation goes."""
        if self.out is None:
            return
        if self.json:
            raise UsageError(
                rule="an explanation goes to one place",
                got="--json with --out",
                fix="Leave one out.",
            )
        if self.out.suffix not in (".html", ".json"):
            raise UsageError(
                rule="--out must end in .html or .json",
                got=self.out.name,
                fix="Give for example --out explanation.html.",
            )
