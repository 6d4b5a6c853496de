"""How well one query ranks its candidates: host-side scores of a single query, and what chance
scores.

An equal score counts against the relevant candidate: a model whose vectors are all the same gains
nothing by the order in which candidates happen to stand.
"""

from __future__ import annotations

import numpy as np

RANKING = ("ndcg@10", "map", "mrr")
"""Metrics of a ranking, in the order of the columns of per-query scores."""
_CUT = 10  # of ndcg@10


def query_scores(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """[3] float64: ndcg@10, average precision and reciprocal rank of one query.

    Args:
        scores: [candidates], higher is more similar.
        relevant: [candidates] bool, at least one of them True.
    """
    wanted, others = np.sort(scores[relevant])[::-1], np.sort(scores[~relevant])
    hits = np.arange(1, len(wanted) + 1)
    # Rank of each relevant candidate: those before it that are relevant, it, and all others that
    # score as much or more.
    ranks = hits + len(others) - np.searchsorted(others, wanted, side="left")
    gain = (_discount(ranks) * (ranks <= _CUT)).sum() / _discount(hits[:_CUT]).sum()
    return np.array([gain, (hits / ranks).mean(), 1 / ranks[0]])


def chance(candidates: int, relevant: int) -> np.ndarray:
    """[3] float64: what `query_scores` are on average over all orders of that many candidates."""
    places = np.arange(1, candidates + 1)
    gain = (
        relevant
        / candidates
        * _discount(places[:_CUT]).sum()
        / _discount(places[: min(relevant, _CUT)]).sum()
    )
    # At place k, if it is a relevant one: itself, and (k - 1) others of which a share of (r - 1) /
    # (n - 1) is relevant.
    share = (relevant - 1) / max(1, candidates - 1)
    precision = ((1 + (places - 1) * share) / places).mean()
    # No relevant one before place k: the product over the places before it of how likely each is to
    # hold another.
    left = candidates - places + 1
    none_before = np.concatenate([[1.0], np.cumprod(np.maximum(left - relevant, 0) / left)[:-1]])
    return np.array([gain, precision, (none_before * relevant / left) @ (1 / places)])


def query_loss(logits: np.ndarray, relevant: np.ndarray) -> float:
    """Mean over the relevant candidates of InfoNCE against the others, in float64.

    Args:
        logits: [candidates], similarities by temperature.
        relevant: [candidates] bool.
    """
    logits = logits.astype(np.float64)
    against = np.logaddexp.reduce(logits[~relevant]) if not relevant.all() else -np.inf
    return float(np.mean(np.logaddexp(logits[relevant], against) - logits[relevant]))


def _discount(ranks: np.ndarray) -> np.ndarray:
    return 1 / np.log2(1 + ranks)
