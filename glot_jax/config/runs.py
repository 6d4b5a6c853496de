"""Settings of the commands that take a trained run, or make one without training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar, Literal

from glot_jax.config.base import ARGUMENT, Config, flag, option
from glot_jax.config.checks import filled, require_one_place, whole
from glot_jax.config.compile_cache import ProgramCache
from glot_jax.config.location import Location
from glot_jax.config.machines import RayChoice
from glot_jax.errors import UsageError

# By name, and all empty by default: one that is not empty was given.
_FOR_MTEB = (
    "mteb_data",
    "mteb_states",
    "beside",
    "query_prefix",
    "passage_prefix",
    "out",
)
_NOT_FOR_MTEB = ("data", "store", "linear_probe")


@dataclasses.dataclass(frozen=True)
class BackboneChoice(Config):
    """Where the frozen model of a trained run lies, and where it runs."""

    backbone: str | None = None
    """Where the frozen model lies, if the run knows it only by the name of a folder."""
    device: str = "auto"
    """torch device of the backbone: auto (cuda if there is one), cpu, cuda, cuda:1 ..."""
    device_map: Literal["none", "auto"] = "none"
    """auto: spread a backbone that is larger than a GPU over the GPUs, the host's memory and the
    disk (accelerate).
    """

    def require_consistent(self) -> None:
        """Check that the backbone's place is given once."""
        require_one_place(self.device, self.device_map)


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(Config):
    """Score a trained run on a store, on a labelled file or on tasks of MTEB."""

    takes_plugins: ClassVar[bool] = True

    run: Path = dataclasses.field(metadata=ARGUMENT)
    """Run folder."""
    store: Location | None = None
    """Another store of the same task and backbone. Default: the run's own. With --data: where to
    keep the file's states.
    """
    data: Path | None = None
    """Labelled rows to score instead: a file in the columns the run was trained on, or a folder of
    such files by split.
    """
    # Any codec of Python's, which the reader of the file looks up.
    encoding: str | None = None
    """Encoding of the text files of --data, as Python names it: cp1252, latin-1 ... Default: UTF-8,
    or by the byte-order mark.
    """
    drop_unlabelled: bool = False
    """With --data: leave out rows without a label, and say how many, instead of refusing the file.
    """
    backbone: str | None = None
    """With --data and --mteb: where the backbone lies, if the run knows it only by the name of a
    folder.
    """
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run is scored."""
    json: bool = False
    """Print one JSON object instead of sentences and tables. MTEB's scores are always JSON."""
    predictions: Path | None = None
    """.csv, .jsonl or .parquet: write every judged row with its label and what was predicted; with
    --data FILE beside the columns of the file.
    """
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
    """Put before every passage of a retrieval or reranking task, for the run."""
    batch_size: int = option(32, whole(1))
    """Texts of one forward pass, for MTEB."""
    out: Path | None = None
    """Folder of MTEB results: a JSON file for each model and task, and mteb.json. Default:
    RUN/mteb.
    """
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""

    def require_consistent(self) -> None:
        """Check that one kind of evaluation is chosen, and that its options are its own."""
        # Options of another kind are refused, not ignored: the scores would not be what was asked.
        if self.data is not None and self.linear_probe:
            raise UsageError(
                rule="--linear-probe is fitted to a train split, which --data does not have",
                got="--linear-probe with --data",
                fix="Leave one out.",
            )
        if self.data is None and self.encoding is not None:
            raise UsageError(
                rule="--encoding is for the files of --data",
                got=f"--encoding {self.encoding}",
                fix="Leave it out.",
            )
        if self.data is None and self.drop_unlabelled:
            raise UsageError(
                rule="--drop-unlabelled is for the files of --data",
                got="no --data",
                fix="Leave it out.",
            )
        # A store's texts went through the backbone long ago.
        reads_texts = self.data is not None or bool(self.mteb)
        if self.backbone is not None and not reads_texts:
            raise UsageError(
                rule="--backbone is for the texts of --data or --mteb",
                got=f"--backbone {self.backbone}",
                fix="Leave it out.",
            )
        if self.mteb:
            self._require_mteb_alone()
        else:
            self._require_no_mteb_options()

    def _require_mteb_alone(self) -> None:
        # Each of the three prints scores of its own form; there is one JSON object.
        others = [flag(name) for name in _NOT_FOR_MTEB if getattr(self, name)]
        if others:
            raise UsageError(
                rule="only one kind of evaluation runs at a time",
                got=f"--mteb with {' '.join(others)}",
                fix="Leave one out.",
            )

    def _require_no_mteb_options(self) -> None:
        options = [flag(name) for name in _FOR_MTEB if getattr(self, name)]
        if options:
            raise UsageError(
                rule=f"{', '.join(options)} can be given only with --mteb",
                got="no --mteb",
                fix="Name tasks: --mteb STS12, or leave them out.",
            )


