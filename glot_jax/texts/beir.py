"""A retrieval collection in BEIR's layout, as rows of a query with its texts.

    FOLDER/corpus.jsonl                     _id, title, text
    FOLDER/queries.jsonl                    _id, text
    FOLDER/qrels/train.tsv, dev, test       query-id, corpus-id, score

Every file may have another format of `formats`, and be compressed. A query's relevant texts are
those judged above 0, its negatives those judged 0 or less. Judgements of texts that are not there
are skipped and counted, and so is a query that is then left without a relevant text.

In memory are judgements and offsets only: the judged texts are copied, once, into a temporary file
without a name.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from glot_jax.errors import UsageError, require
from glot_jax.texts.folders import files_by_name, split_names
from glot_jax.texts.formats import Reading, open_file
from glot_jax.texts.query_rows import titled
from glot_jax.texts.quoting import listed, shown
from glot_jax.texts.records import Record, Seen, Source, chained, require_columns, require_text
from glot_jax.texts.tasks import TaskSpec

QRELS = ("query-id", "corpus-id", "score")


@dataclass(frozen=True)
class Collection:
    """Where the parts of a collection lie."""

    folder: Path
    corpus: Sequence[Path]
    queries: Sequence[Path]


def find_beir(folder: Path) -> Collection | None:
    """The collection in a folder; None without a corpus and queries. UsageError without
    judgements.
    """
    if not folder.is_dir():
        return None
    found = files_by_name(folder, {"corpus": "corpus", "queries": "queries"})
    if {*found} != {"corpus", "queries"}:
        return None
    rule = "a corpus and queries have judgements, qrels/train.tsv and others"
    require((folder / "qrels").is_dir(), rule, f"{folder} without qrels", "Add them.")
    return Collection(folder, found["corpus"], found["queries"])


@dataclass
class _Judged:
    """The judgements of one split."""

    name: str
    queries: dict[str, list[tuple[str, bool]]] = field(default_factory=dict)
    """Identifier of a query -> those of texts, and whether each is relevant; in the order of the
    file.
    """
    places: dict[str, str] = field(default_factory=dict)
    absent: Seen = field(default_factory=Seen)
    left_out: Seen = field(default_factory=Seen)


class _Spool:
    """Texts by identifier, in a temporary file that goes with this object."""

    def __init__(self) -> None:
        # Kept open: iterators of several splits read it at the same time, each at its own offset.
        self._file: BinaryIO = tempfile.TemporaryFile()  # type: ignore[assignment]  # noqa: SIM115
        self._where: dict[str, tuple[int, int]] = {}
        self._end = 0

    def __contains__(self, name: str) -> bool:
        return name in self._where

    def add(self, name: str, text: str) -> None:
        raw = text.encode()
        self._file.write(raw)
        self._where[name] = (self._end, len(raw))
        self._end += len(raw)

    def flush(self) -> None:
        self._file.flush()

    def read(self, name: str) -> str:
        offset, length = self._where[name]
        return os.pread(self._file.fileno(), length, offset).decode()


def beir_sources(
    collection: Collection, spec: TaskSpec, encoding: str | None
) -> tuple[dict[str, Source], list[str]]:
    """The splits that have judgements, in the task's order, and lines for the user: what was
    joined, skipped and left out.

    UsageError with `file:line` for a column that is missing, an identifier that stands twice, a
    score that is no number.
    """
    names = split_names(split for split, _ in spec.splits)
    files = files_by_name(collection.folder / "qrels", names)
    there = (
        listed(sorted(path.name for path in (collection.folder / "qrels").iterdir())) or "nothing"
    )
    fix = "Name the files train.tsv, dev.tsv and test.tsv."
    require(
        bool(files),
        "qrels holds the judgements of a split",
        f"{collection.folder / 'qrels'} with {there}",
        fix,
    )
    splits = [
        _judgements(split, files[split], encoding) for split, _ in spec.splits if split in files
    ]
    wanted = {name for split in splits for texts in split.queries.values() for name, _ in texts}
    asked = {name for split in splits for name in split.queries}
    texts, titles = _spooled(collection.corpus, wanted, encoding)
    queries, _ = _spooled(collection.queries, asked, encoding)
    notices = [
        f"read: a BEIR collection, {collection.folder}; "
        f"splits {', '.join(split.name for split in splits)}"
    ]
    if titles:
        notices.append(
            f"{collection.corpus[0]}: texts that have a title are read as "
            f'title + " " + text: {titles} of the judged ones'
        )
    sources = {}
    for split in splits:
        rows = _prune(split, texts, queries)
        notices += _told(split)
        got = f"{', '.join(map(str, files[split.name]))} with none"
        fix = "Give the corpus and the queries that belong to it."
        require(bool(rows), "judgements are of queries and texts that are there", got, fix)
        sources[split.name] = _source(str(files[split.name][0]), split, rows, texts, queries)
    return sources, notices


def _judgements(split: str, paths: Sequence[Path], encoding: str | None) -> _Judged:
    judged = _Judged(split)
    source = chained([open_file(path, Reading(encoding, QRELS)) for path in paths], str(paths[0]))
    for record in source.read(QRELS):
        require_columns(QRELS, record.columns, record.columns_location)
        query, text, score = (record.values[column] for column in QRELS)
        try:
            relevant = float(score) > 0
        except (TypeError, ValueError) as error:
            raise UsageError(
                "a judgement is a number", f"{record.place}: score = {shown(score)}", "Correct it."
            ) from error
        judged.queries.setdefault(str(query), []).append((str(text), relevant))
        judged.places.setdefault(str(query), record.place)
    return judged


def _spooled(paths: Sequence[Path], wanted: set[str], encoding: str | None) -> tuple[_Spool, int]:
    """The wanted texts, and how many of them have a title."""
    spool = _Spool()
    titles = 0
    columns = ("_id", "text", "title")
    for path in paths:
        for record in open_file(path, Reading(encoding, columns[:2])).read(columns):
            require_columns(columns[:2], record.columns, record.columns_location)
            name = str(record.values["_id"])
            if name not in wanted:
                continue
            require(
                name not in spool,
                "an identifier stands once",
                f"{record.place}: {shown(name)} again",
                "Drop one of the two.",
            )
            text = titled(record.values)
            require_text(text, "text", record.place)
            titles += bool(record.values.get("title"))
            spool.add(name, text)
    spool.flush()
    return spool, titles


def _prune(split: _Judged, texts: _Spool, queries: _Spool) -> list[str]:
    """Queries that are left with a relevant text; what is not there is counted."""
    kept = []
    for query, judged in split.queries.items():
        place = split.places[query]
        there = [one for one in judged if one[0] in texts and query in queries]
        for _ in range(len(judged) - len(there)):
            split.absent.add(place)
        split.queries[query] = there
        if any(relevant for _, relevant in there):
            kept.append(query)
        else:
            split.left_out.add(place)
    return kept


def _told(split: _Judged) -> Iterator[str]:
    lines = {
        "judgements of texts or queries that are not in the collection, skipped": split.absent,
        "queries without a relevant text, left out": split.left_out,
    }
    for what, seen in lines.items():
        if seen.count:
            yield f"{split.name}: {what}: {seen.count}, the first of the query in {seen.place}"


def _source(
    name: str, split: _Judged, rows: Sequence[str], texts: _Spool, queries: _Spool
) -> Source:
    # Where no text of the split is judged irrelevant, its rows have no column of negatives.
    negatives = any(not relevant for query in rows for _, relevant in split.queries[query])
    columns = ["query", "pos", "neg"] if negatives else ["query", "pos"]

    def read(wanted: Sequence[str]) -> Iterator[Record]:
        for query in rows:
            judged = split.queries[query]
            values: Mapping[str, Any] = {
                "query": queries.read(query),
                "pos": [texts.read(text) for text, relevant in judged if relevant],
                "neg": [texts.read(text) for text, relevant in judged if not relevant],
            }
            yield Record(split.places[query], values, columns)

    return Source(name, True, read)
