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
    setting,
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
from glot_jax.config.location import Location
from glot_jax.config.own_options import NO_OPTIONS, OwnOptions
from glot_jax.errors import UsageError

_PLACE = about(decides=NOTHING)
"""Metadata of a path that must be given: where things lie decides no number."""

_TOLD = NUMBERS | VARIANT | IDENTITY
"""What a number decides that a program is told when it runs: see `step_functions.Numbers`."""

_REPEATED = NUMBERS | IDENTITY
"""What decides the bytes of a run that is repeated, and neither its program nor its variant."""


@dataclasses.dataclass(frozen=True)
class GraphConfig(Config):
    """Which tokens are linked, and how the graph is computed (paper section 3.2, step 1).

    The paper's rule is S_ij = cos(x_i, x_j) > tau.
    """

    graph: str = setting("threshold")
    """Rule of the edges, a name of glot_jax.graphs.RULES: threshold, knn, window, self (self-loops
    only), complete, random.
    """
    # The default of the paper's appendix; right for a model or not is what the search is for.
    tau: float = setting(0.6, between(-1, 1, "a cosine"), decides=_TOLD)
    """threshold: an edge where the cosine is strictly greater (random: the density to imitate).
    Paper: 0.1, 0.3, 0.6; release: 0.8.
    """
    k: int = setting(8, whole(1))
    """knn: tokens each token listens to, itself included."""
    window: int = setting(4, whole(0))
    """window: how many real tokens away, on either side, a token is heard."""
    # Not --seed: the edges of the control stay the same over the seeds of a study.
    graph_seed: int = setting(0, whole(0))
    """random, and every --control: seed of the edges."""
    # Soft edges, because a hard one has no gradient towards its threshold.
    tau_density: float | None = setting(None, between(0, 1), example=0.3)
    """threshold: choose the tau that links this share of the pairs of different tokens, on a seeded
    sample of the training rows; it is written into config.json. Default: --tau.
    """
    # What is normalised away here is the part that all tokens share, and not what is pooled.
    graph_states: Literal["raw", "centred", "standardised"] = setting("raw")
    """threshold, knn: what cosines are taken of: the states, the states less their mean over the
    training rows' tokens, or also divided by their deviation. Not in the paper.
    """
    # A control of the rule that is on trial, with that rule's own number of edges.
    control: Literal["none", "random", "rewired"] = setting("none", unwritten=True)
    """Put the rule's edges elsewhere. random: as many in each text, on average; rewired: as many at
    each token (dense only). Not in the paper.
    """
    learn_tau: bool = setting(False)
    """threshold: train tau, with soft edges sigmoid((S - tau) / T) in training and hard ones in
    evaluation (dense only).
    """
    temperature: tuple[float, float] = setting((0.1, 0.01), each(positive))
    """learn_tau: T at the first and at the last training step, annealed geometrically in between.
    """
    backend: str = setting("auto")
    """dense (masked matmuls), blockwise (long texts: a bit per pair), sparse (padded
    jraph.GraphsTuple), or auto: by length and density.
    """
    # Room for edges changes no number, so a run may be resumed with another budget.
    edge_budget: int | None = setting(
        None,
        whole(1),
        decides=PROGRAM | VARIANT | IDENTITY,
        example=4096,
    )
    """sparse, also where auto takes it: edges a batch may hold. Default: a power of two from the
    store's measured density.
    """
    own: OwnOptions = dataclasses.field(default=NO_OPTIONS, metadata=about(decides=ALL))
    """Options that a plugin's rule brings."""

    def require_consistent(self) -> None:
        """Check the number of temperatures, and that soft edges have a backend."""
        # JSON and the command line hold them to two; a caller from Python may give any number.
        if len(self.temperature) != 2:
            raise UsageError(
                rule="--temperature must be two positive numbers, FIRST LAST",
                got=self.temperature,
                fix="Give for example --temperature 0.1 0.01.",
            )
        has_threshold = self.graph == "threshold"
        # auto takes the dense backend where tau is learned.
        may_be_dense = self.backend in ("auto", "dense")
        if self.learn_tau and not (has_threshold and may_be_dense):
            raise UsageError(
                rule="--learn-tau needs --graph threshold and --backend dense",
                got=f"--graph {self.graph} --backend {self.backend}",
                fix="Soft edges link every pair of tokens: only the dense backend holds them.",
            )
        # What has no place of its own for its edges, or has all of them.
        is_control = self.graph in ("self", "complete", "random")
        if self.control != "none" and (is_control or self.learn_tau or not may_be_dense):
            raise UsageError(
                rule="--control puts the edges of a rule elsewhere, on the dense backend: threshold"
                " without --learn-tau, knn, window or a plugin's",
                got=f"--control {self.control} --graph {self.graph} --backend {self.backend}"
                + (" --learn-tau" if self.learn_tau else ""),
                fix="Leave --control at none, or choose such a rule.",
            )


