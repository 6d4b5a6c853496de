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
from typing import IO, Any, NamedTuple

from glot_jax.errors import UsageError
from glot_jax.file_formats.formats import Reading, open_file
from glot_jax.file_formats.quoting import listed, shown
from glot_jax.file_formats.records import (
    Columns,
    Record,
    Records,
    Seen,
    Source,
    chained,
    require_columns,
    require_text,
)
from glot_jax.texts.query_rows import titled
from glot_jax.texts.split_files import files_by_name, split_names
from glot_jax.texts.tasks import TaskSpec

QRELS = ("query-id", "corpus-id", "score")
"""Columns of a file of judgements."""
_TEXT_COLUMNS = ("_id", "text", "title")
"""Columns of the corpus and the queries; only the title may be missing."""


@dataclass(frozen=True)
class Collection:
    """Where the parts of a collection lie."""

    folder: Path
    corpus: Sequence[Path]
    queries: Sequence[Path]

    @property
    def qrels(self) -> Path:
        """The folder of the judgements."""
        return self.folder / "qrels"


def find_beir(folder: Path) -> Collection | None:
    """The collection in a folder; None without a corpus and queries.

    Raises:
        UsageError: a corpus and queries without judgements.
    """
    if not folder.is_dir():
        return None
    # The same search as for splits: any format, compressed, in shards.
    files = files_by_name(folder, {"corpus": "corpus", "queries": "queries"})
    if "corpus" not in files or "queries" not in files:
        return None
    collection = Collection(
        folder=folder,
        corpus=files["corpus"],
        queries=files["queries"],
    )
    if not collection.qrels.is_dir():
        raise UsageError(
            rule="a corpus and queries must have judgements, qrels/train.tsv and others",
            got=f"{folder} without qrels",
            fix="Add them.",
        )
    return collection


class _Judgement(NamedTuple):
    """What somebody said about one text for one query."""

    text: str
    """Identifier of the text."""
    is_relevant: bool


@dataclass
class _Judged:
    """The judgements of one split."""

    name: str
    queries: dict[str, list[_Judgement]] = field(default_factory=dict)
    """Identifier of a query -> its judgements, in the order of the file."""
    locations: dict[str, str] = field(default_factory=dict)
    """Identifier of a query -> where its first judgement stands."""
    absent: Seen = field(default_factory=Seen)
    """Judgements of texts or queries that are not in the collection."""
    left_out: Seen = field(default_factory=Seen)
    """Queries without a relevant text."""

    def remarks(self) -> Iterator[str]:
        """Lines about what is not read."""
        lines = {
            "judgements of texts or queries that are not in the collection, skipped": self.absent,
            "queries without a relevant text, left out": self.left_out,
        }
        for what, seen in lines.items():
            if seen.count:
                first = f"the first of the query in {seen.location}"
                yield f"{self.name}: {what}: {seen.count}, {first}"


class _Spool:
    """Texts by identifier, in a temporary file that goes with this object."""

    def __init__(self) -> None:
        # Kept open: iterators of several splits read it at the same time, each at its own offset.
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        self._spans: dict[str, tuple[int, int]] = {}
        self._end = 0

    def __contains__(self, name: str) -> bool:
        return name in self._spans

    def add(self, name: str, text: str) -> None:
        raw = text.encode()
        self._file.write(raw)
        self._spans[name] = (self._end, len(raw))
        self._end += len(raw)

    def flush(self) -> None:
        # `read` goes around the file object's buffer.
        self._file.flush()

    def read(self, name: str) -> str:
        # `pread` has no position of its own that a second iterator could move.
        offset, length = self._spans[name]
        return os.pread(self._file.fileno(), length, offset).decode()


def beir_sources(
    collection: Collection,
    spec: TaskSpec,
    encoding: str | None,
) -> tuple[dict[str, Source], list[str]]:
    """Open the splits that have judgements.

    Args:
        collection: what `find_beir` found.
        spec: the task, whose splits give the judgements their names.
        encoding: of files without a byte-order mark; None: UTF-8.

    Returns:
        The sources in the task's order of the splits, and lines for the user: what was joined,
        skipped and left out.

    Raises:
        UsageError: with `file:line`, for a column that is missing, an identifier that is not
            unique, a score that is not a number.
    """
    files = _judgement_files(collection, spec)
    splits: list[_Judged] = []
    text_names: set[str] = set()
    query_names: set[str] = set()
    for name, _ in spec.splits:
        if name in files:
            # All splits first: the corpus is then read once for all of them.
            split = _read_judgements(name, files[name], encoding)
            splits.append(split)
            query_names.update(split.queries)
            for judgements in split.queries.values():
                text_names.update(judgement.text for judgement in judgements)
    # A corpus has millions of texts, of which some thousands are judged: only these are kept.
    texts, titles = _spooled(collection.corpus, text_names, encoding)
    queries, _ = _spooled(collection.queries, query_names, encoding)
    split_list = ", ".join(split.name for split in splits)
    notices = [f"read: a BEIR collection, {collection.folder}; splits {split_list}"]
    if titles:
        notices.append(
            f"{collection.corpus[0]}: texts that have a title are read as "
            f'title + " " + text: {titles} of the judged ones'
        )
    sources: dict[str, Source] = {}
    for split in splits:
        rows = _prune(split, texts, queries)
        notices += split.remarks()
        if not rows:
            raise UsageError(
                rule="judgements must be of queries and texts that exist",
                got=f"{', '.join(map(str, files[split.name]))} with none",
                fix="Give the corpus and the queries that belong to it.",
            )
        name = str(files[split.name][0])
        sources[split.name] = _source(name, split, rows, texts, queries)
    return sources, notices