@dataclasses.dataclass(frozen=True)
class DescribeConfig(Config):
    """Print the model card of a trained run.

    It tells parameters by part, what the stem learned, the token graph, and density by layer.
    """

    takes_plugins: ClassVar[bool] = True

    run: Path = dataclasses.field(metadata=ARGUMENT)
    """Run folder."""
    store: Location | None = None
    """Another store of the same backbone, whose token graphs are looked at. Default: the run's own.
    """
    # Enough for a density, and done in seconds whatever the size of the store.
    texts: int = option(512, whole(1))
    """Texts of the store that are looked at, at most."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run is described."""
    json: bool = False
    """Print one JSON object instead of tables."""


@dataclasses.dataclass(frozen=True)
class PredictConfig(Config):
    """Write the rows of a file with the class or score that trained runs predict for them."""

    takes_plugins: ClassVar[bool] = True

    file: Path = dataclasses.field(metadata=ARGUMENT)
    """Rows to predict, of any format that extract.py reads; labels are not needed. `-`: stdin, a
    text a line, answered on stdout as they come.
    """
    run: tuple[Path, ...] = option((), filled)
    """Run folder; of several the probabilities, or scores, are averaged."""
    out: Path | None = None
    """.csv, .jsonl or .parquet: the columns of FILE, prediction, and for classes probability and
    probability.CLASS.
    """
    text_columns: tuple[str, ...] = ()
    """Columns of the texts. Default: those that the run was trained on."""
    encoding: str | None = None
    """Encoding of text files, as Python names it: cp1252, latin-1 ... Default: UTF-8, or by the
    byte-order mark.
    """
    batch_size: int = option(32, whole(1))
    """Texts of one forward pass."""
    frozen: BackboneChoice = dataclasses.field(default_factory=BackboneChoice)
    """Where the backbone lies and runs."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the runs answers."""
    cluster: RayChoice = dataclasses.field(default_factory=RayChoice)
    """Which Ray cluster does the work."""
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""

    def require_consistent(self) -> None:
        """Check where answers go."""
        if str(self.file) == "-":
            if self.out is not None or self.text_columns:
                raise UsageError(
                    rule="stdin has a text a line, and is answered on stdout",
                    got="- with --out or --text-columns",
                    fix="Leave them out, or give a file.",
                )
            # Lines that come one by one are no work to share out.
            if self.cluster.ray is not None:
                raise UsageError(
                    rule="a cluster takes a file, whose rows it can share out",
                    got=f"- with --ray {self.cluster.ray}",
                    fix="Leave it out, or give a file.",
                )
        elif self.out is None:
            raise UsageError(
                rule="predictions of a file must be written somewhere",
                got="no --out",
                fix="Give for example --out predictions.csv.",
            )


