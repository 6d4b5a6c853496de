"""How well one query ranks its candidates: scores of a single query, and what chance scores.

An equal score counts against the relevant candidate: a model whose vectors are all the same gains
nothing by the order in which candidates happen to stand.
"""

from __future__ import annotations

import numpy as np

RANKING = ("ndcg@10", "map", "mrr")
"""Metrics of a ranking, in the order of the columns of per-query scores."""
_CUT = 10  # of ndcg@10


def query_scores(
    scores: np.ndarray,
    relevant: np.ndarray,
) -> np.ndarray:
    """ndcg@10, average precision and reciprocal rank of one query, [3] float64.

    Args:
        scores: [candidates], higher is more similar.
        relevant: [candidates] bool, at least one of them True.
    """
    # Best first; the others worst first, as searchsorted wants them.
    relevant_scores = np.sort(scores[relevant])[::-1]
    other_scores = np.sort(scores[~relevant])
    count = len(relevant_scores)
    hits = np.arange(1, count + 1)
    # Rank of each relevant candidate: those before it that are relevant, it, and all others that
    # score as much or more.
    others_below = np.searchsorted(other_scores, relevant_scores, side="left")
    ranks = hits + len(other_scores) - others_below
    gains = _discount(ranks) * (ranks <= _CUT)
    gain = gains.sum()
    # The best there can be: relevant candidates on the first ranks.
    ideal = _discount(hits[:_CUT]).sum()
    average_precision = (hits / ranks).mean()
    ndcg = gain / ideal
    reciprocal_rank = 1 / ranks[0]
    return np.array([ndcg, average_precision, reciprocal_rank])


def chance(candidates: int, relevant: int) -> np.ndarray:
    """What `query_scores` are on average over all orders of the candidates, [3] float64.

    Args:
        candidates: number of candidates.
        relevant: how many of them are relevant.
    """
    ranks = np.arange(1, candidates + 1)
    best = min(relevant, _CUT)
    ideal = _discount(ranks[:best]).sum()
    # Each rank holds a relevant candidate as often as any other rank does.
    share_relevant = relevant / candidates
    gain = share_relevant * _discount(ranks[:_CUT]).sum()
    ndcg = gain / ideal
    # At rank k, if a relevant one stands there: itself, and (k - 1) others of which a share of
    # (r - 1) / (n - 1) is relevant.
    others = max(1, candidates - 1)
    share = (relevant - 1) / others
    hits = 1 + (ranks - 1) * share
    precision = (hits / ranks).mean()
    # No relevant one before rank k: the product over the ranks before it of how likely each is to
    # hold another.
    left = candidates - ranks + 1
    stays_out = np.maximum(left - relevant, 0) / left
    none_up_to = np.cumprod(stays_out)
    none_before = np.concatenate([[1.0], none_up_to[:-1]])
    first_here = none_before * relevant / left
    reciprocal = first_here @ (1 / ranks)
    return np.array([ndcg, precision, reciprocal])


def query_loss(
    logits: np.ndarray,
    relevant: np.ndarray,
) -> float:
    """Mean over the relevant candidates of InfoNCE against the others, in float64.

    Args:
        logits: [candidates], similarities by temperature.
        relevant: [candidates] bool.
    """
    logits = logits.astype(np.float64)
    # Without another candidate there is nothing to lose against: exp(-inf) adds nothing.
    against = -np.inf
    if not relevant.all():
        against = np.logaddexp.reduce(logits[~relevant])
    own = logits[relevant]
    # log(e^own + e^against) - own, without leaving the range of floats.
    losses = np.logaddexp(own, against) - own
    return float(np.mean(losses))


def _discount(ranks: np.ndarray) -> np.ndarray:
    return 1 / np.log2(1 + ranks)
