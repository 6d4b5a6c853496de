"""Datasets as the Hub has them: parquet files by configuration, and a card that says which."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

from datasets import ClassLabel, Dataset, Features, Value

Rows = Mapping[str, Sequence[object]]
"""Column -> values."""
GLUE, IMDB = "nyu-mll/glue", "stanfordnlp/imdb"
_TEXT = "the cat sat on a mat every bird sings before sun is up nobody saw green"


def sentences(count: int, words: int = 6) -> list[str]:
    """Sentences of which no two are the same."""
    known = _TEXT.split()
    steps = [[row * (word + 3) + word for word in range(words)] for row in range(count)]
    picks = [[known[step % len(known)] for step in row] for row in steps]
    return [" ".join(pick) + f" {row}" for row, pick in enumerate(picks)]


def cola(train: int = 24, validation: int = 8, test: int = 6) -> dict[str, Rows]:
    """Splits of GLUE's CoLA; the test set's labels are secret, -1."""
    counts = {"train": train, "validation": validation, "test": test}
    splits: dict[str, Rows] = {}
    for name, rows in counts.items():
        labels = [-1 if name == "test" else row % 2 for row in range(rows)]
        splits[name] = {"sentence": sentences(rows), "label": labels, "idx": list(range(rows))}
    return splits


def imdb(train: int = 12, test: int = 8) -> dict[str, Rows]:
    counts = {"train": train, "test": test}
    return {
        name: {"text": sentences(rows, 20), "label": [row % 2 for row in range(rows)]}
        for name, rows in counts.items()
    }


def dataset_files(
    configs: Mapping[str, Mapping[str, Rows]], classes: Sequence[str]
) -> dict[str, bytes]:
    """Files of a repository with these configurations: CONFIG/SPLIT-*.parquet, and README.md."""
    files, card = {}, ["---", "configs:"]
    for config, splits in configs.items():
        card += [f"- config_name: {config}", "  data_files:"]
        for split, rows in splits.items():
            files[f"{config}/{split}-00000-of-00001.parquet"] = _parquet(rows, classes)
            card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    card += ["---", "", "# A dataset", ""]
    return {"README.md": "\n".join(card).encode(), **files}


def _parquet(rows: Rows, classes: Sequence[str]) -> bytes:
    kinds = {"label": ClassLabel(names=list(classes)), "idx": Value("int32")}
    features = Features({name: kinds.get(name, Value("string")) for name in rows})
    file = io.BytesIO()
    Dataset.from_dict(dict(rows), features=features).to_parquet(file)
    return file.getvalue()


def glue_files() -> dict[str, bytes]:
    """nyu-mll/glue, with CoLA and, so that it has a second configuration, SST-2's form of it."""
    splits = cola()
    return dataset_files({"cola": splits, "sst2": splits}, ("unacceptable", "acceptable"))


def imdb_files() -> dict[str, bytes]:
    """stanfordnlp/imdb, whose only configuration is plain_text."""
    return dataset_files({"plain_text": imdb()}, ("neg", "pos"))