@dataclasses.dataclass(frozen=True)
class EncodeConfig(Config):
    """Write vectors of the texts in a file, by a trained run and the backbone it was trained on."""

    takes_plugins: ClassVar[bool] = True

    file: Path = dataclasses.field(metadata=ARGUMENT)
    """.txt with a text in each line, or .jsonl, .json, .csv, .tsv, .parquet, also with .gz or .zst
    behind it.
    """
    run: Path
    """Run folder."""
    out: Path
    """.npy: float32 [rows, dim]; .parquet, .jsonl, .csv: the columns of FILE and vector."""
    column: str | None = None
    """Column of the texts. Default: text."""
    encoding: str | None = None
    """Encoding of FILE, as Python names it: cp1252, latin-1 ... Default: UTF-8, or by the
    byte-order mark.
    """
    batch_size: int = option(32, whole(1))
    """Texts of one forward pass."""
    # Off: an inner product of vectors as they are is what raw embeddings were trained on.
    normalize: bool = False
    """Scale the vectors to unit length."""
    frozen: BackboneChoice = dataclasses.field(default_factory=BackboneChoice)
    """Where the backbone lies and runs."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run encodes."""
    cluster: RayChoice = dataclasses.field(default_factory=RayChoice)
    """Which Ray cluster does the work."""
    programs: ProgramCache = dataclasses.field(default_factory=ProgramCache)
    """Where compiled programs are kept."""


@dataclasses.dataclass(frozen=True)
class ExportConfig(Config):
    """Write a trained run for software without this package.

    What was written is loaded again and compared with the run.
    """

    takes_plugins: ClassVar[bool] = True

    run: Path = dataclasses.field(metadata=ARGUMENT)
    """Run folder; with --to hub also a folder exported before."""
    # Not a Path: `owner/model` is no place on this machine.
    out: str = dataclasses.field(metadata=ARGUMENT)
    """New folder (sentence-transformers, parameters, stablehlo), file (onnx) or owner/model (hub).
    """
    to: Literal["sentence-transformers", "onnx", "hub", "parameters", "stablehlo"] = (
        "sentence-transformers"
    )
    """sentence-transformers: backbone, tokenizer and pooling head, loaded with
    trust_remote_code=True; onnx: the pooling head alone; hub: upload; parameters: all arrays as
    safetensors and the settings as JSON; stablehlo: the pooling head as a program of jax.export.
    """
    with_head: bool = False
    """Also what the run was trained to say: probabilities of the classes, or the score. parameters
    always hold it.
    """
    backbone: str | None = None
    """Where the frozen model lies, if the run knows it only by the name of a folder."""
    checkpoint: Literal["best", "last"] = "best"
    """Which checkpoint of the run is exported."""
    # The safe side: what was uploaded publicly by mistake has been seen.
    public: bool = False
    """--to hub: a repository that everybody sees."""

    def require_consistent(self) -> None:
        """Check that the options are those of the format."""
        if self.public and self.to != "hub":
            raise UsageError(
                rule="--public is for a repository on the Hub",
                got=f"--to {self.to}",
                fix="Leave it out.",
            )
        if self.to not in ("sentence-transformers", "hub") and self.backbone is not None:
            raise UsageError(
                rule=f"--backbone is not for --to {self.to}, which holds the head alone",
                got=f"--backbone {self.backbone}",
                fix="Leave it out.",
            )
        if self.to == "parameters" and self.with_head:
            raise UsageError(
                rule="--with-head is not for --to parameters, which always holds the task's head",
                got="--with-head",
                fix="Leave it out.",
            )


@dataclasses.dataclass(frozen=True)
class ImportTorchConfig(Config):
    """Turn a state_dict of the paper's released PyTorch pooling module into a run folder.

    It has no head.

    Sizes, heads and depth are read from the arrays; the rest the file does not say, so it has no
    defaults.
    """

    file: Path = dataclasses.field(metadata=ARGUMENT)
    """A .pth file, written by torch.save(module.state_dict(), FILE). No code in it is run."""
    # Required, all three: a wrong guess would load without an error.
    gnn: str
    """Layer type it was trained with: gat, gcn, gin, gine, sage."""
    jk: str
    """Its jumping knowledge: cat, max, mean, none. The last three have the same shapes: a wrong one
    cannot be noticed.
    """
    tau: float
    """Threshold of the graphs it was trained on."""
    out: Path
    """Run folder to write; new or empty."""
