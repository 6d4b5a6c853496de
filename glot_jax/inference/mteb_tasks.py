"""Tasks of MTEB from a local folder: no network is asked.

DIR/<task>/ holds the task under MTEB's own name, or under a name of yours. Its files, each .jsonl,
.csv, .tsv or .parquet:

| kind | files | columns |
| --- | --- | --- |
| STS | <split> | sentence1, sentence2, score |
| PairClassification | <split> | sentence1, sentence2, label (0 or 1) |
| Classification | train, <split> | text, label |
| Clustering | <split>, no train | text, label |
| Reranking | <split> | query, positive or pos, negative or neg (lists) |
| Retrieval | corpus; queries; qrels/<split> | those of BEIR |
| Summarization | <split> | text, human_summaries, machine_summaries, relevance |

The kind of a name that MTEB knows is MTEB's, that of another name follows from the columns. <split>
is test, or what MTEB evaluates the task on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mteb
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from glot_jax.errors import UsageError
from glot_jax.inference.mteb_files import LOADERS, TaskFolder, sha256_of

# The main scores of MTEB's own tasks of these kinds.
_MAIN_SCORES = {
    "STS": "cosine_spearman",
    "PairClassification": "max_ap",
    "Classification": "accuracy",
    "Clustering": "v_measure",
    "Reranking": "map_at_1000",
    "Retrieval": "ndcg_at_10",
    "Summarization": "cosine_spearman",
}
_CLASSES: dict[str, Any] = {
    "STS": AbsTaskSTS,
    "PairClassification": AbsTaskPairClassification,
    "Classification": AbsTaskClassification,
    "Clustering": AbsTaskClustering,
    # For MTEB a reranking is a retrieval among each query's own passages (`top_ranked`).
    "Reranking": AbsTaskRetrieval,
    "Retrieval": AbsTaskRetrieval,
}
_KINDS = {
    "STS": {"sentence1", "sentence2", "score"},
    "PairClassification": {"sentence1", "sentence2", "label"},
    "Reranking": {"query"},
}
"""Kinds that their columns tell; the first that fits."""


def local_task(name: str, data: Path) -> AbsTask:
    """The MTEB task whose files lie in data/name.

    Raises:
        UsageError: files or columns that are missing or damaged, a kind of task that has no local
            format.
    """
    folder = TaskFolder.open(data / name)
    known = known_task(name)
    kind = _kind(folder) if known is None else known.metadata.type
    if kind not in _MAIN_SCORES:
        raise UsageError(
            rule=f"a task in a local folder must be one of {', '.join(_MAIN_SCORES)}",
            got=f"{name}, {kind}",
            fix="Evaluate it by its Hub name, without the folder.",
        )
    if known is not None and known.is_aggregate:
        raise UsageError(
            rule="a task in a local folder must be a single one",
            got=f"{name}, made of several",
            fix="Name its parts.",
        )
    # What MTEB evaluates its own task on is not ours to choose.
    task: Any
    if known is not None:
        task = known
        splits = list(known.metadata.eval_splits)
    else:
        splits = _scored_splits(folder)
        task = _unknown_task(name, kind, splits, sha256_of(folder.path))
    # Read once, here, where an error is still about files and not about MTEB.
    loaded = LOADERS[kind](folder, splits, task)

    def load_data(*_args: object, **_kwargs: object) -> None:
        task.dataset = loaded
        task.data_loaded = True

    # On this one task, not on its class, which MTEB may load from the Hub for somebody else.
    task.load_data = load_data
    return task


def known_task(name: str) -> AbsTask | None:
    """MTEB's task of that name, in English; None if there is none."""
    # As in the paper: of a task in many languages the English part alone.
    try:
        return mteb.get_task(name, languages=["eng"])
    except (KeyError, ValueError):
        return None


def _scored_splits(folder: TaskFolder) -> list[str]:
    """The split that a task of an unknown name is scored on: test, else validation."""
    for split in ("test", "validation"):
        if split in folder.files or f"qrels/{split}" in folder.files:
            return [split]
    raise UsageError(
        rule="a task must have a split that is scored",
        got=f"{folder.path}: {', '.join(folder.files)}",
        fix="Name the file test.jsonl.",
    )


def _unknown_task(
    name: str,
    kind: str,
    splits: Sequence[str],
    revision: str,
) -> AbsTask:
    metadata = TaskMetadata(
        name=name,
        description="From a local folder.",
        type=kind,  # type: ignore[arg-type]
        category="t2t",
        modalities=["text"],
        dataset={"path": f"local/{name}", "revision": revision[:12]},
        eval_splits=list(splits),
        eval_langs=["eng-Latn"],
        main_score=_MAIN_SCORES[kind],
    )
    # MTEB wants a class for each task, with the range of an STS task's scores on it.
    attributes = {
        "metadata": metadata,
        "min_score": 0,
        "max_score": 5,
        "__module__": __name__,
    }
    return type(name, (_CLASSES[kind],), attributes)()


def _kind(folder: TaskFolder) -> str:
    """The kind of a task of an unknown name, by its files and columns."""
    if "corpus" in folder.files:
        return "Retrieval"
    name = next(iter(folder.files))
    columns = folder.columns(name)
    for kind, needed in _KINDS.items():
        if needed <= columns:
            return kind
    # Both have these columns: only a classifier is fitted to something first.
    if {"text", "label"} <= columns:
        return "Classification" if "train" in folder.files else "Clustering"
    raise UsageError(
        rule="the columns must tell a task's kind",
        got=f"{folder.files[name]}: {', '.join(sorted(columns))}",
        fix="See glot_jax.inference.mteb_tasks for the formats.",
    )
