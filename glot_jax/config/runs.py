"""Settings of the commands that take a trained run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from glot_jax.config.base import flag, require_at_least
from glot_jax.errors import UsageError, require


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Scores of a trained run, as JSON on stdout: on a store, on a labelled file, or on tasks of
    MTEB.
    """

    run: Path
    """Run folder."""
    store: Path | None = None
    """Another store of the same task and backbone.

    Default: the run's own. With --data: where to keep the file's states.
    """
    data: Path | None = None
    """Labelled rows to score instead: a file in the columns the run was trained on, or a folder of
    such files by split.
    """
    encoding: str | None = None
    """With --data: of its text files, as Python names it: cp1252, latin-1 ...

    Default: UTF-8, or by the byte-order mark.
    """
    drop_unlabelled: bool = False
    """With --data: leave out rows without a label, and say how many, instead of refusing the file.
    """
    backbone: str | None = None
    """With --data and --mteb: where the backbone lies, if the run knows it only by the name of a
    folder.
    """
    checkpoint: Literal["best", "last"] = "best"
    linear_probe: bool = False
    """Also fit a linear SVM on the vectors of the training rows, and score it on the other splits
    (tasks with classes).
    """
    mteb: tuple[str, ...] = ()
    """Tasks of MTEB by name (STS12 SciFact ...), or `paper` (its seven tasks), `table12` (all of
    its Table 12).
    """
    mteb_data: Path | None = None
    """Folder with a folder of each task, by its name, that is then read instead of the Hub.

    Formats: glot_jax.inference.mteb_tasks.
    """
    mteb_states: Path | None = None
    """Keep the states of the tasks' texts in stores there: other heads on the same backbone read
    them instead of running it.
    """
    beside: tuple[str, ...] = ()
    """sentence-transformers models (folders, Hub names, or minilm) to be scored on the same tasks
    of MTEB.
    """
    query_prefix: str = ""
    """Put before every query of a retrieval or reranking task, for the run; models of --beside have
    prompts of their own.
    """
    passage_prefix: str = ""
    """Put before every passage of one."""
    batch_size: int = 32
    """Texts of one forward pass, for MTEB."""
    out: Path | None = None
    """Folder of MTEB results: a JSON file for each model and task, and mteb.json.

    Default: RUN/mteb.
    """

    def __post_init__(self) -> None:
        require_at_least(self, 1, "batch_size")
        require(
            self.data is None or not self.linear_probe,
            "a probe is fitted to a train split",
            "--linear-probe with --data",
            "Leave one out.",
        )
        require(
            self.data is not None or self.encoding is None,
            "--encoding is for the files of --data",
            f"--encoding {self.encoding}",
            "Leave it out.",
        )
        if self.drop_unlabelled and self.data is None:
            raise UsageError(
                rule="--drop-unlabelled is for the files of --data",
                got="no --data",
                fix="Leave it out.",
            )
        require(
            self.data is not None or bool(self.mteb) or self.backbone is None,
            "--backbone is for the texts of --data or --mteb",
            f"--backbone {self.backbone}",
            "Leave it out.",
        )
        if not self.mteb:
            given = [
                flag(name)
                for name in (
                    "mteb_data",
                    "mteb_states",
                    "beside",
                    "query_prefix",
                    "passage_prefix",
                    "out",
                )
                if getattr(self, name)
            ]
            require(
                not given,
                "these are for --mteb",
                " ".join(given),
                "Name tasks: --mteb STS12, or leave them out.",
            )
            return
        given = [flag(name) for name in ("data", "store", "linear_probe") if getattr(self, name)]
        require(
            not given,
            "one kind of evaluation at a time",
            f"--mteb with {' '.join(given)}",
            "Leave one out.",
        )


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
