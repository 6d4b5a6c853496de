"""Vectors of texts whose states are kept in a store, to be read again by other heads."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glot_jax.backbones.from_recipe import config_from
from glot_jax.errors import UsageError
from glot_jax.extraction import Backbone, dump
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.store import HiddenStore
from glot_jax.store.identity import canonical_sha256


def encode_through_store(
    encoder: SentenceEncoder,
    texts: Sequence[str],
    folder: Path,
    *,
    batch_size: int = 32,
    backbone: str | None = None,
) -> np.ndarray:
    """Vectors [texts, dim], through a store of the texts' states.

    Args:
        encoder: an encoder with a backbone.
        texts: texts to encode.
        folder: where the stores lie. The name of one is a hash of the texts and of everything that
            decides their states, which the head does not; it is made if it is not there.
        batch_size: texts pooled at a time.
        backbone: where the frozen model lies, if the run knows it only by the name of a folder.

    Raises:
        UsageError: an encoder without a backbone, or a store that cannot be written or read.
    """
    if encoder.backbone is None:
        raise UsageError(
            rule="states are kept by an encoder with a backbone",
            got="an encoder of states",
            fix="Load it from a run.",
        )
    # A store has rows: of no texts there is nothing to keep.
    if len(texts) == 0:
        return np.zeros((0, encoder.dim), np.float32)
    store = folder / _name(encoder.backbone, texts)
    with tempfile.TemporaryDirectory() as scratch:
        # Through a file, as `extract.py --data`: there is one way from texts to a store.
        file = Path(scratch) / "test.jsonl"
        lines = [json.dumps({"text": text}) + "\n" for text in texts]
        file.write_text("".join(lines), encoding="utf-8")
        config = config_from(
            encoder.recipe,
            layers=encoder.layers,
            backbone=backbone,
            data=Path(scratch),
            text_columns=("text",),
            out=store,
            # A text that a task repeats goes through the backbone once.
            deduplicate=True,
        )
        # The manifest is written last: a store without one was cut off, and is continued.
        if not (store / "manifest.json").is_file():
            dump(config, backbone=encoder.backbone)
    if encoder.mixed:
        stored = HiddenStore(store, layers=encoder.layers)
    else:
        stored = HiddenStore(store, layer=encoder.layers[-1])
    reader = stored["test"]
    vectors = encoder.encode_stored(reader, batch_size=batch_size)
    # A text that occurs twice is stored once.
    return vectors[reader.row_texts]


def _name(backbone: Backbone, texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode()
        # With its length, so that two texts are not the same as one that joins them.
        digest.update(f"{len(content)}:".encode() + content)
    values = {
        "recipe": backbone.recipe().to_json(),
        "texts": digest.hexdigest(),
    }
    # 128 bits: enough that no two stores meet, and short enough for a path.
    return canonical_sha256(values)[:32]
