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

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mteb
from datasets import Dataset, DatasetDict
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.clustering import AbsTaskClustering
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

from glot_jax.errors import UsageError, require
from glot_jax.texts.formats import FORMATS

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
    "Reranking": AbsTaskRetrieval,
    "Retrieval": AbsTaskRetrieval,
}
Rows = list[dict[str, Any]]


def local_task(name: str, folder: Path) -> Any:
    """The MTEB task whose data lies in folder/name.

    Raises:
        UsageError: files or columns that are missing or damaged, a kind of task that has no local
            format.
    """
    place = folder / name
    known = known_task(name)
    files = _files(place)
    kind = known.metadata.type if known is not None else _kind(place, files)
    require(
        kind in _MAIN_SCORES,
        f"a task in a local folder is one of {', '.join(_MAIN_SCORES)}",
        f"{name}, {kind}",
        "Evaluate it by its Hub name, without the folder.",
    )
    require(
        known is None or not known.is_aggregate,
        "a task in a local folder is a single one",
        f"{name}, made of several",
        "Name its parts.",
    )
    splits = (
        list(known.metadata.eval_splits)
        if known is not None
        else [
            split for split in ("test", "validation") if split in files or f"qrels/{split}" in files
        ][:1]
    )
    require(
        bool(splits),
        "a task has a split that is scored",
        f"{place}: {', '.join(files)}",
        "Name the file test.jsonl.",
    )
    task = known if known is not None else _unknown_task(name, kind, splits, sha256_of(place))
    loaded = _LOADERS[kind](place, files, splits, task)

    def load_data(*args: Any, **kwargs: Any) -> None:
        task.dataset, task.data_loaded = loaded, True

    task.load_data = load_data
    return task


def known_task(name: str) -> Any | None:
    """MTEB's task of that name, in English; None if there is none."""
    try:
        return mteb.get_task(name, languages=["eng"])
    except (KeyError, ValueError):
        return None


def sha256_of(place: Path) -> str:
    """Of a task's files, by name."""
    digest = hashlib.sha256()
    for path in sorted(path for path in place.rglob("*") if path.is_file()):
        digest.update(
            f"{path.relative_to(place)}\n".encode() + hashlib.sha256(path.read_bytes()).digest()
        )
    return digest.hexdigest()


def _unknown_task(name: str, kind: str, splits: list[str], revision: str) -> Any:
    metadata = TaskMetadata(
        name=name,
        description="From a local folder.",
        type=kind,  # type: ignore[arg-type]
        category="t2t",
        modalities=["text"],
        dataset={"path": f"local/{name}", "revision": revision[:12]},
        eval_splits=splits,
        eval_langs=["eng-Latn"],
        main_score=_MAIN_SCORES[kind],
    )
    # MTEB wants a class for each task, with the range of an STS task's scores on it.
    return type(
        name,
        (_CLASSES[kind],),
        {"metadata": metadata, "min_score": 0, "max_score": 5, "__module__": __name__},
    )()


# --------------------------------------------------------------------------------------------------
# Files


def _files(place: Path) -> dict[str, Path]:
    """Data files by their path without the suffix."""
    found = {
        path.relative_to(place).with_suffix("").as_posix(): path
        for path in sorted(place.rglob("*"))
        if path.suffix[1:] in FORMATS
    }
    require(
        bool(found),
        "a task's folder holds its data",
        f"{place}, without a .jsonl, .csv, .tsv or .parquet",
        "See glot_jax.inference.mteb_tasks for the formats.",
    )
    return found


def _rows(
    files: Mapping[str, Path],
    place: Path,
    name: str,
    columns: Sequence[str],
    optional: Sequence[str] = (),
) -> Rows:
    require(
        name in files,
        "a task has all of its files",
        f"{place} without {name}",
        f"Add {name}.jsonl.",
    )
    path, rows = files[name], []
    for record in FORMATS[path.suffix[1:]](path, [*columns, *optional]):
        missing = [column for column in columns if column not in record.columns]
        require(
            not missing,
            "a task's rows have its columns",
            f"{record.location} without {', '.join(missing)}",
            f"Columns there: {', '.join(record.columns)}.",
        )
        rows.append(
            {
                column: record.values[column]
                for column in (*columns, *optional)
                if column in record.columns
            }
        )
    require(bool(rows), "a task's file has rows", path, "Fill it or leave it out.")
    return rows


def _kind(place: Path, files: Mapping[str, Path]) -> str:
    if "corpus" in files:
        return "Retrieval"
    name = next(iter(files))
    path = files[name]
    first = next(iter(FORMATS[path.suffix[1:]](path, [])), None)
    columns = set(() if first is None else first.columns)
    for kind, wanted in (
        ("STS", {"sentence1", "sentence2", "score"}),
        ("PairClassification", {"sentence1", "sentence2", "label"}),
        ("Reranking", {"query"}),
    ):
        if wanted <= columns:
            return kind
    if {"text", "label"} <= columns:
        return "Classification" if "train" in files else "Clustering"
    raise UsageError(
        "the columns tell a task's kind",
        f"{path}: {', '.join(sorted(columns))}",
        "See glot_jax.inference.mteb_tasks for the formats.",
    )


# --------------------------------------------------------------------------------------------------
# What MTEB's tasks hold after load_data


