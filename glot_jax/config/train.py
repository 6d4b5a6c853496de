"""Settings of a training run.

Names of poolers, GNN layers, graph rules and backends are checked where they are looked up, in the
tables beside what they name: a name may be one that another package has registered.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from glot_jax.config.base import (
    ALL,
    IDENTITY,
    NOTHING,
    NUMBERS,
    PROGRAM,
    VARIANT,
    Config,
    about,
    flag,
    option,
)
from glot_jax.config.checks import (
    at_least,
    between,
    distinct,
    each,
    positive,
    require_divisor,
    share,
    whole,
)
from glot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class GraphConfig(Config):
    """Which tokens are linked, and how the graph is computed (paper section 3.2, step 1).

    The paper's rule is S_ij = cos(x_i, x_j) > tau.
    """

    graph: str = option("threshold", decides=ALL)
    """Rule of the edges, a name of glot_jax.graphs.RULES: threshold, knn, window, self (self-loops
    only), complete, random.
    """
    tau: float = option(0.6, between(-1, 1, "a cosine"), decides=ALL)
    """threshold: an edge where the cosine is strictly greater (random: the density to imitate).
    Paper: 0.1, 0.3, 0.6; release: 0.8.
    """
    k: int = option(8, whole(1), decides=ALL)
    """knn: tokens each token listens to, itself included."""
    window: int = option(4, whole(0), decides=ALL)
    """window: how many real tokens away, on either side, a token is heard."""
    graph_seed: int = option(0, whole(0), decides=ALL)
    """random: seed of the edges."""
    learn_tau: bool = option(False, decides=ALL)
    """threshold: train tau, with soft edges sigmoid((S - tau) / T) in training and hard ones in
    evaluation (dense only).
    """
    temperature: tuple[float, float] = option((0.1, 0.01), each(positive), decides=ALL)
    """learn_tau: T at the first and at the last training step, annealed geometrically in between.
    """
    backend: str = option("auto", decides=ALL)
    """dense (masked matmuls), blockwise (long texts: a bit per pair), sparse (padded
    jraph.GraphsTuple), or auto: by length and density.
    """
    # Room for edges changes no number, so a run may be resumed with another budget.
    edge_budget: int | None = option(
        None, whole(1), decides=PROGRAM | VARIANT | IDENTITY, example=4096
    )
    """sparse, also where auto takes it: edges a batch may hold. Default: a power of two from the
    store's measured density.
    """

    def require_consistent(self) -> None:
        """Check the number of temperatures, and that soft edges have a backend."""
        if len(self.temperature) != 2:
            raise UsageError(
                rule="--temperature must be two positive numbers, FIRST LAST",
                got=self.temperature,
                fix="Give for example --temperature 0.1 0.01.",
            )
        hard = self.graph != "threshold" or self.backend not in ("auto", "dense")
        if self.learn_tau and hard:
            raise UsageError(
                rule="--learn-tau needs --graph threshold and --backend dense",
                got=f"--graph {self.graph} --backend {self.backend}",
                fix="Soft edges link every pair of tokens: only the dense backend holds them.",
            )


@dataclasses.dataclass(frozen=True)
class PoolerConfig(Config):
    """Which pooler turns token states into one vector, and the sizes of its parts."""

    pooler: str = option("glot", decides=ALL)
    """A name of glot_jax.pooling.POOLERS: cls, first, last, mean, max, weighted-mean,
    mean-sqrt-len, pma, latent-attention, adapool, adapool-attention, mlp, glot.
    """
    gnn: str = option("gat", decides=ALL)
    """glot: layer type, a name of glot_jax.pooling.GNN_LAYERS: gat, gcn, gin, gine, sage. mlp:
    whose parameter count to match.
    """
    hidden_dim: int = option(128, whole(1), decides=ALL)
    """glot: width of the Token-GNN (heads x width per head). mlp: of the glot whose parameter count
    to match. latent-attention: width of its MLP.
    """
    num_layers: int = option(2, whole(0), decides=ALL)
    """glot, mlp: number K of layers; 0 leaves the attention readout alone."""
    jk: Literal["cat", "max", "mean", "none"] = option("cat", decides=ALL)
    """glot, mlp: jumping knowledge over the layers. cat keeps the states themselves too."""
    heads: int = option(1, whole(1), decides=ALL)
    """glot with gat: attention heads, hidden_dim is divided among them; adapool-attention,
    pma, latent-attention: heads that divide the states' width.
    """
    edge_term: bool = option(False, decides=ALL)
    """glot with gat: add the release's trained constant to every attention logit (the paper's
    Algorithm 1 has none).
    """
    residual: bool = option(False, decides=ALL)
    """glot: a layer is LayerNorm(relu(layer(u)) + u); a linear map adapts u where the width
    changes. Not in the paper.
    """
    virtual_node: bool = option(False, decides=ALL)
    """glot: after each layer every token adds an MLP of its sentence's mean. Not in the paper."""
    projection_dim: int | None = option(None, whole(1), decides=ALL, example=128)
    """Width p of the optional input projection U_0 = X W_in (paper: 128, 256, 512). Default: no
    projection.
    """
    num_latents: int | None = option(None, whole(1), decides=ALL, example=16)
    """pma: number of learned seeds, by default 1; the vector is as many times as wide as the
    states. latent-attention: number of trained latents, by default 512.
    """
    scorer_dim: int | None = option(None, whole(1), decides=ALL, example=128)
    """Width of the readout's scorer. Default: max(128, width // 2) for glot (its mlp has the same),
    128 for adapool.
    """
    standardise: bool = option(False, decides=ALL)
    """Bring every dimension of the states to mean 0 and deviation 1 over the training rows' tokens.
    The graph is built from the raw states.
    """
    dropout: float = option(0.0, share, decides=ALL, example=0.1)
    """Share of the states' entries set to 0 in training, the rest scaled up; after the graph is
    made. Not in the paper.
    """
    attention_dropout: float = option(0.0, share, decides=ALL, example=0.1)
    """glot with gat: share of the attention weights set to 0 in training. Not in the paper."""
    dtype: Literal["float32", "bfloat16"] = option("float32", decides=ALL)
    """Arithmetic of the head; parameters, similarities and softmaxes stay float32."""

    def require_consistent(self) -> None:
        """Check that heads divide the width, and that there are layers to combine."""
        if self.pooler not in ("glot", "mlp"):
            return
        if self.gnn == "gat":
            require_divisor(self.heads, self.hidden_dim, "--hidden-dim")
        if self.num_layers == 0 and self.jk in ("max", "mean"):
            raise UsageError(
                rule="--jk max and mean combine the GNN's layers, so they need --num-layers of at"
                " least 1",
                got=f"--jk {self.jk} --num-layers 0",
                fix="With --num-layers 0 use --jk cat or none.",
            )


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig(Config):
    """What the pooled vectors are trained and judged on. The task itself comes from the store."""

    pair_features: Literal["concat", "interaction"] = option("concat", decides=ALL, task="pair")
    """Pair classification: [a; b], or [a; b; |a-b|; a*b]."""
    metric: str | None = option(None, decides=ALL)
    """Metric that selects the best epoch. Default: the task's own (mcc for CoLA, spearman for STS-B
    ...).
    """
    select_on: Literal["auto", "validation", "holdout", "last"] = option("auto", decides=ALL)
    """Split that selects it: validation; holdout = a seeded 10 % of train, never trained on; last =
    no selection. auto: validation, or holdout where there is none.
    """
    embedding_head: Literal["none", "linear"] = option("none", decides=ALL, task="embedding")
    """Task embedding: compare the pooled vectors themselves, or a trained linear map of them."""
    embedding_vectors: Literal["unit", "raw"] = option("unit", decides=ALL, task="embedding")
    """Task embedding: scale them to length 1 (paper), or take them as they are (release)."""
    loss_temperature: float = option(0.07, positive, decides=ALL, task="embedding")
    """Task embedding: what similarities are divided by in InfoNCE."""
    hard_negatives: int = option(1, whole(0), decides=ALL, task="embedding")
    """Task embedding: of a row's own negatives, how many a training row brings along; 0: only the
    batch's other texts.
    """


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Config):
    """Adam or AdamW with a constant or cosine learning rate."""

    optimizer: Literal["adam", "adamw"] = option("adam", decides=ALL)
    """Adam, or AdamW with decoupled weight decay."""
    lr: float = option(2e-4, at_least(0), decides=ALL)
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = option("constant", decides=ALL)
    """After warm-up: constant, or a cosine to zero at the last step."""
    warmup_steps: int | None = option(None, whole(0), decides=ALL, example=100)
    """Linear warm-up in optimizer steps. Default: no warm-up, in any unit."""
    warmup_epochs: float | None = option(None, at_least(0), decides=ALL, example=0.5)
    """Linear warm-up in epochs, instead of --warmup-steps. Default: none."""
    warmup_fraction: float | None = option(None, between(0, 1), decides=ALL, example=0.1)
    """Linear warm-up as a share of all steps, instead of --warmup-steps. Default: none."""
    weight_decay: float = option(0.0, at_least(0), decides=ALL)
    """adamw: decoupled; adam: added to the gradient, as in PyTorch."""
    clip_norm: float | None = option(None, at_least(0), decides=ALL, example=1.0)
    """Clip the gradient's global norm to this. Default: no clipping."""

    def require_consistent(self) -> None:
        """Check that the warm-up has one unit."""
        units = [flag(name) for name in WARMUP if getattr(self, name) is not None]
        if len(units) > 1:
            raise UsageError(
                rule="the warm-up must be given in one unit",
                got=", ".join(units),
                fix="Keep one of them.",
            )


