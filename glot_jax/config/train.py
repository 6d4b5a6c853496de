"""Settings of a training run.

Names of poolers, GNN layers, tasks and backends are not listed here: they stand in the tables
beside what they name (`POOLERS`, `GNN_LAYERS`, `TASKS`, `BACKENDS`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from glot_jax.config.base import flag, is_number, require_at_least, require_choices, require_divisor
from glot_jax.errors import require


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
        require_choices(self)
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
        require_choices(self)
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
        require_choices(self)
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
        require_choices(self)
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