@dataclasses.dataclass(frozen=True)
class PoolerConfig(Config):
    """Which pooler turns token states into one vector, and the sizes of its parts."""

    pooler: str = setting("glot")
    """A name of glot_jax.pooling.POOLERS: cls, first, last, mean, max, weighted-mean,
    mean-sqrt-len, pma, latent-attention, adapool, adapool-attention, mlp, glot.
    """
    gnn: str = setting("gat")
    """glot: layer type, a name of glot_jax.pooling.GNN_LAYERS: gat, gcn, gin, gine, sage. mlp:
    whose parameter count to match.
    """
    hidden_dim: int = setting(128, whole(1))
    """glot: width of the Token-GNN (heads x width per head). mlp: of the glot whose parameter count
    to match. latent-attention: width of its MLP.
    """
    num_layers: int = setting(2, whole(0))
    """glot, mlp: number K of layers; 0 leaves the attention readout alone."""
    jk: Literal["cat", "max", "mean", "none"] = setting("cat")
    """glot, mlp: jumping knowledge over the layers. cat keeps the states themselves too."""
    # 1 in the paper and in the release.
    heads: int = setting(1, whole(1))
    """glot with gat: attention heads, hidden_dim is divided among them; adapool-attention,
    pma, latent-attention: heads that divide the states' width.
    """
    edge_term: bool = setting(False)
    """glot with gat: add the release's trained constant to every attention logit (the paper's
    Algorithm 1 has none).
    """
    residual: bool = setting(False)
    """glot: a layer is LayerNorm(relu(layer(u)) + u); a linear map adapts u where the width
    changes. Not in the paper.
    """
    virtual_node: bool = setting(False)
    """glot: after each layer every token adds an MLP of its sentence's mean. Not in the paper."""
    projection_dim: int | None = setting(
        None,
        whole(1),
        example=128,
    )
    """Width p of the optional input projection U_0 = X W_in (paper: 128, 256, 512). Default: no
    projection.
    """
    # None and not a number: the two poolers that read it have different defaults.
    num_latents: int | None = setting(
        None,
        whole(1),
        example=16,
    )
    """pma: number of learned seeds, by default 1; the vector is as many times as wide as the
    states. latent-attention: number of trained latents, by default 512.
    """
    # The widths of the release.
    scorer_dim: int | None = setting(
        None,
        whole(1),
        example=128,
    )
    """Width of the readout's scorer. Default: max(128, width // 2) for glot (its mlp has the same),
    128 for adapool.
    """
    # None and not a word: whoever says yes or no has a bool, as in versions that knew no more.
    standardise: bool | None = setting(None, absent=False)
    """Bring every dimension of the states to mean 0 and deviation 1 over the training rows' tokens.
    The graph is built from the raw states. Default: where tokens share one direction, as those of
    decoders do; config.json has what was decided. --no-standardise: never.
    """
    token_norm: Literal["none", "rms", "l2"] = setting("none")
    """Scale every token's state before it is pooled: to a mean square of 1 (rms), or to length 1
    (l2). Before --standardise. The graph is built from the raw states. Not in the paper.
    """
    # After the graph is made: dropout must not change which tokens are linked.
    dropout: float = setting(0.0, share, decides=_TOLD, example=0.1)
    """Share of the states' entries set to 0 in training, the rest scaled up; after the graph is
    made. Not in the paper.
    """
    attention_dropout: float = setting(0.0, share, example=0.1)
    """glot with gat: share of the attention weights set to 0 in training. Not in the paper."""
    # Similarities decide which edges there are, and bfloat16 flips some: they stay float32.
    dtype: Literal["float32", "bfloat16"] = setting("float32")
    """Arithmetic of the head; parameters, similarities and softmaxes stay float32."""
    own: OwnOptions = dataclasses.field(default=NO_OPTIONS, metadata=about(decides=ALL))
    """Options that a plugin's pooler or layer brings."""

    def require_consistent(self) -> None:
        """Check that heads divide the width, and that there are layers to combine."""
        if self.pooler not in ("glot", "mlp"):
            return
        # mlp is sized after the glot that it stands in for, heads included.
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

    objective: str = setting("auto")
    """A name of glot_jax.objectives.OBJECTIVES that fits the task, such as one of a plugin. auto:
    the task's own.
    """
    # Texts are encoded apart, so what a pair shares must be put into features here.
    pair_features: Literal["concat", "interaction"] = setting("concat", task="pair")
    """Pair classification: [a; b], or [a; b; |a-b|; a*b]."""
    class_weight: Literal["none", "balanced"] = setting("none")
    """Classes: weigh the loss of every class by how rare it is among the training rows,
    n / (classes x rows of the class); several classes a row: rows of the class by the others for
    each of them. The weights are written into config.json.
    """
    # Their number is that of the classes, which only the store knows.
    class_weights: tuple[float, ...] = setting((), each(positive), example=(1.0, 5.0))
    """Classes: weight of each in the loss, in the order of the task's classes. Default: none."""
    # Checked against the metrics of the task, which only the store knows.
    metric: str | None = setting(None)
    """Metric that selects the best epoch. Default: the task's own (mcc for CoLA, spearman for STS-B
    ...).
    """
    select_on: Literal["auto", "validation", "holdout", "last"] = setting("auto")
    """Split that selects it: validation; holdout = a seeded 10 % of train, never trained on; last =
    no selection. auto: validation, or holdout where there is none.
    """
    # Fitted when all is trained: it changes no trained number and no step.
    calibrate: bool = setting(False, decides=NUMBERS | IDENTITY, unwritten=True)
    """Classes: fit a temperature for the probabilities on the holdout (--select-on holdout) after
    training; predictions stay as they are.
    """
    embedding_head: Literal["none", "linear"] = setting("none", task="embedding")
    """Task embedding: compare the pooled vectors themselves, or a trained linear map of them."""
    embedding_vectors: Literal["unit", "raw"] = setting("unit", task="embedding")
    """Task embedding: scale them to length 1 (paper), or take them as they are (release)."""
    # The paper's.
    loss_temperature: float = setting(0.07, positive, task="embedding")
    """Task embedding: what similarities are divided by in InfoNCE."""
    hard_negatives: int = setting(1, whole(0), task="embedding")
    """Task embedding: of a row's own negatives, how many a training row brings along; 0: only the
    batch's other texts.
    """
    own: OwnOptions = dataclasses.field(default=NO_OPTIONS, metadata=about(decides=ALL))
    """Options that a plugin's objective brings."""

    def require_consistent(self) -> None:
        """Check that a temperature has rows that it can be fitted on."""
        # auto: whether that is a holdout is known with the store.
        if self.calibrate and self.select_on not in ("auto", "holdout"):
            raise UsageError(
                rule="--calibrate fits the temperature on the holdout",
                got=f"--select-on {self.select_on}",
                fix="Give --select-on holdout.",
            )


