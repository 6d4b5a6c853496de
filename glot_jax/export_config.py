"""Settings of `glot export`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from glot_jax.config import require


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """A trained run for software without JAX.

    What was written is loaded again and compared with the run first.
    """

    run: Path
    """Run folder; with --to hub also a folder exported before."""
    out: str
    """New folder (sentence-transformers), file (onnx) or owner/model (hub)."""
    to: Literal["sentence-transformers", "onnx", "hub"] = "sentence-transformers"
    """sentence-transformers: backbone, tokenizer and head, loaded with trust_remote_code=True;
    onnx: the head alone; hub: upload.
    """
    backbone: str | None = None
    """Where the frozen model lies, if the run knows it only by the name of a folder."""
    checkpoint: Literal["best", "last"] = "best"
    public: bool = False
    """--to hub: a repository that everybody sees."""

    def __post_init__(self) -> None:
        require(
            self.to == "hub" or not self.public,
            "--public is of a repository on the Hub",
            f"--to {self.to}",
            "Leave it out.",
        )
        require(
            self.to != "onnx" or self.backbone is None,
            "an ONNX file holds the head alone",
            f"--backbone {self.backbone}",
            "Leave it out.",
        )
