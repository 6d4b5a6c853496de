"""Stem and pooler of a run as one ONNX file, and the head of its task where it is asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from glot_jax.errors import UsageError, require_extra
from glot_jax.export.agreement import (
    VECTORS,
    compare_on_states,
    random_rows,
)
from glot_jax.export.glot_task import OUTPUTS, RowHead, TaskHead
from glot_jax.export.task_head import ExportedTask
from glot_jax.export.torch_head import TrainedHead, torch_head
from glot_jax.files import whole_file
from glot_jax.inference.encoder import SentenceEncoder
from glot_jax.moved import renamed_keywords
from glot_jax.run_folders.run_folder import CheckpointName
from glot_jax.version import __version__

_INPUTS = ("token_embeddings", "attention_mask")
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
    *,
    with_head: bool = False,
) -> dict[str, Any]:
    """Write stem and pooler as one ONNX file; the backbone is not in it.

    | name | dtype | shape |
    | --- | --- | --- |
    | token_embeddings | float32 | [batch, length, dim] |
    | attention_mask | int64 | [batch, length] |
    | sentence_embedding | float32 | [batch, pooled] |

    Batch and length may be any. Where layers are mixed, token_embeddings are [batch, length,
    layers, dim], in the run's order.

    With the task's head there are further outputs, for classes `logits` and `probabilities`
    [batch, classes], else `score` [batch]. For rows of several texts the inputs and
    sentence_embedding then have an axis of texts behind that of the batch.

    Args:
        run: run folder.
        file: a new file.
        checkpoint: "best" or "last".
        with_head: write the task's head too; the metadata names the classes.

    Returns:
        What the file's metadata says, and the largest relative differences to the run, by
        onnxruntime on random states: `difference`, and with the head `difference_of_scores`.

    Raises:
        UsageError: no run, the graph rule `random`, packages that are missing, a file that exists
            or cannot be written, a run without scores that is to be written with its head, vectors
            or scores that differ.
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
    task = None
    if with_head:
        task = ExportedTask.of_model(head.model, head.run.temperature)
    facts = {
        "glot_jax": __version__,
        "checkpoint": checkpoint,
        "dim": head.settings["dim"],
        "pooled_dim": head.model.pooler.pooled_dim,
        **head.identity(task),
    }
    # Metadata of a file without the head are those of earlier versions.
    if task is not None:
        facts["task_head"] = task.settings
    graph = _Graph.of_run(head, task)
    content = _traced(graph, facts)
    with whole_file(file) as temporary:
        temporary.write_bytes(content)
        differences = _compare(temporary, graph)
    return {
        "file": str(file),
        **facts,
        **differences,
    }


@dataclasses.dataclass(frozen=True)
class _Graph:
    """What becomes the file."""

    head: TrainedHead
    module: torch.nn.Module
    outputs: tuple[str, ...]
    texts: int | None
    """Texts of a row, where the inputs have an axis of them."""

    @classmethod
    def of_run(cls, head: TrainedHead, task: ExportedTask | None) -> _Graph:
        """The vectors, and the scores of a task."""
        module = torch_head(head.settings, head.weights)
        if task is None:
            return cls(head, module, (VECTORS,), None)
        scores: TaskHead = task.module()
        # Of one text a row is a text: the inputs are those of a file without the head.
        texts = None
        if scores.texts > 1:
            texts = scores.texts
        outputs = (VECTORS, *OUTPUTS[scores.predicts])
        return cls(head, RowHead(module, scores).eval(), outputs, texts)


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep what torch's exporter says of itself from the user.

    It warns about its own use of torch, and logs that torchvision, which nothing here needs, is
    not installed.
    """
    # Loggers of its modules have no level of their own, and take this one.
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _traced(graph: _Graph, facts: dict[str, Any]) -> bytes:
    """The file's bytes, checked by onnx."""
    import onnx

    # Texts of a row are no symbol: a head reads as many as it was trained on.
    length_axis = 1 if graph.texts is None else 2
    axes = {
        0: torch.export.Dim("batch"),
        length_axis: torch.export.Dim("length"),
    }
    # Three rows: full, of one token, empty. An axis of one entry would be taken for a constant.
    hidden, mask = random_rows(graph.head.model, 3, 6, graph.texts)
    inputs = (torch.from_numpy(hidden), torch.from_numpy(mask))
    with _quiet_exporter():
        program: Any = torch.onnx.export(
            graph.module,
            inputs,
            # The exporter that takes symbolic sizes; the older one traces those of its inputs.
            dynamo=True,
            verbose=False,
            input_names=_INPUTS,
            output_names=graph.outputs,
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


def _compare(file: Path, graph: _Graph) -> dict[str, float]:
    """Largest relative differences between the file and the run."""
    import onnxruntime

    # From the file itself, not from the program it was made of.
    session = onnxruntime.InferenceSession(
        str(file),
        providers=["CPUExecutionProvider"],
    )

    def program(hidden: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        values = session.run(None, dict(zip(_INPUTS, (hidden, mask), strict=True)))
        return dict(zip(graph.outputs, map(np.asarray, values), strict=True))

    head = graph.head
    encoder = SentenceEncoder(head.model, None, head.run.model.layers)
    encoder.temperature = head.run.temperature
    return compare_on_states(program, encoder, graph.texts, _SHAPES)