@dataclasses.dataclass(frozen=True)
class OptimizerConfig(Config):
    """Adam or AdamW with a constant or cosine learning rate."""

    optimizer: Literal["adam", "adamw"] = setting("adam")
    """Adam, or AdamW with decoupled weight decay."""
    lr: float = setting(2e-4, at_least(0), decides=_TOLD)
    """Peak learning rate."""
    schedule: Literal["constant", "cosine"] = setting("constant")
    """After warm-up: constant, or a cosine to zero at the last step."""
    # Of a run that goes on after its end: its cosine has ended then.
    schedule_epochs: int | None = setting(None, whole(1), unwritten=True, example=3)
    """Epochs that the schedule is made for; after them it stays at its end. Default: --epochs. A
    run that was extended (--resume RUN --epochs N) keeps those it began with.
    """
    # Three units, of which at most one is given: converted once, when the schedule is built.
    warmup_steps: int | None = setting(
        None,
        whole(0),
        example=100,
    )
    """Linear warm-up in optimizer steps. Default: no warm-up, in any unit."""
    warmup_epochs: float | None = setting(
        None,
        at_least(0),
        example=0.5,
    )
    """Linear warm-up in epochs, instead of --warmup-steps. Default: none."""
    warmup_fraction: float | None = setting(
        None,
        between(0, 1),
        example=0.1,
    )
    """Linear warm-up as a share of all steps, instead of --warmup-steps. Default: none."""
    weight_decay: float = setting(0.0, at_least(0), decides=_TOLD)
    """adamw: decoupled; adam: added to the gradient, as in PyTorch."""
    clip_norm: float | None = setting(
        None,
        at_least(0),
        example=1.0,
    )
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
    store: Location = dataclasses.field(metadata=_PLACE)
    """Folder written by extract.py, or the URL of one (s3://, gs://, az://)."""
    out: Path = dataclasses.field(metadata=_PLACE)
    """Run folder: config.json, summary.json, metrics.jsonl, timing.jsonl, checkpoints/."""
    # At most one of the two: `require_consistent`.
    layer: int | None = setting(None)
    """Stored layer to read (0 to L, negative from the end). Default: the only one stored, else the
    last.
    """
    mix_layers: tuple[int, ...] | None = setting(
        None,
        distinct,
        example=(0, 6),
    )
    """Read several stored layers and combine them by a learned softmax before the graph; no number
    after it means all stored. Default: one layer.
    """
    sinks: Literal["auto", "keep", "drop"] = setting("auto")
    """Attention sinks, states more than ten times as long as is usual in their layer: keep them, or
    drop them before graph and pooling. auto: drop them where the store says that there are some.
    """
    skip_first: int = setting(0, whole(0))
    """Leave out the first so many tokens of every text, sinks or not, before graph and pooling."""
    # As the release's commands; the paper trains 2.
    epochs: int = setting(3, whole(1))
    """Passes over the training rows."""
    batch_size: int = setting(32, whole(1))
    """Rows (pairs count once) per training step."""
    # The sums of an evaluation are taken batch by batch, so its size shows in the last digits.
    eval_batch_size: int = setting(
        64,
        whole(1),
        decides=NUMBERS | PROGRAM | IDENTITY,
    )
    """Rows per evaluation step."""
    # Runs of one variant and of one compiled program differ by their seed.
    seed: int = setting(42, whole(0), decides=_REPEATED)
    """Seed of the initialisation, the batch order and the holdout."""
    # Their number decides which rows share a batch.
    buckets: int | None = setting(None, whole(1), example=3)
    """Padded lengths a batch can have, chosen from the store's length histogram; each costs two
    compilations. Default: as many as save more time than they take to compile; the number is
    written into config.json.
    """
    batches: Literal["by-length", "shuffled"] = setting("by-length")
    """Training rows that share a batch: those of similar length (least padding), or any, padded to
    the batch's longest. Task embedding: any.
    """
    # The states are the same wherever they wait.
    cache: Literal["auto", "device", "host", "none"] = setting("auto", decides=IDENTITY)
    """Where token states wait: on the device, in host memory, or in the memory map. auto: the first
    that fits.
    """
    trust_store: bool = setting(False, decides=IDENTITY)
    """Do not compare the store's files with their hashes when they are first read; sizes and shapes
    still are.
    """
    # Lines of metrics.jsonl are part of what a resumed run must repeat.
    log_every: int = setting(20, whole(1), decides=_REPEATED)
    """Steps between lines in metrics.jsonl (and at the end of every epoch)."""
    # Products of another library differ in their last digits, and so do the scores of a step.
    xla_cpu_options: Literal["auto", "default", "eigen", "xla"] = setting(
        "auto",
        decides=NUMBERS | PROGRAM | IDENTITY,
        absent="default",
    )
    """CPU: who multiplies matrices. default: Eigen but for the shortest and longest texts; eigen:
    for the shortest too; xla: XLA's own choice; auto: the faster one, measured once on this machine
    and kept beside the compile cache, or default without one. config.json has what was chosen.
    """
    store_cache: Path | None = dataclasses.field(
        default=None,
        metadata=about(decides=NOTHING, unwritten=True),
    )
    """Folder for the files of a store at a URL, fetched once. Default: the user's cache folder."""
    checkpoint_minutes: float = setting(5.0, at_least(0), decides=IDENTITY)
    """Within an epoch a checkpoint is saved whenever so many minutes have passed, and at the end of
    an epoch unless it takes less than a second and is not the best one; 0: at the end of every
    epoch alone.
    """
    graph: GraphConfig = dataclasses.field(default_factory=GraphConfig)
    pooler: PoolerConfig = dataclasses.field(default_factory=PoolerConfig)
    objective: ObjectiveConfig = dataclasses.field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)

    def require_consistent(self) -> None:
        """Check that one layer is read or several are mixed."""
        # By None, not by truth: an empty tuple mixes all stored layers, and layer 0 is a layer.
        if self.layer is not None and self.mix_layers is not None:
            raise UsageError(
                rule="--layer reads one layer and --mix-layers several, so only one may be given",
                got=f"--layer {self.layer} --mix-layers",
                fix="Leave one out.",
            )
