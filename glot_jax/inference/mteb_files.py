"""Files of a local MTEB task, and what MTEB's tasks hold once they are loaded from them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from mteb.abstasks.clustering import AbsTaskClustering

from glot_jax.errors import UsageError
from glot_jax.file_formats.formats import FORMATS
from glot_jax.file_formats.records import Record

Rows = list[dict[str, Any]]
Relevance = dict[str, dict[str, int]]
"""Query -> passage -> grade, 0 for a passage that does not answer it."""


@dataclasses.dataclass(frozen=True)
class TaskFolder:
    """The data files of a task."""

    path: Path
    files: Mapping[str, Path]
    """Path below the folder, without the suffix -> file."""

    @classmethod
    def open(cls, path: Path) -> TaskFolder:
        """List the data files.

        Raises:
            UsageError: there is none.
        """
        files = {}
        # Sorted: of two files that differ by their suffix alone the last one counts, everywhere.
        for file in sorted(path.rglob("*")):
            if file.suffix[1:] in FORMATS:
                name = file.relative_to(path).with_suffix("")
                files[name.as_posix()] = file
        if not files:
            raise UsageError(
                rule="a task's folder must hold its data",
                got=f"{path}, without a .jsonl, .csv, .tsv or .parquet",
                fix="See glot_jax.inference.mteb_tasks for the formats.",
            )
        return cls(path, files)

    def rows(
        self,
        name: str,
        columns: Sequence[str],
        optional: Sequence[str] = (),
    ) -> Rows:
        """Rows of a file, each with its columns and those of the optional ones that it has.

        Raises:
            UsageError: the file, its rows or one of its columns is missing.
        """
        if name not in self.files:
            raise UsageError(
                rule="a task must have all of its files",
                got=f"{self.path} without {name}",
                fix=f"Add {name}.jsonl.",
            )
        rows: Rows = []
        every = [*columns, *optional]
        for record in self._records(name, every):
            # Row by row: those of a .jsonl need not have the same columns.
            missing = [column for column in columns if column not in record.columns]
            if missing:
                raise UsageError(
                    rule="a task's rows must have its columns",
                    got=f"{record.location} without {', '.join(missing)}",
                    fix=f"Columns there: {', '.join(record.columns)}.",
                )
            row = {}
            for column in every:
                if column in record.columns:
                    row[column] = record.values[column]
            rows.append(row)
        if not rows:
            raise UsageError(
                rule="a task's file must have rows",
                got=self.files[name],
                fix="Fill it or leave it out.",
            )
        return rows

    def columns(self, name: str) -> set[str]:
        """Columns of a file's first row; none of an empty file."""
        first = next(self._records(name, []), None)
        return set() if first is None else set(first.columns)

    def _records(self, name: str, columns: Sequence[str]) -> Iterator[Record]:
        path = self.files[name]
        read = FORMATS[path.suffix[1:]]
        return iter(read(path, columns))


def sha256_of(folder: Path) -> str:
    """sha256 of a task's files and their names."""
    digest = hashlib.sha256()
    # Sorted: file systems list a folder in orders of their own.
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        digest.update(f"{path.relative_to(folder)}\n".encode())
        content = hashlib.sha256(path.read_bytes())
        digest.update(content.digest())
    return digest.hexdigest()


# What MTEB's tasks hold after load_data, by kind: (folder, splits, the task) -> dataset.
# All take the task, so that one table holds them; only the clusters' form depends on it.


def _sts(folder: TaskFolder, splits: Sequence[str], _task: object) -> DatasetDict:
    datasets = DatasetDict()
    for split in splits:
        rows = folder.rows(split, ("sentence1", "sentence2", "score"))
        for row in rows:
            # A .csv holds words.
            row["score"] = float(row["score"])
        datasets[split] = Dataset.from_list(rows)
    return datasets


def _pairs(folder: TaskFolder, splits: Sequence[str], _task: object) -> DatasetDict:
    datasets = DatasetDict()
    for split in splits:
        rows = folder.rows(split, ("sentence1", "sentence2", "label"))
        for row in rows:
            # MTEB's name of the column.
            row["labels"] = int(row.pop("label"))
        datasets[split] = Dataset.from_list(rows)
    return datasets


def _classes(folder: TaskFolder, splits: Sequence[str], _task: object) -> DatasetDict:
    datasets = DatasetDict()
    # MTEB fits a classifier to vectors of train, and scores it on the others.
    for split in ("train", *splits):
        rows = folder.rows(split, ("text", "label"))
        datasets[split] = Dataset.from_list(rows)
    return datasets


def _clusters(folder: TaskFolder, splits: Sequence[str], task: object) -> DatasetDict:
    datasets = DatasetDict()
    for split in splits:
        rows = folder.rows(split, ("text", "label"))
        columns: dict[str, list[Any]] = {
            "sentences": [row["text"] for row in rows],
            "labels": [row["label"] for row in rows],
        }
        if not isinstance(task, AbsTaskClustering):
            # Tasks of MTEB's first version hold sets of sentences, a set in a row.
            columns = {name: [values] for name, values in columns.items()}
        datasets[split] = Dataset.from_dict(columns)
    return datasets


