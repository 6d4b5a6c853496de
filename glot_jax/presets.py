"""Named training settings, chosen by `train.py --preset NAME`; flags beside it win.

Each docstring is an experiment card.

A preset takes a TrainConfig, of which it keeps what it does not set, and whether the task is one of
similarity: a score for two texts, learned by the cosine of their projected vectors, as STS-B.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from glot_jax.config.train import (
    GraphConfig,
    ObjectiveConfig,
    OptimizerConfig,
    PoolerConfig,
    TrainConfig,
)


def paper(config: TrainConfig, similarity: bool = False) -> TrainConfig:
    """GLOT as the paper describes it (sections 3.2 and 4.1, Appendix B.2, Algorithm 1).

    - `settings`: GAT without an edge term, K 2, hidden 128, jk cat, tau 0.6; raw concatenation of a
      pair's vectors; Adam, constant 2e-4, batch 32, evaluation batch 64, 2 epochs, seed 42. Selects
      its epoch on the split that it reports, as the paper does: `selected_on` says so, and "last"
      stands beside "best" in summary.json
    - `leaves`: Table 6's search over rate, decay, K, width, jk, projection and tau: this is its
      starting point
    - `command`: python train.py --store stores/cola-bert --preset paper --out runs/cola-paper
    - `expected`: Table 1 with BERT-base: CoLA 47.49 mcc, STS-B 83.86 Spearman, MRPC 82.58 f1, RTE
      59.21, after that search
    - `time`: not measured yet
    """
    # The paper trains all tasks alike.
    del similarity
    # Values that are the defaults of today are written out: a preset must not move with them.
    return dataclasses.replace(
        config,
        epochs=2,
        batch_size=32,
        eval_batch_size=64,
        seed=42,
        # The paper pools every token.
        sinks="keep",
        graph=GraphConfig(graph="threshold", tau=0.6),
        # Algorithm 1 has no edge term; the release adds one.
        pooler=PoolerConfig(
            pooler="glot",
            gnn="gat",
            hidden_dim=128,
            num_layers=2,
            jk="cat",
            edge_term=False,
            standardise=False,
        ),
        # The split that is reported chooses its own epoch: the paper's protocol, not ours.
        objective=ObjectiveConfig(pair_features="concat", select_on="validation"),
        optimizer=OptimizerConfig(optimizer="adam", lr=2e-4, schedule="constant"),
    )


def release(config: TrainConfig, similarity: bool = False) -> TrainConfig:
    """The authors' released commands, with those of their code's quirks that change numbers.

    - `settings`: hidden 256, K 2, jk cat, Adam, constant 2e-4, batch 32, evaluation batch 64, 3
      epochs, seed 42; raw concatenation. tau is the 0.6 of the paper; the example command passes
      0.8: add --tau 0.8
    - `quirks`: edge term: every attention logit gets a trained constant (edge attribute 1), which
      Algorithm 1 lacks
    - `copied`: task embedding: inner products of vectors as they are, not of unit vectors;
      batches of any lengths: texts are shuffled without regard to length; no projection: its flag
      for one does nothing; selection on the reported split, "best" being the best epoch there
    - `not copied`: a plateau schedule stepped after every batch; selection by accuracy where the
      table shows another metric (add --metric accuracy); the first 20,000 rows of QQP, QNLI and
      MNLI instead of a seeded sample; states kept in float32 (extract with --storage-dtype float32)
    - `command`: python train.py --store stores/cola-minilm --preset release --out runs/cola-release
    - `expected`: MiniLM, last epoch, one run of their code: CoLA .06 mcc, STS-B .874 Spearman, MRPC
      .690 / .805, RTE .534
    - `time`: training seconds with a backbone of width 384 on two CPU cores beside other work: CoLA
      47 to 67, STS-B 124 to 142, MRPC 84 to 101, RTE 168 to 189
    """
    # The release trains all tasks alike.
    del similarity
    return dataclasses.replace(
        config,
        epochs=3,
        batch_size=32,
        eval_batch_size=64,
        seed=42,
        # The release pads every text to one length, so its batches ignore length.
        batches="shuffled",
        # It pools every token.
        sinks="keep",
        graph=GraphConfig(graph="threshold", tau=0.6),
        # Its layers get edge attributes of 1, hence PyTorch Geometric's term for them.
        pooler=PoolerConfig(
            pooler="glot",
            gnn="gat",
            hidden_dim=256,
            num_layers=2,
            jk="cat",
            edge_term=True,
            standardise=False,
        ),
        # Its inner products take vectors as they are; the paper's InfoNCE takes unit vectors.
        objective=ObjectiveConfig(
            pair_features="concat", select_on="validation", embedding_vectors="raw"
        ),
        optimizer=OptimizerConfig(optimizer="adam", lr=2e-4, schedule="constant"),
    )


def tuned(config: TrainConfig, similarity: bool = False) -> TrainConfig:
    """Ours: what the held-out tenth of the training rows preferred, never the reported rows.

    - `settings`: hidden 128, K 2, jk cat, tau 0.6, no edge term; standardised states, dropout 0.2;
      interaction features of pairs; AdamW with decay 0.01, 10 % warm-up and a cosine to zero, at
      1e-3, for similarity at 2e-4; batch 32, 3 epochs, seed 42; `--select-on holdout`: a seeded 10
      % of train picks the epoch and is not trained on
    - `chosen`: by hand on the holdouts of STS-B, MRPC, CoLA and RTE with MiniLM, among rates 2e-4
      to 1e-3, dropout 0 to 0.5, with and without standardising and residual layers; one or three
      seeds, not every pair of settings. The rate is split because CoLA's holdout wants the higher
      one (mcc .135 against .071, three seeds), STS-B's the lower (.875 against .863, one seed), and
      MRPC's does not care
    - `command`: python train.py --store stores/cola-minilm --preset tuned --out runs/cola-tuned
    - `expected`: docs/results/poolers.md: better than or equal to `release` there, with seeds and
      deviations
    - `time`: training seconds with a backbone of width 384 on two CPU cores beside other work: CoLA
      17 to 21, STS-B 38 to 60, MRPC 33 to 34, RTE 56 to 64
    """
    return dataclasses.replace(
        config,
        epochs=3,
        batch_size=32,
        eval_batch_size=64,
        seed=42,
        graph=GraphConfig(graph="threshold", tau=0.6),
        pooler=PoolerConfig(
            pooler="glot",
            gnn="gat",
            hidden_dim=128,
            num_layers=2,
            jk="cat",
            # Neither is in the paper; the holdouts preferred both (see `chosen`).
            standardise=True,
            dropout=0.2,
        ),
        objective=ObjectiveConfig(pair_features="interaction", select_on="holdout"),
        optimizer=OptimizerConfig(
            optimizer="adamw",
            # STS-B's holdout prefers the lower rate, CoLA's the higher one (see `chosen`).
            lr=2e-4 if similarity else 1e-3,
            schedule="cosine",
            warmup_fraction=0.1,
            weight_decay=0.01,
        ),
    )


def msmarco(config: TrainConfig, similarity: bool = False) -> TrainConfig:
    """The paper's training of embeddings on MS MARCO triplets (K 4, tau 0.3, rate 2e-5).

    It is for task embedding.

    - `settings`: GAT without an edge term, K 4, hidden 128, jk cat, tau 0.3; symmetric in-batch
      InfoNCE at temperature 0.07 on unit vectors, one hard negative a row; Adam, constant 2e-5,
      batch 32, 2 epochs, seed 42
    - `ours`: `--select-on holdout`: a seeded 10 % of the rows picks the epoch by ndcg@10 and is not
      trained on; batches of any lengths, each padded to its longest text
    - `leaves`: a projection: the release has a flag for one that does nothing. Its raw vectors:
      --embedding-vectors raw
    - `data`: python extract.py --backbone bert-base-uncased --task embedding --data DIR --out
      stores/msmarco, where DIR/train.jsonl is msmarco-triplets.jsonl: {"query": ..., "pos": [...],
      "neg": [...]} a line
    - `command`: python train.py --store stores/msmarco --preset msmarco --out runs/msmarco
    - `expected`: not measured yet
    - `time`: not measured yet
    """
    # One task, which scores no pairs of texts.
    del similarity
    return dataclasses.replace(
        config,
        epochs=2,
        batch_size=32,
        eval_batch_size=64,
        seed=42,
        # Written out for whoever reads config.json: task embedding ignores length in any case.
        batches="shuffled",
        # It pools every token.
        sinks="keep",
        graph=GraphConfig(graph="threshold", tau=0.3),
        pooler=PoolerConfig(
            pooler="glot",
            gnn="gat",
            hidden_dim=128,
            num_layers=4,
            jk="cat",
            edge_term=False,
            standardise=False,
        ),
        objective=ObjectiveConfig(
            select_on="holdout", loss_temperature=0.07, embedding_vectors="unit", hard_negatives=1
        ),
        optimizer=OptimizerConfig(optimizer="adam", lr=2e-5, schedule="constant"),
    )


PRESETS: dict[str, Callable[[TrainConfig, bool], TrainConfig]] = {
    "paper": paper,
    "release": release,
    "tuned": tuned,
    "msmarco": msmarco,
}
