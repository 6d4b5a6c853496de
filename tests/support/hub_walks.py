"""Walks of glot with a backbone from the Hub: the command, and what it must never leave behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from glot_jax.store.layout import lock_folder
from glot_jax.store.manifest import read_manifest
from support.hub_datasets import sentences
from support.hub_server import TOKEN
from support.walks import Outcome

ROWS = {"train": 24, "validation": 8}
SHARD_TOKENS = "60"
"""So few that every split has several shards."""


def texts(folder: Path, rows: Mapping[str, int] = ROWS) -> Path:
    """Labelled rows of a custom task, of 1 to 10 words."""
    folder.mkdir(parents=True)
    for name, count in rows.items():
        lines = [
            {"text": " ".join(sentence.split()[: 1 + row % 10]), "label": row % 2}
            for row, sentence in enumerate(sentences(count, 10))
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def extraction(backbone: str, data: Path, out: Path, *more: str) -> list[str]:
    """Arguments of `glot extract`, or of extract.py behind the first one."""
    columns = ["--text-columns", "text", "--label-column", "label"]
    return [
        "extract",
        "--backbone",
        backbone,
        "--task",
        "custom",
        "--data",
        str(data),
        *columns,
        "--out",
        str(out),
        "--device",
        "cpu",
        "--shard-tokens",
        SHARD_TOKENS,
        *more,
    ]


def commit_of(store: Path) -> str | None:
    """The backbone's commit that a finished store says it was made with."""
    return read_manifest(store).recipe.revision


def assert_refused(done: Outcome, *told: str, out: Path | None = None) -> None:
    """Bad input: exit code 2, one line that says so in these words, and nothing begun."""
    assert "Traceback" not in done.stderr, done.stderr
    assert (done.code, len(done.errors)) == (2, 1), done.stderr
    for words in told:
        assert words.lower() in done.errors[0].lower(), done.errors[0]
    if out is not None:
        assert not out.exists() or not any(out.iterdir()), sorted(out.rglob("*"))
        assert not lock_folder(out).exists()


def assert_done(done: Outcome) -> None:
    assert done.code == 0, done.stderr
    assert done.errors == []
    assert "Traceback" not in done.stderr, done.stderr


def assert_no_secret(*places: Path | Outcome, secret: str = TOKEN) -> None:
    """The token is in no output and in no file."""
    for place in places:
        if isinstance(place, Outcome):
            assert not place.tells(secret)
            continue
        files = [place] if place.is_file() else [one for one in place.rglob("*") if one.is_file()]
        assert files, place
        holding = [one for one in files if secret.encode() in one.read_bytes()]
        assert holding == []


def first_lines(file: Path, count: int, out: Path) -> Path:
    """A file of the first rows alone."""
    lines = file.read_text().splitlines()[:count]
    assert all(json.loads(line) for line in lines)
    out.write_text("\n".join(lines) + "\n")
    return out


def notices_of(stderr: str, commit: str) -> int:
    """Count the lines that name a commit, in full or by its beginning."""
    return sum(commit[:7] in line for line in stderr.splitlines())