def _sts(place: Path, files: Mapping[str, Path], splits: Sequence[str], task: Any) -> DatasetDict:
    rows = {
        split: _rows(files, place, split, ("sentence1", "sentence2", "score")) for split in splits
    }
    return DatasetDict(
        {
            split: Dataset.from_list([{**row, "score": float(row["score"])} for row in of])
            for split, of in rows.items()
        }
    )


def _pairs(place: Path, files: Mapping[str, Path], splits: Sequence[str], task: Any) -> DatasetDict:
    rows = {
        split: _rows(files, place, split, ("sentence1", "sentence2", "label")) for split in splits
    }
    return DatasetDict(
        {
            split: Dataset.from_list(
                [
                    {
                        "sentence1": row["sentence1"],
                        "sentence2": row["sentence2"],
                        "labels": int(row["label"]),
                    }
                    for row in of
                ]
            )
            for split, of in rows.items()
        }
    )


def _classes(
    place: Path, files: Mapping[str, Path], splits: Sequence[str], task: Any
) -> DatasetDict:
    rows = {split: _rows(files, place, split, ("text", "label")) for split in ("train", *splits)}
    return DatasetDict({split: Dataset.from_list(of) for split, of in rows.items()})


def _clusters(
    place: Path, files: Mapping[str, Path], splits: Sequence[str], task: Any
) -> DatasetDict:
    found = {}
    for split in splits:
        rows = _rows(files, place, split, ("text", "label"))
        texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
        # Tasks of MTEB's first version hold sets of sentences, a set in a row.
        whole = not isinstance(task, AbsTaskClustering)
        found[split] = Dataset.from_dict(
            {"sentences": [texts] if whole else texts, "labels": [labels] if whole else labels}
        )
    return DatasetDict(found)


def _summaries(
    place: Path, files: Mapping[str, Path], splits: Sequence[str], task: Any
) -> DatasetDict:
    columns = ("text", "human_summaries", "machine_summaries", "relevance")
    return DatasetDict(
        {split: Dataset.from_list(_rows(files, place, split, columns)) for split in splits}
    )


def _retrieval(
    place: Path, files: Mapping[str, Path], splits: Sequence[str], task: Any
) -> dict[str, Any]:
    corpus = [
        {"id": str(row["_id"]), "title": row.get("title") or "", "text": row["text"]}
        for row in _rows(files, place, "corpus", ("_id", "text"), ("title",))
    ]
    queries = {
        str(row["_id"]): row["text"] for row in _rows(files, place, "queries", ("_id", "text"))
    }
    known, found = {row["id"] for row in corpus}, {}
    for split in splits:
        relevant: dict[str, dict[str, int]] = {}
        for row in _rows(files, place, f"qrels/{split}", ("query-id", "corpus-id", "score")):
            query, passage = str(row["query-id"]), str(row["corpus-id"])
            require(
                query in queries and passage in known,
                "a judgement is of a query and a passage that exist",
                f"{place}/qrels/{split}: {query}, {passage}",
                "Correct or drop it.",
            )
            relevant.setdefault(query, {})[passage] = int(row["score"])
        found[split] = _split_data(
            corpus, {query: queries[query] for query in relevant}, relevant, None
        )
    return {"default": found}


def _reranking(
    place: Path, files: Mapping[str, Path], splits: Sequence[str], task: Any
) -> dict[str, Any]:
    found = {}
    for split in splits:
        queries, corpus, relevant, ranked, passages = {}, [], {}, {}, {}
        rows = _rows(files, place, split, ("query",), ("positive", "pos", "negative", "neg"))
        for number, row in enumerate(rows):
            good, bad = (
                _listed(row.get(long) or row.get(short))
                for long, short in (("positive", "pos"), ("negative", "neg"))
            )
            if not good or not bad:
                continue  # nothing to tell apart
            query = f"q{number}"
            for text in (*good, *bad):
                if text not in passages:
                    passages[text] = f"p{len(passages)}"
                    corpus.append({"id": passages[text], "title": "", "text": text})
            queries[query] = row["query"]
            relevant[query] = {passages[text]: 1 for text in good}
            ranked[query] = list(dict.fromkeys(passages[text] for text in (*good, *bad)))
        require(
            bool(queries),
            "a reranking task has a query with a relevant and another passage",
            f"{place}/{split}",
            "Add negatives.",
        )
        found[split] = _split_data(corpus, queries, relevant, ranked)
    return {"default": found}


def _split_data(
    corpus: Rows, queries: Mapping[str, str], relevant: Any, ranked: Any
) -> dict[str, Any]:
    texts = Dataset.from_list([{"id": query, "text": text} for query, text in queries.items()])
    return {
        "corpus": Dataset.from_list(corpus),
        "queries": texts,
        "relevant_docs": relevant,
        "top_ranked": ranked,
    }


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) and value else list(value or ())


_LOADERS: dict[str, Callable[[Path, Mapping[str, Path], Sequence[str], Any], Any]] = {
    "STS": _sts,
    "PairClassification": _pairs,
    "Classification": _classes,
    "Clustering": _clusters,
    "Reranking": _reranking,
    "Retrieval": _retrieval,
    "Summarization": _summaries,
}