def _summaries(folder: TaskFolder, splits: Sequence[str], _task: object) -> DatasetDict:
    columns = ("text", "human_summaries", "machine_summaries", "relevance")
    datasets = DatasetDict()
    for split in splits:
        rows = folder.rows(split, columns)
        datasets[split] = Dataset.from_list(rows)
    return datasets


def _retrieval(
    folder: TaskFolder,
    splits: Sequence[str],
    _task: object,
) -> dict[str, Any]:
    corpus: Rows = []
    for row in folder.rows("corpus", ("_id", "text"), ("title",)):
        # MTEB puts a title before its text, where there is one.
        title = row.get("title") or ""
        # As words: ids are numbers in some files and words in others, and are compared.
        name = str(row["_id"])
        corpus.append({"id": name, "title": title, "text": row["text"]})
    queries = {}
    for row in folder.rows("queries", ("_id", "text")):
        queries[str(row["_id"])] = row["text"]
    passages = {row["id"] for row in corpus}
    data = {}
    for split in splits:
        relevant: Relevance = {}
        judgements = folder.rows(f"qrels/{split}", ("query-id", "corpus-id", "score"))
        for row in judgements:
            query = str(row["query-id"])
            passage = str(row["corpus-id"])
            if query not in queries or passage not in passages:
                raise UsageError(
                    rule="a judgement must be of a query and a passage that exist",
                    got=f"{folder.path}/qrels/{split}: {query}, {passage}",
                    fix="Correct or drop it.",
                )
            grades = relevant.setdefault(query, {})
            grades[passage] = int(row["score"])
        # Queries without a judgement in this split are not asked.
        judged = {query: queries[query] for query in relevant}
        data[split] = _split_data(corpus, judged, relevant, None)
    # MTEB's name of the subset (a language) of a task that has only one.
    return {"default": data}


def _reranking(
    folder: TaskFolder,
    splits: Sequence[str],
    _task: object,
) -> dict[str, Any]:
    data = {}
    for split in splits:
        queries: dict[str, str] = {}
        relevant: Relevance = {}
        ranked: dict[str, list[str]] = {}
        # Text -> id: a text that several queries have is one passage.
        passages: dict[str, str] = {}
        lists = ("positive", "pos", "negative", "neg")
        rows = folder.rows(split, ("query",), lists)
        for number, row in enumerate(rows):
            # MTEB's own files say positive and negative, msmarco-triplets say pos and neg.
            positives = _listed(row.get("positive") or row.get("pos"))
            negatives = _listed(row.get("negative") or row.get("neg"))
            if not positives or not negatives:
                continue  # nothing to tell apart
            query = f"q{number}"
            queries[query] = row["query"]
            own = [*positives, *negatives]
            for text in own:
                passages.setdefault(text, f"p{len(passages)}")
            relevant[query] = {passages[text]: 1 for text in positives}
            # Only a query's own texts are ranked, each once.
            candidates = [passages[text] for text in own]
            ranked[query] = list(dict.fromkeys(candidates))
        if not queries:
            raise UsageError(
                rule="a reranking task must have a query with a relevant and another passage",
                got=f"{folder.path}/{split}",
                fix="Add negatives.",
            )
        corpus: Rows = []
        for text, name in passages.items():
            corpus.append({"id": name, "title": "", "text": text})
        data[split] = _split_data(corpus, queries, relevant, ranked)
    return {"default": data}


def _split_data(
    corpus: Rows,
    queries: Mapping[str, str],
    relevant: Mapping[str, Mapping[str, int]],
    ranked: Mapping[str, Sequence[str]] | None,
) -> dict[str, Any]:
    """A split of a retrieval task, as MTEB has it."""
    texts: Rows = []
    for query, text in queries.items():
        texts.append({"id": query, "text": text})
    return {
        "corpus": Dataset.from_list(corpus),
        "queries": Dataset.from_list(texts),
        "relevant_docs": relevant,
        # None: every passage of the corpus is ranked.
        "top_ranked": ranked,
    }


def _listed(value: str | Iterable[str] | None) -> list[str]:
    """One text, several or none, as a list."""
    # An empty text is none: nothing can be told from it.
    if not value:
        return []
    if isinstance(value, str):
        return [value]
    return list(value)


Loader = Callable[[TaskFolder, Sequence[str], object], Any]
"""(folder, splits, MTEB's task) -> what the task holds as its dataset."""

LOADERS: dict[str, Loader] = {
    "STS": _sts,
    "PairClassification": _pairs,
    "Classification": _classes,
    "Clustering": _clusters,
    "Reranking": _reranking,
    "Retrieval": _retrieval,
    "Summarization": _summaries,
}
"""Kind of task -> its loader."""