def _judgement_files(collection: Collection, spec: TaskSpec) -> dict[str, list[Path]]:
    # dev.tsv is the validation split here as everywhere.
    names = split_names(split for split, _ in spec.splits)
    files = files_by_name(collection.qrels, names)
    if not files:
        present = sorted(path.name for path in collection.qrels.iterdir())
        raise UsageError(
            rule="qrels must hold the judgements of a split",
            got=f"{collection.qrels} with {listed(present) or 'nothing'}",
            fix="Name the files train.tsv, dev.tsv and test.tsv.",
        )
    return files


def _read_judgements(
    split: str,
    paths: Sequence[Path],
    encoding: str | None,
) -> _Judged:
    judged = _Judged(split)
    parts = [open_file(path, Reading(encoding, QRELS)) for path in paths]
    for record in chained(parts, str(paths[0])).read(QRELS):
        require_columns(QRELS, record.columns, record.columns_location)
        score = record.values["score"]
        try:
            # Graded judgements, 1 to 3, are all relevant; pooled ones of 0 are hard negatives.
            is_relevant = float(score) > 0
        except (TypeError, ValueError) as error:
            raise UsageError(
                rule="a judgement must be a number",
                got=f"{record.location}: score = {shown(score)}",
                fix="Write 1 for a relevant text and 0 for another.",
            ) from error
        # Identifiers are ints in some files and strings in others: 7 and "7" are one.
        query = str(record.values["query-id"])
        judgement = _Judgement(str(record.values["corpus-id"]), is_relevant)
        judged.queries.setdefault(query, []).append(judgement)
        # In messages the first line of a query stands for all of them.
        judged.locations.setdefault(query, record.location)
    return judged


def _spooled(
    paths: Sequence[Path],
    names: set[str],
    encoding: str | None,
) -> tuple[_Spool, int]:
    """The texts of these names, and how many of them have a title."""
    spool = _Spool()
    titles = 0
    # A title may be missing.
    needed = _TEXT_COLUMNS[:2]
    for path in paths:
        for record in open_file(path, Reading(encoding, needed)).read(_TEXT_COLUMNS):
            require_columns(needed, record.columns, record.columns_location)
            name = str(record.values["_id"])
            # Before the text is looked at: what nobody asks for may be anything.
            if name not in names:
                continue
            if name in spool:
                raise UsageError(
                    rule="an identifier must be unique",
                    got=f"{record.location}: {shown(name)} again",
                    fix="Drop one of the two.",
                )
            text = require_text(titled(record.values), "text", record.location)
            titles += bool(record.values.get("title"))
            spool.add(name, text)
    spool.flush()
    return spool, titles


def _prune(
    split: _Judged,
    texts: _Spool,
    queries: _Spool,
) -> list[str]:
    """Queries that are left with a relevant text; what is not there is counted."""
    kept: list[str] = []
    for query, judgements in split.queries.items():
        location = split.locations[query]
        existing: list[_Judgement] = []
        for judgement in judgements:
            # Some collections have judgements of texts that were withdrawn later.
            if judgement.text in texts and query in queries:
                existing.append(judgement)
            else:
                split.absent.add(location)
        # In place: what is not there is dropped before the rows are counted.
        split.queries[query] = existing
        if any(judgement.is_relevant for judgement in existing):
            kept.append(query)
        else:
            split.left_out.add(location)
    return kept


def _source(
    name: str,
    split: _Judged,
    rows: Sequence[str],
    texts: _Spool,
    queries: _Spool,
) -> Source:
    columns = ["query", "pos"]
    for query in rows:
        # Where no text of the split is judged irrelevant, its rows have no column of negatives.
        if not all(judgement.is_relevant for judgement in split.queries[query]):
            columns = ["query", "pos", "neg"]
            break

    def read(_: Columns) -> Records:
        for query in rows:
            # Read when the row is asked for: the texts of all rows would not fit.
            relevant: list[str] = []
            others: list[str] = []
            for judgement in split.queries[query]:
                group = relevant if judgement.is_relevant else others
                group.append(texts.read(judgement.text))
            values: Mapping[str, Any] = {
                "query": queries.read(query),
                "pos": relevant,
                "neg": others,
            }
            yield Record(split.locations[query], values, columns)

    return Source(
        name=name,
        typed=True,
        read=read,
    )