WARMUP = ("warmup_steps", "warmup_epochs", "warmup_fraction")
"""The units of a warm-up, as fields of OptimizerConfig; at most one is given."""


@dataclasses.dataclass(frozen=True)
class TrainConfig(Config):
    """Everything that decides a training run."""

    # Where things lie, how they are fed and when they are saved changes no number; the paths are
    # those of this machine and belong to no identity.
    store: Path = dataclasses.field(metadata=about(decides=NOTHING))
    """Folder written by extract.py."""
    out: Path = dataclasses.field(metadata=about(decides=NOTHING))
    """Run folder: config.json, summary.json, metrics.jsonl, timing.jsonl, checkpoints/."""
    layer: int | None = option(None, decides=ALL)
    """Stored layer to read (0 to L, negative from the end). Default: the only one stored, else the
    last.
    """
    mix_layers: tuple[int, ...] | None = option(None, distinct, decides=ALL, example=(0, 6))
    """Read several stored layers and combine them by a learned softmax before the graph; no number
    after it means all stored. Default: one layer.
    """
    epochs: int = option(3, whole(1), decides=ALL)
    """Passes over the training rows."""
    batch_size: int = option(32, whole(1), decides=ALL)
    """Rows (pairs count once) per training step."""
    eval_batch_size: int = option(64, whole(1), decides=NUMBERS | PROGRAM | IDENTITY)
    """Rows per evaluation step."""
    seed: int = option(42, whole(0), decides=NUMBERS | IDENTITY)
    """Seed of the initialisation, the batch order and the holdout."""
    buckets: int = option(3, whole(1), decides=ALL)
    """Padded lengths a batch can have, chosen from the store's length histogram; each costs two
    compilations.
    """
    batches: Literal["by-length", "shuffled"] = option("by-length", decides=ALL)
    """Training rows that share a batch: those of similar length (least padding), or any, padded to
    the batch's longest. Task embedding: any.
    """
    cache: Literal["auto", "device", "host", "none"] = option("auto", decides=IDENTITY)
    """Where token states wait: on the device, in host memory, or in the memory map. auto: the first
    that fits.
    """
    trust_store: bool = option(False, decides=IDENTITY)
    """Do not compare the store's files with their hashes when they are first read; sizes and shapes
    still are.
    """
    log_every: int = option(20, whole(1), decides=NUMBERS | IDENTITY)
    """Steps between lines in metrics.jsonl (and at the end of every epoch)."""
    checkpoint_minutes: float = option(5.0, at_least(0), decides=IDENTITY)
    """Within an epoch a checkpoint is saved whenever so many minutes have passed; 0: only at the
    end of every epoch.
    """
    graph: GraphConfig = dataclasses.field(default_factory=GraphConfig)
    pooler: PoolerConfig = dataclasses.field(default_factory=PoolerConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

    def require_consistent(self) -> None:
        """Check that one layer is read or several are mixed."""
        if self.layer is not None and self.mix_layers is not None:
            raise UsageError(
                rule="--layer reads one layer and --mix-layers several, so only one may be given",
                got=f"--layer {self.layer} --mix-layers",
                fix="Leave one out.",
            )
