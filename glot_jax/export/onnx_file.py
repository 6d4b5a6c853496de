"""Stem and pooler of a run as one ONNX file."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from glot_jax.errors import UsageError, require_extra
from glot_jax.export.agreement import PADDED, random_texts, require_agreement
from glot_jax.export.torch_head import TrainedHead, torch_head
from glot_jax.files import whole_file
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.moved import renamed_keywords
from glot_jax.run_folders.run_folder import CheckpointName
from glot_jax.version import __version__

_INPUTS = ("token_embeddings", "attention_mask")
_OUTPUT = "sentence_embedding"
_SHAPES = (
    (1, 1),
    (1, 7),
    (5, 12),
)
"""(batch, length) of the states that the file is compared on: not those it was traced with."""


@renamed_keywords(which="checkpoint")
def export_onnx(
    run: str | os.PathLike[str],
    file: str | os.PathLike[str],
    checkpoint: CheckpointName = "best",
) -> dict[str, Any]:
    """Write stem and pooler as one ONNX file; the backbone is not in it.

    | name | dtype | shape |
    | --- | --- | --- |
    | token_embeddings | float32 | [batch, length, dim] |
    | attention_mask | int64 | [batch, length] |
    | sentence_embedding | float32 | [batch, pooled] |

    Batch and length may be any. Where layers are mixed, token_embeddings are [batch, length,
    layers, dim], in the run's order.

    Args:
        run: run folder.
        file: a new file.
        checkpoint: "best" or "last".

    Returns:
        What the file's metadata says, and the largest relative difference to the run, by
        onnxruntime on random states.

    Raises:
        UsageError: no run, the graph rule `random`, packages that are missing, a file that exists
            or cannot be written, vectors that differ.
    """
    require_extra("export", "an ONNX file", "onnx", "onnxruntime", "onnxscript")
    file = Path(file)
    if file.exists():
        raise UsageError(
            rule="an export must go to a new file",
            got=f"{file}, which exists",
            fix="Choose another one, or remove it.",
        )
    head = TrainedHead.load(Path(run), checkpoint)
    facts = {
        "glot_jax": __version__,
        "checkpoint": checkpoint,
        "dim": head.settings["dim"],
        "pooled_dim": head.model.pooler.pooled_dim,
        **head.identity(),
    }
    content = _traced(head, facts)
    with whole_file(file) as temporary:
        temporary.write_bytes(content)
        difference = _compare(temporary, head)
    return {
        "file": str(file),
        **facts,
        "difference": difference,
    }


def _traced(head: TrainedHead, facts: dict[str, Any]) -> bytes:
    """The file's bytes, checked by onnx."""
    import onnx

    axes = {
        0: torch.export.Dim("batch"),
        1: torch.export.Dim("length"),
    }
    # Three rows: full, of one token, empty. An axis of one entry would be taken for a constant.
    hidden, mask = random_texts(head.model, 3, 6)
    inputs = (torch.from_numpy(hidden), torch.from_numpy(mask))
    with warnings.catch_warnings():  # torch's exporter warns about its own use of torch
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            torch_head(head.settings, head.weights),
            inputs,
            # The exporter that takes symbolic sizes; the older one traces those of its inputs.
            dynamo=True,
            verbose=False,
            input_names=_INPUTS,
            output_names=(_OUTPUT,),
            dynamic_shapes=dict.fromkeys(_INPUTS, axes),
        )
    proto = program.model_proto
    # Metadata of ONNX are strings.
    metadata = {}
    for name, value in facts.items():
        if not isinstance(value, str):
            value = json.dumps(value)
        metadata[name] = value
    onnx.helper.set_model_props(proto, metadata)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def _compare(file: Path, head: TrainedHead) -> float:
    """Largest relative difference between the file and the run."""
    import onnxruntime

    # From the file itself, not from the program it was made of.
    session = onnxruntime.InferenceSession(
        str(file),
        providers=["CPUExecutionProvider"],
    )
    encoder = SentenceEncoder(head.model, None, head.run.model.layers)
    differences = []
    for batch, length in _SHAPES:
        hidden, mask = random_texts(head.model, batch, length)
        inputs = dict(zip(_INPUTS, (hidden, mask), strict=True))
        (vectors,) = session.run(None, inputs)
        # On an accelerator JAX would round float32 products to fewer bits.
        with jax.default_matmul_precision("highest"):
            expected = encoder.encode_states(hidden, mask)
        difference = require_agreement(
            np.asarray(vectors),
            np.asarray(expected),
            PADDED,
        )
        differences.append(difference)
    return max(differences)
